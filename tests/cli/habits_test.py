"""What is typed first and what llama.cpp's users type: words for help, its flags, repeated and misspelt options, numbers,
press parameters and figures and where they are told, and what happens when nothing is said of compression."""
import os
import re
import subprocess
import unittest

from harness import BUILD, Case, path, sample, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "4096"], check=True)
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 60)
SHORT = ("run", "-m", MODEL, "-t", "1", "-p", "The thing in the north is an ant.", "-q", "What?")
ASK = ("run", "-m", MODEL, "-t", "1", "-f", DOCUMENT, "-q", "What?", "--press", "none")
COMMANDS = ("run", "compress", "presses", "inspect", "perplexity", "eval", "analyze", "report", "bench")
COMPRESSING = ("run", "compress", "perplexity", "eval", "analyze", "bench")


class Words(Case):
    def test_help(self):
        whole = self.curdkv("help")[0]
        for command in COMMANDS:
            self.assertIn(command, whole)
            words = (("help", command), (command, "help"), (command, "-h"), (command, "--help"), ("-h", command),
                     (command, "--usage"), (command, "-?"))
            for asked in words if command == "eval" else sample(words, 4):
                self.assertIn("Usage: curdkv " + command, self.curdkv(*asked)[0])
        for words in (("--help",), ("-h",)):
            self.assertEqual(self.curdkv(*words)[0], whole)
        self.assertIn("Usage: curdkv eval merge", self.curdkv("help", "eval", "merge")[0])
        self.fails(2, "no command 'nosuch'", "help", "nosuch")

    def test_nothing_at_all(self):
        out, err = self.curdkv(code=2)
        self.assertEqual(out, "")
        for command in COMMANDS:
            self.assertIn(command, err)

    def test_version(self):
        for words in (("version",), ("--version",), ("-v",), ("-V",)):
            self.assertRegex(self.curdkv(*words)[0], r"^curdkv \d+\.\d+\.\d+")

    def test_nearly_right(self):
        for typed, meant in (("Run", "run"), ("INSPECT", "inspect"), ("perplexty", "perplexity"), ("analyse", "analyze"),
                             ("rnu", "run"), ("benchmark", "bench"), ("evaluate", "eval"), ("analysis", "analyze"),
                             ("pre", "presses"), ("in", "inspect")):
            for words in sample(((typed,), (typed, "--help"), ("help", typed)), 1 if typed == "Run" else 3):
                self.fails(2, f"there is no command '{typed}' (did you mean '{meant}'?)", *words)
        for typed in ("talk", "nosuch", "x", "r"):
            self.fails(2, f"there is no command '{typed}' ('curdkv help' lists them)", typed)
        self.fails(2, "curdkv eval has no command 'mrege' (did you mean 'merge'?)", "eval", "mrege")
        self.fails(2, "'nosuch' stands alone, and curdkv eval takes options only", "eval", "nosuch")
        self.assertNotIn("did you mean", self.curdkv(*ASK, "-o", "x", code=2)[1], "one letter is like nothing")
        self.fails(2, "did you mean '--compression-ratio'?", *ASK, "--compresion-ratio", "0.5")
        self.fails(2, "did you mean '--temp'?", *ASK, "--tmep", "1")
        self.fails(2, "no option '--nosuch'", *ASK, "--nosuch")
        self.fails(2, "'model.gguf' stands alone", "run", "model.gguf")
        self.fails(2, "'-m': options stand behind", "-m", MODEL, "-p", "x")

    def test_inspect_takes_the_model_alone(self):
        self.assertEqual(self.curdkv("inspect", MODEL)[0], self.curdkv("inspect", "-m", MODEL)[0])


class LlamaCpp(Case):
    def answer(self, *args):
        return self.json(*ASK, "--json", *args)["answers"][0]

    def test_as_many_tokens_as_there_is_room_for(self):
        for n in ("-1", "-2"):
            a = self.answer("-n", n, "-c", "1700")
            self.assertIn(a["stopped_by"], ("end", "context"))
        self.assertEqual(self.answer("-n", "0")["n_tokens"], 0)
        self.assertEqual(self.answer("--n-predict", "2")["n_tokens"], 2)

    def test_taken_in_silence(self):
        for args in (("-s", "1"), ("-fa", "on"), ("-fa", "auto"), ("-fa", "1"), ("-fa",), ("--flash-attn", "on"),
                     ("-c", "0"), ("-b", "2048"), ("-ub", "512"), ("--log-disable",), ("-v",), ("-co",), ("--no-warmup",),
                     ("-lv", "1"), ("--mmap",), ("--no-mmap",), ("--temperature", "0"), ("--top-k", "-1"), ("-ngl", "0"),
                     ("--repeat-penalty", "1.0"), ("--no-display-prompt",), ("-st",), ("--simple-io",), ("-np", "1")):
            _, err = self.curdkv(*ASK, "-n", "2", *args)
            self.assertNotIn("note", err, args)

    def test_taken_with_a_word(self):
        for args in (("-fa", "off"), ("-fa", "0"), ("-tb", "2"), ("--mlock",), ("-i",), ("-cnv",), ("--numa", "distribute"),
                     ("--keep", "5"), ("-lm", "mlock")):
            _, err = self.curdkv(*ASK, "-n", "2", *args)
            self.assertIn(f"note: {' '.join(args)} has no effect: ", err)

    def test_layers_on_a_gpu_that_is_not_there(self):
        if os.environ.get("CURDKV_GPU"):
            self.skipTest("there may be one")
        for n in ("99", "all", "auto", "-1"):
            self.assertIn("all layers stay on the CPU", self.curdkv(*ASK, "-n", "2", "-ngl", n)[1])
        self.fails(2, "'many' is not a whole number", *ASK, "-ngl", "many")

    def test_refused_by_the_name_typed(self):
        for args, mend in ((("-hf", "org/model"), "-m FILE"), (("-hf",), "-m FILE"), (("-mu", "http://x"), "-m FILE"),
                           (("--hf-repo", "x"), "-m FILE"), (("--hf-repo=x",), "-m FILE"), (("-r", "stop"), "-n tokens"),
                           (("--grammar", "x"), "grammar"), (("--lora", "x"), "merge"), (("--repeat-penalty", "1.3"), "--temp"),
                           (("-md", "x"), "speculative"), (("--host", "0.0.0.0"), "curdkv serve"), (("--mmproj", "x"), "text only")):
            self.fails(2, f"'{args[0].split('=')[0]}' is llama.cpp's option and cannot be honoured: ", *ASK, *args)
            self.fails(2, mend, *ASK, *args)
        self.fails(2, "no option '-hx'", *ASK, "-hx")
        self.fails(2, "no option '-fabc'", *ASK, "-fabc")
        self.fails(2, "'maybe' is none of on, off and auto", *ASK, "-fa", "maybe")

    def test_values_are_left_alone(self):
        for text in ("-hf", "-fa", "--help", "-1", "--"):
            self.assertEqual(self.json(*ASK, "-n", "1", "--json", "-q", text)["answers"][1]["question"], text)

    def test_cache_types(self):
        model = path("wide.gguf")
        subprocess.run([os.path.join(BUILD, "make_tiny_model"), model, "4096", "2", "32"], check=True)
        for name in "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1".split():
            out = self.json("run", "-m", model, "-f", DOCUMENT, "-q", "What?", "-n", "4", "-t", "1", "--json", "-ctk", name,
                            "-ctv", name, "--press", "mixkv", "--compression-ratio", "0.5")
            self.assertEqual(out["answers"][0]["n_tokens"], 4, name)
            self.assertLess(out["kv_bytes"], 0.51 * out["kv_bytes_full"])
        self.fails(2, "q5_k", *ASK, "-ctk", "q5_k")

    def test_escapes_where_they_are_asked_for(self):
        out = self.json(*ASK, "-n", "1", "--json", "-q", r"a\nb", "-e")
        self.assertEqual(out["answers"][1]["question"], "a\nb")
        out = self.json(*ASK, "-n", "1", "--json", "-q", r"a\nb", "-e", "--no-escape")
        self.assertEqual(out["answers"][1]["question"], r"a\nb")

    def test_a_seed_is_drawn(self):
        seeds = {self.json(*SHORT, "-n", "1", "--json", "-s", "-1")["seed"] for _ in range(3)}
        self.assertGreater(len(seeds), 1)


class Repeated(Case):
    def test_the_last_one_wins(self):
        out = self.json(*ASK, "--json", "-n", "5", "-n", "3", "-m", path("missing.gguf"), "-m", MODEL, "-t", "9", "-t", "1",
                        "--seed", "1", "-s", "2", "--press", "knorm", "--press", "curdkv", "--compression-ratio", "0.1",
                        "--compression-ratio", "0.5", "--temp", "5", "--temp", "0", "-c", "1", "-c", "4000", "--json")
        self.assertEqual((out["answers"][0]["n_tokens"], out["seed"], out["press"]), (3, 2, "curdkv"))
        self.assertEqual(out["compression_ratio"], 0.5)


class Numbers(Case):
    def test_whole_numbers_are_decimal_and_within_bounds(self):
        for name in ("-n", "-t", "-c", "-b", "--seed", "--budget", "--protect-last", "--decode-budget", "--decode-interval",
                     "--top-k"):
            values = (("1e9", "is not a whole number"), ("0x10", "is not a whole number"), ("", "is not a whole number"),
                      ("99999999999999999999", "too large"), ("3.5", "is not a whole number"), ("-99999999999999999999", ""))
            for value, words in sample(values, 1 if name == "-n" else 3):
                self.fails(2, words, *SHORT, name, value)
            if name != "--seed":
                for value in sample(("9223372036854775807", "9223372036854775000", "9223372036854775808"),
                                    1 if name == "-n" else 3):
                    self.fails(2, "too large: it must be at most", *SHORT, name, value)
        for name in ("--temp", "--top-p", "--min-p", "--compression-ratio"):
            for value in sample(("nan", "inf", "", "0x1", "half", "1e999"), 1 if name == "--temp" else 3):
                self.fails(2, name, *SHORT, name, value)
        self.assertEqual(self.json(*ASK, "--json", "-n", "010")["answers"][0]["n_tokens"], 10, "not octal")

    def test_press_parameters(self):
        for value in ("9223372036854775807", "1e30", "nan", "", "-1"):
            self.fails(2, "sinks", *ASK[:-2], "--press", "curdkv", "--sinks", value)


ROWS = ("keys", "values", "key_error", "ratio_of")  # how any press holds what it keeps


class PressParameters(Case):
    def told(self, name):
        return self.json("presses", name, "--json")

    def test_no_help_lists_them(self):
        options = {q["option"] for p in self.json("presses", "--json") for q in p["params"] if "option" in q}
        self.assertLessEqual({"--sinks", "--window", "--alpha", "--chunk_length"}, options)
        for command in COMMANDS:
            text = self.curdkv(command, "--help")[0]
            self.assertEqual(options & set(re.findall(r"--[\w-]+", text)), set(), command)
            self.assertEqual(sum("'curdkv presses NAME'" in line for line in text.split("\n")), command in COMPRESSING)
        self.assertIn("'curdkv presses NAME'", self.curdkv("presses")[0])

    def test_every_command_that_compresses_takes_them(self):
        more = {"run": ("-p", "x", "-q", "y"), "perplexity": ("-p", "x"), "eval": ("--task", "vt", "-o", path("x.jsonl")),
                "analyze": ("-p", "x", "-o", path("x.json")), "bench": (), "compress": ("-p", "x", "-o", path("x.kvc"))}
        for command in COMPRESSING:
            args = (command, "-m", path("missing.gguf"), *more[command], "--press", "adacurdkv")
            self.fails(1, "missing.gguf: cannot be opened", *args, "--sinks", "3", "--window=7", "--alpha", "0.5")
            self.fails(2, "'many' is not a number", *args, "--sinks", "many")
            self.fails(2, "has no parameter 'lag'", *args, "--lag", "3")

    def test_each_press_tells_its_own(self):
        listed = {}
        for press in self.json("presses", "--json"):
            listed.setdefault(press["name"], press)  # not a scorer whose name a preset has
        for name, press in sample(listed.items(), 4):
            self.assertEqual(self.told(name), press)
            text = self.curdkv("presses", name)[0]
            for q in press["params"]:
                kind = {"int": "{min:.0f} to {max:.0f}; ", "real": "{min:.15g} to {max:.15g}; ", "bool": "true or false; ",
                        "scorer": "a scorer; ", "file": "a file; "}
                values = kind[q["kind"]].format(**q) if q["kind"] in kind else " or " + q["choices"][-1] + "; "
                self.assertEqual(q.get("option"), None if "." in q["name"] else "--" + q["name"])
                self.assertRegex(text, rf"(?m)^  {q.get('option', q['name'])} +{re.escape(q['help'])}\n"
                                 rf" +.*{re.escape(values)}default: {re.escape(q['default'] or 'none')}$")
            self.assertEqual("no parameters" in text, not press["params"])
        names = lambda name: [q["name"] for q in self.told(name)["params"]]
        self.assertEqual((names("snapkv"), names("adasnapkv")),
                         (["window", "kernel", *ROWS], ["window", "kernel", "alpha", *ROWS]))
        self.assertEqual((names("adaptive"), names("tova"), names("none")), (["alpha"], [*ROWS], [*ROWS[:3]]))
        default = lambda name: next(q["default"] for q in self.told(name)["params"] if q["name"] == "sinks")
        self.assertEqual((default("curdkv"), default("compactor")), ("4", "8"))

    def test_pairs_and_scorers_within(self):
        pair = self.told("lagkv+adaptive")
        self.assertEqual([q["name"] for q in pair["params"]], ["lag", "sinks", "cross", "alpha", *ROWS])
        self.assertEqual((pair["scorer"], pair["allocation"]), ("lagkv", "adaptive"))
        within = {q["name"]: q for q in self.told("mixkv:first=lagkv")["params"]}
        self.assertIn("first.lag", within)
        self.assertNotIn("first.ridge", within)
        self.assertNotIn("option", within["first.lag"])
        self.assertIn("\n  first.ridge ", self.curdkv("presses", "mixkv")[0])

    def test_ranges_are_those_that_hold(self):
        ranges = [(press["name"], q) for press in self.json("presses", "--json") for q in press["params"]
                  if press["kind"] == "preset" and "min" in q]
        for press, q in sample(ranges, 5):
            for value in (q["min"] - 1, q["max"] * 2):
                self.fails(2, "must be between", "presses", f"{press}:{q['name']}={value:.0f}")
            self.curdkv("presses", f"{press}:{q['name']}={q['max']:.15g}")

    def test_unknown_presses(self):
        for typed, meant in (("snpkv", "snapkv"), ("AdaCurDKV", "adacurdkv"), ("streaming", "streamingllm"),
                             ("adaptiv", "adaptive"), ("snapkv+adaptve", "snapkv+adaptive"), ("h20:x=1", "h2o")):
            for args in ((), ("--json",)):
                self.fails(2, f"there is no press '{typed.split(':')[0]}' (did you mean '{meant}'?", "presses", typed, *args)
        self.fails(2, "no press 'nosuch' (there are: none, curdkv,", "presses", "nosuch")
        self.fails(2, "no press ''", "presses", "")
        self.fails(2, "no parameter 'sinkz'", "presses", "curdkv:sinkz=1")
        self.fails(2, "no scorer 'lagk' for first (did you mean 'lagkv'?)", "presses", "mixkv:first=lagk")
        self.fails(2, "not expected: tova", "presses", "snapkv", "tova")
        self.fails(2, "did you mean 'snapkv'?", *ASK[:-2], "--press", "snpkv")
        self.fails(2, "did you mean 'cur+uniform'?", *ASK[:-2], "--press", "cur")


class Figures(Case):
    def test_offered_are_those_that_can_be_made(self):
        text = self.curdkv("analyze", "--help")[0]
        self.assertNotIn("runtime", text)
        listed = text[text.index("come from one reading:"):text.index("--sampled-layers")]
        offered = re.findall(r"(?m)^ +([\w-]+): .*?( \(not with --press none\))?$", listed)
        self.assertEqual({name for name, needs_press in offered if needs_press}, {"document", "heads", "reconstruction"})
        self.assertEqual({name for name, needs_press in offered if not needs_press}, {"attention-vs-loss"})
        args = ("analyze", "-m", MODEL, "-t", "1", "-p", "The thing in the north is an ant.", "-o", "-", "--figure")
        for name, needs_press in offered:
            self.assertEqual(self.json(*args, name)["figure"], name)
            if needs_press:
                self.fails(2, f"figure '{name}' needs a press that evicts", *args, name, "--press", "none")
            else:
                self.assertEqual(self.json(*args, name, "--press", "none")["figure"], name)

    def test_others_are_not_offered(self):
        args = ("analyze", "-m", MODEL, "-p", "text", "-o", path("x.json"), "--figure")
        there_are = "there are: document, attention-vs-loss, reconstruction, heads)"
        self.fails(2, "there is no figure 'nosuch' (" + there_are, *args, "nosuch")
        self.fails(2, "there is no figure 'docment' (did you mean 'document'? " + there_are, *args, "heads,docment")
        for name, command in (("ablation", "eval --press ablation"), ("runtime", "bench")):
            self.fails(2, f"figure '{name}' is not made here: 'curdkv report' draws it from what 'curdkv {command}'",
                       *args, name)
        self.assertFalse(os.path.exists(path("x.json")))


class NearTheLimit(Case):
    def test_answers_with_what_room_there_is(self):
        n = self.json(*ASK, "-n", "1", "--json")["n_context_tokens"]
        for n_predict in ("256", "-1", "1000000"):
            # 40 tokens for question and answer.
            done = self.json(*ASK, "-n", n_predict, "--json", "-c", str(n + 40))
            a = done["answers"][0]
            self.assertEqual(a["stopped_by"], "end" if a["ended"] else "context")
            self.assertLess(a["n_tokens"], 41)
        _, err = self.curdkv(*ASK, "-c", str(n + 40))
        self.assertRegex(err, r"note: there is room for \d+ tokens of an answer, not for 256")
        self.fails(1, "the document is too long", *ASK, "-c", str(n + 1))


class NothingSaid(Case):
    def test_drafts_change_no_answer(self):
        sides = [self.json(*ASK, "-n", "60", "--json", "--draft", name)["answers"][0] for name in ("none", "lookup")]
        self.assertEqual(sides[0]["answer"], sides[1]["answer"])
        self.assertEqual(sides[0]["n_drafted"], 0)
        self.assertGreaterEqual(sides[1]["n_drafted"], sides[1]["n_accepted"])
        self.fails(2, "none", *ASK, "--draft", "model")

    def test_no_more_threads_than_processors(self):
        one = {"preexec_fn": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})}
        alone, quiet = self.curdkv(*SHORT, "-n", "4", **one)
        out, err = self.curdkv(*SHORT, "-n", "4", "-t", "4", **one)
        self.assertEqual(out, alone)
        self.assertIn("warning: -t 4 is more than the processors there are (1 of ", err)
        self.assertIn("computing with 1\n", err)
        self.assertNotIn("warning", quiet)

    def test_short_documents_are_kept_whole(self):
        out, err = self.curdkv(*SHORT, "-n", "4", "--json")
        self.assertIn("kept whole", err)
        self.assertEqual(err.count("\n"), 2, "one line, and one of the reading")
        short = self.json(*SHORT, "-n", "4", "--json")
        self.assertEqual((short["press"], short["compression_ratio"]), ("none", 0))
        for asked in (("--press", "mixkv"), ("--compression-ratio", "0.5"), ("--budget", "20"), ("--protect-last", "3"),
                      ("--sinks", "2", "--press", "curdkv"), ("--query-aware",), ("--compare-full",)):
            self.assertNotEqual(self.json(*SHORT, "-n", "1", "--json", *asked)["press"], "none", asked)

    def test_others_as_is_recommended(self):
        ask = ("run", "-m", MODEL, "-t", "1", "-f", DOCUMENT, "-q", "What?", "-n", "1", "--json")
        out = self.json(*ask)
        self.assertGreaterEqual(out["n_context_tokens"], 1024)
        self.assertEqual((out["press"], out["compression_ratio"]), ("recommended", 0.8))
        self.assertLessEqual(out["kv_bytes"], 0.2 * out["kv_bytes_full"])
        self.assertEqual(self.json(*ask, "--byte-ratio", "0.9")["press"], "recommended")
        packed = self.json(*ask, "-ctk", "q4")
        self.assertEqual((packed["press"], packed["press_params"]["keys"]), ("recommended", "q4"))
        # Where rows cannot be packed, or tokens are counted: the best press that takes it.
        for asked in (("-ctk", "f32"), ("-ctv", "bf16"), ("--budget", "300")):
            out = self.json(*ask, *asked)
            self.assertEqual(out["press"], "mixkv", asked)
        self.assertEqual(self.json(*ask, "-ctk", "f32")["compression_ratio"], 0.5)
        self.assertEqual(self.json(*ask, "-ctk", "f32", "--compression-ratio", "0.7")["compression_ratio"], 0.7)

    def test_a_bound_alone(self):
        out = self.json(*SHORT, "-n", "1", "--json", "--decode-budget", "50")
        self.assertEqual(out["press"], "ridgekv")


if __name__ == "__main__":
    unittest.main()
