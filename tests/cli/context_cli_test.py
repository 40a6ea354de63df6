"""curdkv compress, run --context and inspect: the same answers, refusals by name, and saving that is whole or not at all."""
import hashlib
import os
import random
import resource
import signal
import stat
import subprocess
import time
import unittest

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
OTHER = path("other.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000", "2", "32"], check=True)
subprocess.run([os.path.join(BUILD, "make_tiny_model"), OTHER, "100000", "3", "32"], check=True)
TEXT = "The thing in the north is an ant. " * 60
DOCUMENT = write("document.txt", TEXT)
CONTEXT = path("saved.kvc")
PRESS = ("--press", "adacurdkv", "--compression-ratio", "0.6")
COMPRESS = ("compress", "-m", MODEL, "-t", "1", "-f", DOCUMENT, *PRESS)
ASK = ("run", "-m", MODEL, "-t", "1", "-n", "12", "-q", "What is an ant?", "-q", "Why?")
# So that saving takes a while: a cache of 30 MB.
LARGE = path("large.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), LARGE, "100000", "8", "256", "64", "4", "4", "64"], check=True)
SAVE_MUCH = ("compress", "-m", LARGE, "-t", "1", "--press", "none", "-f", write("long.txt", TEXT[:1000]))


def content(name):
    with open(name, "rb") as file:
        return file.read()


def answers(result):
    return [a["answer"] for a in result["answers"]]


class Contexts(Case):
    def setUp(self):
        self.curdkv(*COMPRESS, "-o", CONTEXT)

    def test_answers_as_if_the_document_were_read(self):
        for more in ((), ("-ctk", "q8_0", "-ctv", "q4_0"), ("--raw",), ("-ctk", "q4", "-ctv", "q4")):
            held = () if "q4" in more else more
            self.curdkv(*COMPRESS, *more, "-o", CONTEXT)
            raw = more if "--raw" in more else ()
            read = self.json(*ASK, "-f", DOCUMENT, *PRESS, *more, "--json")
            saved = self.json(*ASK, "--context", CONTEXT, *raw, "--json")
            self.assertEqual(answers(saved), answers(read))
            for key in ("n_kept", "n_context_tokens", "press", "press_params", "compression_ratio", "kv_bytes_full"):
                self.assertEqual(saved[key], read[key], key)
            self.assertEqual(answers(self.json(*ASK, "--context", CONTEXT, *raw, "--no-mmap", "--json")), answers(read))
            self.assertEqual(answers(self.json(*ASK, "--context", CONTEXT, *raw, *held, "--json")), answers(read))
        out, err = self.curdkv(*ASK, "--context", CONTEXT, *raw)
        self.assertRegex(err, r"saved.kvc: restored \d+ tokens in \d+\.\d ms")
        self.assertNotIn("tokens read", err)

    def test_an_empty_question_of_a_raw_context(self):
        self.curdkv(*COMPRESS, "--raw", "-o", CONTEXT)
        ask = ("run", "-m", MODEL, "-t", "1", "-n", "5", "--raw", "-q", "", "--json")
        self.assertEqual(answers(self.json(*ask, "--context", CONTEXT)), answers(self.json(*ask, "-f", DOCUMENT, *PRESS)))

    def test_several_documents_and_budgets(self):
        second = write("second.txt", TEXT[::-1])
        self.curdkv(*COMPRESS[:-4], "-f", second, "--budget", "70", "-o", CONTEXT)
        told = self.json("inspect", CONTEXT, "--json")
        self.assertEqual([d["name"] for d in told["documents"]], [DOCUMENT, second])
        self.assertEqual(told["documents"][0], {"name": DOCUMENT, "bytes": len(TEXT),
                                                "sha256": hashlib.sha256(TEXT.encode()).hexdigest()})
        self.assertEqual(told["budget"], 70)
        self.curdkv(*COMPRESS[:-4], "--press", "recommended", "--budget-bytes", "60000", "-o", CONTEXT)
        told = self.json("inspect", CONTEXT, "--json")
        self.assertEqual(told["budget_bytes"], 60000)
        self.assertLessEqual(told["kv_bytes"], 61000)
        self.assertIn("recommended budget 60000 bytes", self.curdkv("inspect", CONTEXT)[0])

    def test_inspect_tells_the_types_of_rows(self):
        for press, ratio in ((("--press", "none:keys=q5:values=q3"), "0"), (("--press", "recommended"), "0.8")):
            self.curdkv(*COMPRESS[:-4], *press, "--compression-ratio", ratio, "-o", CONTEXT)
            told = self.json("inspect", CONTEXT, "--json")
            n = sum(sum(layer) for layer in told["n_kept"])
            self.assertEqual((sum(told["rows_k"].values()), sum(told["rows_v"].values())), (n, n))
            if ratio == "0":
                self.assertEqual((told["rows_k"], told["rows_v"]), ({"q5": n}, {"q3": n}))
                self.assertIn("rows          keys q5; values q3\n", self.curdkv("inspect", CONTEXT)[0])
            else:
                text = self.curdkv("inspect", CONTEXT)[0]
                for name, rows in (("keys", told["rows_k"]), ("values", told["rows_v"])):
                    self.assertTrue(rows.keys() <= {"f16", "q8", "q5", "q4", "q3"})
                    shares = ", ".join(f"{t} {100 * m / n:.1f} %" for t, m in rows.items())
                    self.assertIn(name + " " + (shares if len(rows) > 1 else next(iter(rows))), text)

    def test_a_short_document_is_kept_whole_unless_asked(self):
        said = self.curdkv("compress", "-m", MODEL, "-p", "An ant.", "-o", CONTEXT)[1]
        self.assertIn("too few to be worth compressing", said)
        self.assertEqual(self.json("inspect", CONTEXT, "--json")["press"], "none")

    def test_decode_budget(self):
        bound = ("--decode-budget", "40", "--decode-interval", "4")
        read = self.json(*ASK, "-f", DOCUMENT, "--press", "ridgekv", "--compression-ratio", "0.6", *bound, "--json")
        self.curdkv(*COMPRESS[:-4], "--press", "ridgekv", "--compression-ratio", "0.6", "-o", CONTEXT)
        self.assertEqual(answers(self.json(*ASK, "--context", CONTEXT, *bound, "--json")), answers(read))
        self.fails(2, "needs a press that looks at keys and values alone", *ASK, "--context", CONTEXT, *bound,
                   "--press", "snapkv")

    def test_inspect(self):
        out = self.curdkv("inspect", CONTEXT)[0]
        for words in ("format 2", "document.txt", "adacurdkv 0.60", "keys f16; values f16", "layer 1 ", "40.0 %"):
            self.assertIn(words, out)
        self.assertNotIn("fits", out)
        self.assertIn("fits          " + MODEL, self.curdkv("inspect", CONTEXT, "-m", MODEL)[0])
        told = self.json("inspect", CONTEXT, "-m", OTHER, "--json", code=1)
        self.assertFalse(told["fits"])
        self.assertIn("sizes differ", told["reason"])
        self.assertTrue(self.json("inspect", CONTEXT, "-m", MODEL, "--json")["fits"])
        self.fails(2, "one model is inspected at a time", "inspect", MODEL, "-m", OTHER)

    def test_what_does_not_fit_is_refused_by_name(self):
        self.fails(1, "saved.kvc: was made with another model of the same family: sizes differ; use tiny (llama, f32)",
                   "run", "-m", OTHER, "--context", CONTEXT, "-q", "x")
        self.fails(1, "leave out --raw", *ASK, "--raw", "--context", CONTEXT)
        self.fails(1, "is no saved context but a model", *ASK, "--context", MODEL)
        self.fails(1, "is a saved context, not a model", "run", "-m", CONTEXT, "-f", DOCUMENT, "-q", "x")
        self.fails(1, "No such file", *ASK, "--context", path("nothing.kvc"))
        self.fails(1, "not a GGUF file", *ASK, "--context", DOCUMENT)
        self.fails(2, "no document is read: leave out -f and -p, or --context", *ASK, "--context", CONTEXT, "-f", DOCUMENT)
        self.fails(2, "leave out options of compression", *ASK, "--context", CONTEXT, "--compression-ratio", "0.5")
        for option in ("--query-aware", "--compare-full"):
            self.fails(2, option + " reads the document", *ASK, "--context", CONTEXT, option)
        self.fails(2, "--truncate is of a document", *ASK, "--context", CONTEXT, "--truncate", "head")
        self.fails(2, "leave these out", *ASK, "--context", CONTEXT, "-ctk", "q8_0")
        self.fails(1, "too long", *ASK, "--context", CONTEXT, "-c", "200")
        self.fails(2, "--output is required", *COMPRESS)
        whole = content(CONTEXT)
        damaged = write("damaged.kvc", whole[:20000] + bytes([whole[20000] ^ 1]) + whole[20001:])
        self.fails(1, "is damaged: in tensor 'block.0.layer.", *ASK, "--context", damaged)
        self.fails(1, "is damaged: in tensor 'block.0.layer.", "inspect", damaged)


class Saving(Case):
    def test_mode_and_what_may_not_be_written(self):
        if os.path.exists(CONTEXT):
            os.unlink(CONTEXT)
        self.curdkv(*COMPRESS, "-o", CONTEXT)
        self.assertEqual(stat.S_IMODE(os.stat(CONTEXT).st_mode), 0o600)
        self.fails(1, "it is an input too", *COMPRESS, "-o", DOCUMENT)
        self.fails(1, "it is an input too", *COMPRESS, "-o", MODEL)
        self.fails(1, "no/such", *COMPRESS, "-o", path("no/such/folder.kvc"))
        self.fails(1, "it is a folder", *COMPRESS, "-o", path("."))
        os.chmod(CONTEXT, 0o400)
        self.fails(1, "write-protected", *COMPRESS, "-o", CONTEXT)
        os.chmod(CONTEXT, 0o600)

    @unittest.skipIf(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), "root may write everywhere")
    def test_a_folder_that_is_read_only(self):
        folder = path("locked")
        os.mkdir(folder, 0o555)
        if os.geteuid() == 0:
            self.assertNotEqual(subprocess.run(
                ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all", CURDKV, *COMPRESS,
                 "-o", folder + "/new.kvc"], capture_output=True).returncode, 0)
        else:
            self.fails(1, "Permission denied", *COMPRESS, "-o", folder + "/new.kvc")
        self.assertEqual(os.listdir(folder), [])

    def test_a_full_disk_leaves_the_old_file(self):
        write("full.kvc", "old")

        def small():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))

        before = sorted(os.listdir(path(".")))
        self.fails(1, "cannot write " + path("full.kvc") + ": File too large", *COMPRESS, "-o", path("full.kvc"), preexec_fn=small)
        self.assertEqual(content(path("full.kvc")), b"old")
        self.assertEqual(sorted(os.listdir(path("."))), before)

    def test_killed_at_any_moment_the_old_file_or_the_new_one_is_there(self):
        """Whole in either case. CURDKV_KILLS: how many times (default 20, 6 in slow builds)."""
        target = path("killed.kvc")
        started = time.monotonic()
        self.curdkv(*SAVE_MUCH, "-o", target)
        takes = time.monotonic() - started
        os.unlink(target)
        self.curdkv(*COMPRESS, "-o", target)
        old = content(target)
        n_old = n_new = 0
        rng = random.Random(1)
        # Most of the kills fall into saving, which begins when a file appears in the folder.
        for i in range(int(os.environ.get("CURDKV_KILLS", "6" if os.environ.get("CURDKV_SLOW_BUILD") == "1" else "20"))):
            before = set(os.listdir(path(".")))
            process = subprocess.Popen([CURDKV, *SAVE_MUCH, "-o", target], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            while process.poll() is None and set(os.listdir(path("."))) == before:
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.06 * takes / 0.5 if i % 2 else 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
            if content(target) == old:
                n_old += 1
            else:
                n_new += 1
                told = self.json("inspect", target, "--json")
                self.assertEqual(told["context_model"]["architecture"], "llama")
                self.curdkv(*COMPRESS, "-o", target)
                old = content(target)
            for name in os.listdir(path(".")):
                if name.startswith(".curdkv-"):
                    os.unlink(path(name))
        self.assertGreater(n_old, 0, "no kill came before the end")

    def test_interrupted_it_leaves_nothing(self):
        before = sorted(os.listdir(path(".")))
        process = subprocess.Popen([CURDKV, *SAVE_MUCH, "-o", path("interrupted.kvc")], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        while process.poll() is None and sorted(os.listdir(path("."))) == before:
            time.sleep(0.0005)
        process.send_signal(signal.SIGTERM)
        self.assertIn(process.wait(), (0, 130))
        self.assertEqual([n for n in os.listdir(path(".")) if n.startswith(".curdkv-")], [])


if __name__ == "__main__":
    unittest.main()
