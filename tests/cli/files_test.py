"""What curdkv reads and writes: nothing of the user's is lost, nothing endless is read, interrupts are heard."""
import gzip
import io
import json
import os
import resource
import signal
import stat
import subprocess
import threading
import time
import unittest
import zipfile

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL], check=True)
LARGE = path("large.gguf")  # so that reading a document takes a while
subprocess.run([os.path.join(BUILD, "make_tiny_model"), LARGE, "1000000", "8", "64", "256", "4", "2", "512"], check=True)
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 20)
ASK = ("run", "-m", MODEL, "-t", "1", "-n", "1", "-q", "What?")
ANALYZE = ("analyze", "-m", MODEL, "-t", "1", "-f", DOCUMENT)
EVAL = ("eval", "-m", MODEL, "-t", "1", "--raw", "--task", "niah_single_1", "-n", "1", "--press", "knorm")
ONE = (*EVAL, "--samples", "1", "--context-tokens", "700")
FIGURE = json.dumps({"figure": "document", "model": "m", "tokens": ["a"], "n_layer": 1, "n_head_kv": 1,
                     "kept": [{"press": "p", "compression_ratio": 0.5, "bits": "AA=="}]})
PREDICTION = {"task": "qasper", "sample": 0, "press": "none", "compression_ratio": 0, "prediction": "x",
              "references": ["x"], "score": 0.5, "n_context_tokens": 10, "kv_bytes": 100}
SPEED = {"engine": "curdkv", "test": "decode", "press": "none", "compression_ratio": 0, "depth": 1, "n_tokens": 1,
         "median_ts": 1, "stddev_ts": 0, "kv_bytes": 1, "model": "m"}


def content(name):
    with open(path(name), "rb") as file:
        return file.read()


def fifo(name):
    os.mkfifo(path(name))
    return path(name)


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("_", "/", 1) + ".xml" if name != "mimetype" else name, text)
    return out.getvalue()


class Output(Case):
    def setUp(self):
        self.figure = write("figure.jsonl", FIGURE + "\n")

    def test_links_modes_and_neighbours(self):
        write("page.html.part", "mine")
        for command in (("report", self.figure), ANALYZE, ("eval", "merge", write("p.jsonl", json.dumps(PREDICTION)))):
            write("page.html", "old")
            os.chmod(path("page.html"), 0o640)
            os.symlink("page.html", path("link"))
            self.curdkv(*command, "-o", path("link"))
            self.assertTrue(os.path.islink(path("link")))
            self.assertNotEqual(content("page.html"), b"old")
            self.assertEqual(stat.S_IMODE(os.stat(path("page.html")).st_mode), 0o640)
            os.remove(path("link"))
        self.assertEqual(content("page.html.part"), b"mine")
        self.assertFalse([f for f in os.listdir(path("")) if f.startswith(".curdkv")])

    def test_devices_pipes_and_descriptors(self):
        for command in (("report", self.figure), ANALYZE):
            self.curdkv(*command, "-o", "/dev/null")
            self.fails(1, "No space left", *command, "-o", "/dev/full")
            self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
            with open(path("redirected"), "wb") as file:
                subprocess.run([CURDKV, *command, "-o", "/dev/stdout"], stdout=file, check=True)
            self.assertGreater(len(content("redirected")), 100)
            self.assertGreater(len(self.curdkv(*command, "-o", "/dev/stdout")[0]), 100)
            pipe = fifo("pipe")
            with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
                self.curdkv(*command, "-o", pipe)
                self.assertGreater(len(cat.stdout.read()), 100)
            self.assertTrue(stat.S_ISFIFO(os.stat(pipe).st_mode))
            os.remove(pipe)

    def test_what_cannot_be_written_is_said_before_any_work(self):
        protected = write("protected", "old")
        os.chmod(protected, 0o444)
        for command in (("report", self.figure), ("analyze", "-m", path("none.gguf"), "-p", "text"), ("eval", "merge", path("none"))):
            self.fails(1, "is a folder", *command, "-o", path(""))
            self.fails(1, "No such file", *command, "-o", path("nowhere/file"))
            self.fails(1, "write-protected", *command, "-o", protected)
        self.assertEqual(content("protected"), b"old")

    def test_an_output_that_is_too_large_leaves_the_old_one(self):
        write("page.html", "old")
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
        self.fails(1, "File too large", "report", self.figure, "-o", path("page.html"), preexec_fn=limit)
        self.assertEqual(content("page.html"), b"old")
        self.fails(1, "File too large", *EVAL, "--samples", "9", "--context-tokens", "700", "-o", path("limited.jsonl"), preexec_fn=limit)
        for line in content("limited.jsonl").splitlines():
            json.loads(line)
        self.assertFalse([f for f in os.listdir(path("")) if f.startswith(".curdkv")])

    def test_no_input_is_an_output(self):
        os.symlink(self.figure, path("alias"))
        os.link(MODEL, path("hard"))
        self.fails(1, "is an input too", "report", self.figure, "-o", path("alias"))
        self.fails(1, "is an input too", *ANALYZE, "-o", DOCUMENT)
        self.fails(1, "is an input too", *ANALYZE, "-o", path("hard"))
        self.fails(1, "is an input too", *EVAL, "-o", MODEL)
        hay = write("hay.txt", "One. Two. Three.")
        self.fails(1, "is an input too", *EVAL, "--haystack", hay, "-o", hay)
        rows = write("niah_single_1.jsonl", "{}\n")
        self.fails(1, "is an input too", *EVAL, "--data", rows, "-o", rows)
        self.fails(1, "is an input too", *EVAL, "--data", path(""), "-o", rows)
        results = write("results.jsonl", json.dumps(PREDICTION) + "\n")
        self.fails(1, "is an input too", "eval", "merge", results, "-o", results)
        self.curdkv("eval", "merge", results, "--format", "kvpress", "-o", path("out"))
        copied = write("out/none__0.00/metrics.json", json.dumps(PREDICTION) + "\n")
        self.fails(1, "is an input too", "eval", "merge", copied, "--format", "kvpress", "-o", path("out"))
        self.assertEqual(json.loads(content("out/none__0.00/metrics.json")), PREDICTION)
        with open(DOCUMENT) as stdin:
            self.fails(1, "is an input too", "analyze", "-m", MODEL, "-f", "-", "-o", DOCUMENT, stdin=stdin)

    def test_results_are_kept_in_files(self):
        self.fails(1, "it is a pipe", *EVAL, "-o", fifo("results"))
        self.fails(1, "it is a device", *EVAL, "-o", "/dev/null")
        self.fails(1, "it is a folder", *EVAL, "-o", path(""))
        self.fails(1, "it is a pipe", "eval", "-m", path("none.gguf"), *EVAL[3:], "-o", path("results"))
        os.symlink("made.jsonl", path("dangling"))
        self.curdkv(*ONE, "-o", path("dangling"))
        whole = content("made.jsonl")
        with open(path("made.jsonl"), "ab") as file:
            file.write(b'{"task":"nia' + b"\0" * 100)  # as a crash of the machine may leave it
        self.curdkv(*ONE, "-o", path("dangling"))
        self.assertEqual(content("made.jsonl"), whole)
        self.assertTrue(os.path.islink(path("dangling")))


class Input(Case):
    def test_documents_of_other_kinds(self):
        kinds = {
            "ascii.pdf": (b"%PDF-1.4\nBT (Hello) Tj ET\n%%EOF\n", "pdftotext"),
            "binary.pdf": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n%%EOF\n", "pdftotext"),
            "a.docx": (zipped(word_document="<w:t>Mara</w:t>"), "a Word file"),
            "a.xlsx": (zipped(xl_workbook="<x/>"), "an Excel file"),
            "a.epub": (zipped(mimetype="application/epub+zip"), "an EPUB book"),
            "a.rtf": (b"{\\rtf1 Mara}", "an RTF file"),
            "a.doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "libreoffice"),
            "a.gz": (gzip.compress(b"Mara"), "gunzip"),
            "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(20), "an image"),
            "utf16.txt": ("Mara".encode("utf-16"), "iconv -f UTF-16 "),
            "utf16le.txt": ("Mara is here".encode("utf-16-le"), "UTF-16LE"),
            "utf32.txt": ("Mara".encode("utf-32"), "iconv -f UTF-32 "),
            "latin1.txt": ("M\u00e4ra".encode("latin-1"), "iconv"),
            "zeros.txt": (b"a" * 600 + b"\0b", "binary file"),
        }
        no_tools = {**os.environ, "PATH": ""}
        for name, (data, words) in kinds.items():
            self.fails(1, words, *ASK, "-f", write(name, data), env=no_tools)
            with open(path(name)) as stdin:
                self.fails(1, words, *ASK, "-f", "-", stdin=stdin, env=no_tools)
        self.fails(1, "a model rather than a text", *ASK, "-f", MODEL)
        self.fails(1, "pdftotext", "report", path("ascii.pdf"), "-o", path("x.html"))
        self.fails(1, "not a GGUF file (it does not begin with 'GGUF'); it is a ZIP", "inspect", "-m", write("z", zipped(a_b="")))

    def test_a_byte_order_mark_is_no_text(self):
        plain = self.json(*ASK, "-f", DOCUMENT, "--raw", "--json")
        marked = self.json(*ASK, "-f", write("marked.txt", b"\xef\xbb\xbf" + content("document.txt")), "--raw", "--json")
        self.assertEqual(marked["n_context_tokens"], plain["n_context_tokens"])
        self.curdkv("report", write("marked.jsonl", b"\xef\xbb\xbf" + FIGURE.encode()), "-o", path("marked.html"))
        self.fails(1, "empty", *ASK, "-f", write("mark.txt", b"\xef\xbb\xbf"))

    def test_nothing_endless_is_read(self):
        for device in ("/dev/zero", "/dev/urandom"):
            self.fails(1, "is a device", *ASK, "-f", device)
            self.fails(1, "is a device", "report", device, "-o", path("x.html"))
            self.fails(1, "not a regular file", "inspect", "-m", device)
            with open(device) as stdin:
                self.fails(1, "is a device", *ASK, "-f", "-", stdin=stdin)
        with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
            self.fails(1, "too large: more than 256 MiB", *ASK, "-f", "-", stdin=yes.stdout)
            yes.stdout.close()
        with open(path("sparse"), "wb") as file:
            file.truncate(1 << 40)
        self.fails(1, "too large", *ASK, "-f", path("sparse"))
        self.fails(1, "too large", "report", path("sparse"), "-o", path("x.html"))
        pipe = fifo("nobody")
        self.fails(1, "not a regular file", "inspect", "-m", pipe, timeout=20)
        self.fails(1, "not a regular file", "run", "-m", pipe, "-p", "text", "-q", "x")

    def test_pipes_are_documents(self):
        expected = self.json(*ASK, "-f", DOCUMENT, "--json")["n_context_tokens"]
        pipe = fifo("document.pipe")

        def feed():
            time.sleep(0.3)  # the reader waits for a writer
            with open(pipe, "w") as file, open(DOCUMENT) as text:
                file.write(text.read())
        writer = threading.Thread(target=feed)
        writer.start()
        self.assertEqual(self.json(*ASK, "-f", pipe, "--json")["n_context_tokens"], expected)
        writer.join()
        with open(DOCUMENT) as stdin:
            self.assertEqual(self.json(*ASK, "-f", "/dev/stdin", "--json", stdin=stdin)["n_context_tokens"], expected)

    def test_deep_json(self):
        deep = "[" * 200000 + "]" * 200000
        results = write("deep.jsonl", json.dumps(PREDICTION)[:-1] + ',"run":{"x":' + deep + "}}\n")
        rows = write("qasper.jsonl", '{"x":' + deep + ',"context":"a","input":"b","answers":["c"]}\n')
        figure = write("deep_figure.jsonl", FIGURE[:-1] + ',"x":' + deep + "}\n")
        self.fails(1, "levels deep", "report", results, "-o", path("x.html"))
        self.fails(1, "levels deep", "report", figure, "-o", path("x.html"))
        self.fails(1, "levels deep", "eval", "merge", results, "-o", path("x.jsonl"))
        self.fails(1, "levels deep", "eval", "-m", MODEL, "--raw", "--task", "qasper", "--data", rows, "-o", path("x.jsonl"))

    def test_reports_of_any_numbers(self):
        numbers = (0, -1, 5e-324, 1e-310, 1e-300, 1, 1e300, 1.7e308, -1.7e308)
        for a in numbers:
            for b in numbers:
                heads = [{"layer": 0, "head": 0, "spearman": a, "attention": [abs(a), abs(b)], "loss": [b, a]}]
                text = json.dumps({"figure": "attention-vs-loss", "model": "m", "n_tokens": 2, "heads": heads}) + "\n"
                for i, depth in enumerate((a, b, 3)):
                    ts = abs(b) or 1
                    for ratio in (0, 0.5, a, b):
                        text += json.dumps({**SPEED, "depth": depth, "median_ts": ts, "n_tokens": a, "kv_bytes": b,
                                            "press": "knorm", "compression_ratio": ratio, "rss_peak_bytes": a}) + "\n"
                losses = {f: a for f in ("qk_relative", "output_relative", "output_zeroed_relative", "qk", "output",
                                         "output_zeroed", "bound", "most_of_bound")}
                text += json.dumps({"figure": "reconstruction", "model": "m", "low_rank": [{"rank": 1, "keys_svd": a, "keys_cur": b,
                                    "values_svd": a, "values_cur": b}], "presses": [
                                    {"press": "p", "compression_ratio": a, **losses}, {"press": "q", "compression_ratio": a,
                                     **losses, "qk_relative": b}]}) + "\n"
                text += json.dumps({"figure": "heads", "model": "m", "n_tokens": 3, "presses": [
                    {"press": "p", "compression_ratio": b, "n_kept": [[a, b]], "jaccard": [a]}]}) + "\n"
                self.curdkv("report", write("numbers.jsonl", text), "-o", path("numbers.html"), timeout=20)
                page = content("numbers.html")
                self.assertLess(len(page), 1 << 20)
                for svg in page.split(b"<svg")[1:]:
                    svg = svg.split(b"</svg>")[0]
                    for place in (b'=nan', b'=-nan', b'=inf', b'=-inf', b'"nan', b'"inf', b',nan', b',inf'):
                        self.assertNotIn(place, svg)


class Interrupted(Case):
    def stops(self, args, after, within=4.0):
        run = subprocess.Popen([CURDKV, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(after)
        self.assertIsNone(run.poll())
        start = time.time()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        self.assertLess(time.time() - start, within)
        self.assertEqual(run.returncode, 130, err)
        self.assertIn("interrupted", err)

    def test_while_samples_are_made(self):
        self.stops((*EVAL, "--samples", "10000000", "--context-tokens", "2000", "-o", path("samples.jsonl")), 1.5)

    def test_while_waiting_for_a_document(self):
        self.stops((*ASK, "-f", fifo("never")), 0.5)

    def test_inside_a_long_step(self):
        document = write("river.txt", "the king in the north said a river " * 200)
        self.stops(("run", "-m", MODEL, "-c", "20000", "-f", document, "-q", "who", "-n", "2", "-t", "1", "--press",
                    "compactor+uniform:sketch=4096"), 4)


class Model(Case):
    def test_a_model_that_is_cut_while_it_is_used(self):
        document = write("north.txt", "the king in the north. " * 4000)
        model = path("cut.gguf")
        for threads in ("1", "2"):
            with open(LARGE, "rb") as whole, open(model, "wb") as copy:
                copy.write(whole.read())
            run = subprocess.Popen([CURDKV, "run", "-m", model, "-f", document, "-q", "x", "-t", threads],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(1.5)
            self.assertIsNone(run.poll())
            os.truncate(model, 100000)
            out, err = run.communicate(timeout=120)
            self.assertEqual(run.returncode, 1, err)
            self.assertIn("cut.gguf: was cut short or replaced while in use", err)
            self.assertEqual(out, "")

    def test_without_mapping_the_file_may_go(self):
        model = path("gone.gguf")
        with open(MODEL, "rb") as whole, open(model, "wb") as copy:
            copy.write(whole.read())
        mapped = self.json(*ASK, "-f", DOCUMENT, "--json")["answers"][0]["answer"]
        self.assertEqual(self.json(*ASK, "-f", DOCUMENT, "--json", "--no-mmap")["answers"][0]["answer"], mapped)
        run = subprocess.Popen([CURDKV, "run", "-m", LARGE, "--no-mmap", "-p", "text", "-q", "x", "-n", "200"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.5)
        with open(f"/proc/{run.pid}/maps") as maps:
            self.assertNotIn("large.gguf", maps.read())
        run.kill()
        run.communicate()


if __name__ == "__main__":
    unittest.main()
