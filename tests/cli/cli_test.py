"""curdkv on the command line, with a tiny model: usage, bad input, output formats."""
import os
import re
import signal
import struct
import subprocess
import time
import unittest

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL], check=True)
LONG_MODEL = path("long.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), LONG_MODEL, "1000000"], check=True)
SLOW_BUILD = os.environ.get("CURDKV_SLOW_BUILD") == "1"  # sanitizers: the second is the product's bar
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 40)
ASK = ("run", "-m", MODEL, "-t", "2", "-n", "8", "-q", "What?")


class Usage(Case):
    def test_help(self):
        for command in ("run", "compress", "presses", "inspect", "perplexity"):
            out, _ = self.curdkv(command, "--help")
            self.assertIn("Usage: curdkv " + command, out)
        out, _ = self.curdkv("run", "--help")
        for flag in ("--model", "--file", "--question", "--press", "--compression-ratio", "--budget",
                     "--protect-last", "--threads", "--ctx-size", "--cache-type-k", "--temp", "--json"):
            self.assertIn(flag, out)

    def test_wrong_usage(self):
        self.fails(2, "--nosuch", "run", "--nosuch", "-q", "x")
        self.fails(2, "--question is required", "run", "-f", DOCUMENT)
        self.fails(2, "no document", *ASK)
        self.fails(2, "[0, 1)", *ASK, "-f", DOCUMENT, "--compression-ratio", "-0.1")
        self.fails(2, "[0, 1)", *ASK, "-f", DOCUMENT, "--compression-ratio", "1")
        self.fails(2, "[0, 1)", *ASK, "-f", DOCUMENT, "--compression-ratio", "nan")
        self.fails(2, "--compression-ratio", *ASK, "-f", DOCUMENT, "--compression-ratio", "half")
        self.fails(2, "at least 1", *ASK, "-f", DOCUMENT, "--budget", "0")
        self.fails(2, "excludes", *ASK, "-f", DOCUMENT, "--budget", "10", "--compression-ratio", "0.5")
        self.fails(2, "no press 'nosuch'", *ASK, "-f", DOCUMENT, "--press", "nosuch")
        self.fails(2, "no parameter 'alpha'", *ASK, "-f", DOCUMENT, "--press", "curdkv", "--alpha", "0.1")
        self.fails(2, "no scorer 'nosuch'", *ASK, "-f", DOCUMENT, "--press", "mix+uniform:first=nosuch")
        self.fails(2, "'mixkv' cannot bound", *ASK, "-f", DOCUMENT, "--press", "mixkv", "--decode-budget", "50")
        self.fails(2, "'none' cannot bound", *ASK, "-f", DOCUMENT, "--press", "none", "--decode-budget", "50")
        self.fails(2, "filled by the 4 sinks", *ASK, "-f", DOCUMENT, "--decode-budget", "4")
        self.fails(2, "at least 0", *ASK, "-f", DOCUMENT, "--decode-budget", "-4")
        self.fails(2, "--decode-interval", *ASK, "-f", DOCUMENT, "--decode-budget", "50", "--decode-interval", "0")
        self.fails(2, "--protect-last", *ASK, "-f", DOCUMENT, "--protect-last", "-1")
        self.fails(2, "--threads", *ASK, "-f", DOCUMENT, "-t", "0")
        self.fails(2, "--cache-type-k", *ASK, "-f", DOCUMENT, "-ctk", "q6")
        self.fails(2, "temperature", *ASK, "-f", DOCUMENT, "--temp", "-1")
        self.fails(2, "multiples of 32", *ASK, "-f", DOCUMENT, "-ctk", "q8_0")


class BadInput(Case):
    def test_documents(self):
        self.fails(1, "No such file", *ASK, "-f", path("missing.txt"))
        self.fails(1, "is empty", *ASK, "-f", write("empty.txt", ""))
        self.fails(1, "nothing but white space", *ASK, "-f", write("blank.txt", " \n\n"))
        self.fails(1, "binary file", *ASK, "-f", write("binary.txt", b"a\0b"))
        self.fails(1, "byte 3 is malformed", *ASK, "-f", write("latin1.txt", b"caf\xe9 au lait"))
        self.fails(1, "byte 2 is malformed", *ASK, "-p", b"ab\xff")
        self.fails(1, "Is a directory", *ASK, "-f", path(""))
        self.fails(1, "the document is too long", *ASK, "-f", write("long.txt", "word " * 3000))
        self.fails(1, "raise -c to", *ASK, "-f", DOCUMENT, "-c", "100")
        self.fails(1, "beyond the 4096 tokens", *ASK, "-f", path("long.txt"))
        self.fails(1, "beyond the 4096 tokens", *ASK, "-f", path("long.txt"), "-c", "4200")
        self.fails(1, "raise -c", "perplexity", "-m", MODEL, "-f", DOCUMENT, "-c", "100")
        self.fails(2, "name is empty", *ASK, "-f", DOCUMENT, "-m", "")

    def test_models(self):
        self.fails(1, "No such file", "run", "-m", path("missing.gguf"), "-p", "text", "-q", "x")
        self.fails(1, "is a directory", "run", "-m", path(""), "-p", "text", "-q", "x")
        self.fails(1, "not a GGUF file", "run", "-m", DOCUMENT, "-p", "text", "-q", "x")
        self.fails(1, "default one is not at", "run", "-p", "text", "-q", "x", env={"CURDKV_CACHE": path("nowhere")})

    def test_closed_pipe(self):
        for args in ((*ASK, "-f", DOCUMENT, "--json"), (*ASK, "-f", DOCUMENT), ("presses",), ("inspect", "-m", MODEL)):
            read_end, write_end = os.pipe()
            os.close(read_end)
            done = subprocess.run([CURDKV, *args], stdout=write_end, stderr=subprocess.PIPE, text=True)
            os.close(write_end)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("cannot write to standard output: Broken pipe", done.stderr)

    def test_full_disk(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([CURDKV, *ASK, "-f", DOCUMENT, "--json"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("No space left", done.stderr)

    def test_interrupt(self):
        document = write("endless.txt", "The thing in the north is an ant. " * 6000)
        for number in (signal.SIGINT, signal.SIGTERM):
            run = subprocess.Popen([CURDKV, "run", "-m", LONG_MODEL, "-f", document, "-q", "x", "-t", "2"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(1.5)
            self.assertIsNone(run.poll(), "it must still be reading")
            run.send_signal(number)
            start = time.time()
            out, err = run.communicate(timeout=30)
            self.assertLess(time.time() - start, 5.0 if SLOW_BUILD else 1.0)
            self.assertEqual(run.returncode, 130, err)
            self.assertEqual(out, "")
            self.assertIn("interrupted", err)


class Run(Case):
    def test_short_contexts(self):
        for text in ("a", "abc", "abcde"):
            out = self.json(*ASK, "-p", text, "--raw", "--json", "--compression-ratio", "0.9")
            self.assertEqual(out["n_context_tokens"], len(text))
            self.assertEqual(out["n_kept"], [[min(len(text), 5)] * 2] * 2)

    def test_json(self):
        out = self.json(*ASK, "-q", "And?", "-f", DOCUMENT, "--press", "adacurdkv", "--compression-ratio", "0.75",
                        "--sinks", "2", "--seed", "7", "--compare-full", "--json")
        self.assertEqual(out["model"], MODEL)
        self.assertEqual(out["architecture"], "llama")
        self.assertEqual(out["press"], "adacurdkv")
        self.assertEqual(out["press_params"]["sinks"], "2")
        self.assertEqual(out["compression_ratio"], 0.75)
        self.assertEqual(out["seed"], 7)
        self.assertEqual(out["threads"], 2)
        n = out["n_context_tokens"]
        kept = [sum(layer) for layer in out["n_kept"]]
        self.assertEqual(kept, [2 * int(n * 0.25)] * 2, "two KV heads in each of two layers")
        self.assertEqual(out["kv_bytes_full"], n * 2 * 2 * 2 * 16 * 2)
        self.assertLessEqual(out["kv_bytes"], 0.26 * out["kv_bytes_full"])
        for key in ("kv_bytes_peak", "rss_peak_bytes", "prefill_ms", "compress_ms"):
            self.assertGreater(out[key], 0)
        self.assertEqual([a["question"] for a in out["answers"]], ["What?", "And?"])
        for a in out["answers"]:
            self.assertLessEqual(a["n_tokens"], 8)
            self.assertGreaterEqual(a["decode_ms_per_token"], 0)
            self.assertEqual(set(a["full"]), {"answer", "n_tokens", "ended", "stopped_by", "question_ms", "decode_ms_per_token",
                                               "n_drafted", "n_accepted"})

    def test_same_answer_each_time_and_alone(self):
        args = ("-f", DOCUMENT, "--json", "--compression-ratio", "0.5")
        both = self.json(*ASK, "-q", "And?", *args)["answers"]
        self.assertEqual(self.json(*ASK, *args)["answers"][0]["answer"], both[0]["answer"])
        alone = self.json("run", "-m", MODEL, "-n", "8", "-q", "And?", *args, "-t", "1", "-b", "64")
        self.assertEqual(alone["answers"][0]["answer"], both[1]["answer"], "not touched by threads, chunks or other questions")
        sampled = [self.json(*ASK, *args, "--temp", "1", "--seed", s)["answers"][0]["answer"] for s in ("1", "1", "2")]
        self.assertEqual(sampled[0], sampled[1])
        self.assertNotEqual(sampled[0], sampled[2])

    def test_text_goes_to_stdout_and_the_rest_to_stderr(self):
        out, err = self.curdkv(*ASK, "-f", DOCUMENT, "--press", "none")
        answer = self.json(*ASK, "-f", DOCUMENT, "--press", "none", "--json")["answers"][0]["answer"]
        self.assertEqual(out, answer + "\n")
        self.assertIn("KV cache", err)
        self.assertNotIn("\033", err, "no progress bar when stderr is no terminal")

    def test_documents_join_in_order(self):
        whole = self.json(*ASK, "-p", "one\ntwo\nthree", "--json")
        parts = self.json(*ASK, "-p", "one", "-f", write("two.txt", "two\n"), "-p", "three", "--json")
        self.assertEqual(parts["n_context_tokens"], whole["n_context_tokens"])
        self.assertEqual(parts["answers"][0]["answer"], whole["answers"][0]["answer"])
        piped = self.json(*ASK, "-f", "-", "--json", input="one\ntwo\nthree")
        self.assertEqual(piped["n_context_tokens"], whole["n_context_tokens"])

    def test_side_by_side(self):
        out, _ = self.curdkv(*ASK, "-f", DOCUMENT, "--compare-full", "--press", "curdkv", "--budget", "30")
        self.assertRegex(out, r"> What\?\nfull cache +.*\ncurdkv budget 30 +")
        self.assertRegex(out, r"KV cache +peak +prefill +decode")

    def test_budget(self):
        out = self.json(*ASK, "-f", DOCUMENT, "--press", "curdkv", "--budget", "100", "--json")
        self.assertEqual(out["n_kept"], [[100, 100]] * 2)
        self.assertEqual(out["budget"], 100)
        self.assertAlmostEqual(out["compression_ratio"], 1 - 100 / out["n_context_tokens"])

    def test_parameters_by_flag_and_by_name_are_one(self):
        a = self.json(*ASK, "-f", DOCUMENT, "--json", "--press", "curdkv", "--projection", "true", "--local", "false")
        b = self.json(*ASK, "-f", DOCUMENT, "--json", "--press", "curdkv:projection=true:local=false")
        self.assertEqual(a["press_params"], b["press_params"])
        self.assertEqual(a["answers"][0]["answer"], b["answers"][0]["answer"])


class Others(Case):
    def test_presses(self):
        listed = {p["name"]: p for p in self.json("presses", "--json")}
        field = ("none curdkv adacurdkv chunkcurdkv leverage adaleverage ridgekv adaridgekv mixkv snapkv adasnapkv chunkkv "
                 "pyramidkv streamingllm knorm h2o scissorshands tova dropkv keydiff lagkv expectedattention compactor capkv "
                 "kvzip kvzipplus random cur criticalkv mix uniform adaptive chunk pyramid")
        self.assertLessEqual(set(field.split()), set(listed))
        ridge = next(q for q in listed["ridgekv"]["params"] if q["name"] == "ridge")
        self.assertEqual(ridge["default"], "10")
        self.assertIn("alpha", [q["name"] for q in listed["adacurdkv"]["params"]])
        text, _ = self.curdkv("presses")
        for name in listed:
            self.assertRegex(text, rf"(?m)^  {re.escape(name)} ")

    def test_inspect(self):
        out = self.json("inspect", "-m", MODEL, "--json")
        self.assertTrue(out["supported"])
        self.assertEqual((out["n_head"], out["n_head_kv"], out["d_head_k"]), (4, 2, 16))
        self.assertEqual(out["kv_bytes_per_token"], 2 * 2 * 32 * 2)
        text = self.curdkv("inspect", "-m", MODEL)[0]
        self.assertIn("llama (supported)", text)
        (matrices,) = out["matrices"]
        self.assertEqual((matrices["type"], matrices["own_products"]), ("f32", False))
        self.assertLess(out["weights_bytes"] * 0.9, matrices["bytes"])
        self.assertLess(matrices["bytes"], out["weights_bytes"])  # norms
        self.assertRegex(text, r"(?m)^matrices +f32 .*; by ggml's products: f32$")
        bad = self.json("inspect", "-m", DOCUMENT, "--json", code=1)
        self.assertFalse(bad["supported"])
        self.assertIn("not a GGUF", bad["reason"])

    def test_perplexity(self):
        args = ("perplexity", "-m", MODEL, "-f", DOCUMENT, "--json", "-n", "100")
        full = self.json(*args, "--press", "none")
        self.assertEqual(full["kl_divergence"], 0)
        self.assertEqual(full["top1_agreement"], 1)
        self.assertEqual(full["perplexity"], full["perplexity_full"])
        self.assertEqual(full["n_predicted_tokens"], 100)
        cut = self.json(*args, "--press", "curdkv", "--compression-ratio", "0.9")
        self.assertGreater(cut["kl_divergence"], 0)
        self.assertEqual(cut["perplexity_full"], full["perplexity"])
        self.assertLess(cut["kv_bytes"], 0.11 * cut["kv_bytes_full"])
        table = self.json(*args, "--press", "curdkv,h2o", "--press", "kvzip", "--compression-ratio", "0.5,0.9")
        self.assertEqual([(r["press"], r["compression_ratio"]) for r in table],
                         [(p, r) for p in ("curdkv", "h2o", "kvzip") for r in (0.5, 0.9)])
        self.assertEqual(table[1], cut, "one reading for all changes nothing")
        self.assertIn("KL: mean divergence", self.curdkv("perplexity", "-m", MODEL, "-f", DOCUMENT, "-n", "20")[0])
        self.fails(1, "too few", "perplexity", "-m", MODEL, "-p", "a")
        self.fails(1, "--context-tokens", "perplexity", "-m", MODEL, "-f", write("long.txt", "word " * 3000))


class Damaged(Case):
    def test_what_is_no_number_is_said_before_anything_else(self):
        damaged = path("damaged.gguf")
        with open(MODEL, "rb") as file:
            data = file.read()
        write("damaged.gguf", data[:-256] + struct.pack("<64f", *[float("nan")] * 64))
        for command in (("run", "-p", "the king", "-q", "who"), ("perplexity", "-f", DOCUMENT),
                        ("bench", "-d", "64", "-r", "1"), ("analyze", "-f", DOCUMENT, "-o", "-"),
                        ("eval", "--task", "niah_single_1", "--samples", "1", "--context-tokens", "700", "-o",
                         path("damaged.jsonl"))):
            self.fails(1, "not numbers", command[0], "-m", damaged, *command[1:])


class Compression(Case):
    def run_json(self, *args):
        return self.json("run", "-m", MODEL, "-t", "2", "-f", DOCUMENT, "--raw", "--json", *args)

    def test_every_press_answers(self):
        for press in self.json("presses", "--json"):
            if press["kind"] == "preset" and press["name"] != "none":
                out = self.run_json("-q", "What?", "-n", "2", "--press", press["name"], "--compression-ratio", "0.7")
                n = out["n_context_tokens"]
                held = sum(map(sum, out["n_kept"])) / sum(map(len, out["n_kept"]))
                if press["name"] == "recommended":  # whose ratio is of bytes
                    self.assertLess(out["kv_bytes"] / out["kv_bytes_full"], 0.3)
                    self.assertGreater(held, 0.6 * n)
                else:
                    self.assertLess(abs(held - 0.3 * n), 42, press["name"])

    def test_query_aware_reads_anew(self):
        ask = ("-q", "What is in the north?", "-q", "Who?", "-n", "2", "--press", "snapkv", "--window", "8")
        aware, plain = self.run_json(*ask, "--query-aware"), self.run_json(*ask)
        self.assertTrue(aware["query_aware"])
        self.assertGreater(aware["n_context_tokens"], plain["n_context_tokens"])  # the question is with it
        self.assertEqual(len(aware["answers"]), 2)

    def test_protect_last(self):
        out = self.run_json("-q", "What?", "-n", "2", "--press", "random", "--budget", "60", "--protect-last", "50")
        self.assertEqual(out["protect_last"], 50)
        self.assertEqual(set(sum(out["n_kept"], [])), {60})

    def test_decode_budget(self):
        bound = ("-q", "What?", "-q", "Who?", "-n", "60", "--decode-budget", "40", "--decode-interval", "10")
        out = self.run_json(*bound, "--press", "curdkv")
        self.assertEqual((out["decode_budget"], out["decode_interval"]), (40, 10))
        self.assertEqual(len(out["answers"]), 2)
        again = self.run_json(*bound[2:], "--press", "curdkv")  # the second question alone
        self.assertEqual(out["answers"][1]["answer"], again["answers"][0]["answer"], "the first took nothing from it")

    def test_streaming_goes_on_past_the_context(self):
        n = self.run_json("-q", "What?", "-n", "1")["n_context_tokens"]
        more = ("-q", "What?", "-n", "400", "-c", str(n + 200), "--press", "streamingllm")
        self.run_json(*more, "--decode-budget", "60", "--decode-interval", "20")
        whole = self.run_json(*more)["answers"][0]
        self.assertEqual((whole["ended"], whole["stopped_by"]), (False, "context"))


if __name__ == "__main__":
    unittest.main()
