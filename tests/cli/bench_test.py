"""curdkv bench on the command line, with a tiny model."""
import csv
import io
import json
import os
import resource
import signal
import subprocess
import unittest

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "4096"], check=True)
BENCH = ("bench", "-m", MODEL, "-t", "1", "-d", "0,600", "-p", "8", "-n", "4", "-r", "2", "--press",
         "none,knorm,adacurdkv", "--compression-ratio", "0.5,0.9")
FIELDS = {"engine", "test", "press", "compression_ratio", "depth", "n_tokens", "avg_ts", "stddev_ts", "median_ts",
          "samples_ts", "ratio_to_llama_cpp", "samples_ratio", "gbytes_per_s", "gflops", "limit", "kv_bytes",
          "rss_peak_bytes", "model", "n_threads", "type_k", "type_v", "version"}
METHODS = [("none", 0), ("knorm", 0.5), ("knorm", 0.9), ("adacurdkv", 0.5), ("adacurdkv", 0.9)]


class Bench(Case):
    @classmethod
    def setUpClass(cls):
        out = subprocess.run([CURDKV, *BENCH, "--against", "llama.cpp", "-o", "jsonl"], check=True, capture_output=True,
                             text=True).stdout
        cls.rows = [json.loads(line) for line in out.splitlines()]

    def find(self, test, depth, engine="curdkv", press="none", ratio=0.0):
        found = [r for r in self.rows if (r["test"], r["depth"], r["engine"], r["press"], r["compression_ratio"])
                 == (test, depth, engine, press, ratio)]
        self.assertEqual(len(found), 1, (test, depth, engine, press, ratio))
        return found[0]

    def test_every_test_of_every_press(self):
        for row in self.rows:
            self.assertEqual(set(row), FIELDS)
        for depth in (0, 600):
            for press, ratio in METHODS:
                rows = [r for r in self.rows if r["depth"] == depth and r["press"] == press and r["engine"] == "curdkv"
                        and r["compression_ratio"] == ratio]
                tests = [r["test"] for r in rows]
                expected = ["prefill"] + ["compress"] * (press != "none") + ["extend"] * (depth > 0) + ["decode"]
                self.assertEqual(tests, expected)
        self.assertEqual([r["test"] for r in self.rows if r["engine"] == "llama.cpp"],
                         ["prefill", "decode", "prefill", "extend", "decode"])

    def test_figures_agree_with_each_other(self):
        for row in self.rows:
            self.assertEqual(len(row["samples_ts"]), 2)
            self.assertAlmostEqual(row["avg_ts"], sum(row["samples_ts"]) / 2, delta=1e-6 * row["avg_ts"])
            self.assertAlmostEqual(row["median_ts"], row["avg_ts"], delta=1e-6 * row["avg_ts"])
            if row["test"] == "compress":
                self.assertIsNone(row["ratio_to_llama_cpp"])
                continue
            theirs = self.find(row["test"], row["depth"], "llama.cpp")
            for i in range(2):
                ratio = row["samples_ts"][i] / theirs["samples_ts"][i]
                self.assertAlmostEqual(row["samples_ratio"][i], ratio, delta=1e-6 * ratio)
            self.assertGreater(row["limit"], 0)
            self.assertEqual((row["gbytes_per_s"] is None, row["gflops"] is None),
                             (row["test"] != "decode", row["test"] == "decode"))
        self.assertEqual({r["n_tokens"] for r in self.rows if r["test"] == "prefill"}, {8, 600})
        self.assertEqual({r["n_tokens"] for r in self.rows if r["test"] == "extend"}, {8})
        self.assertEqual({r["n_tokens"] for r in self.rows if r["test"] == "decode"}, {4})

    def test_memory_is_what_is_kept(self):
        full = self.find("decode", 600)["kv_bytes"]
        for press, ratio in METHODS[1:]:
            kept = self.find("decode", 600, press=press, ratio=ratio)["kv_bytes"] / full
            self.assertAlmostEqual(kept, 1 - ratio, delta=0.03)
        for row in self.rows:
            if row["test"] != "compress":
                self.assertGreater(row["rss_peak_bytes"], 1 << 20)

    def test_forms(self):
        args = ("bench", "-m", MODEL, "-t", "1", "-d", "100", "-n", "2", "-r", "1", "--tests", "decode,prefill")
        rows = self.json(*args, "-o", "json")
        self.assertEqual([r["test"] for r in rows], ["prefill", "decode"])
        table = list(csv.DictReader(io.StringIO(self.curdkv(*args, "-o", "csv")[0])))
        self.assertEqual(set(table[0]), FIELDS - {"samples_ts", "samples_ratio"})
        self.assertEqual([(r["test"], int(r["n_tokens"])) for r in table], [("prefill", 100), ("decode", 2)])
        self.assertEqual(table[0]["ratio_to_llama_cpp"], "")
        markdown = self.curdkv(*args)[0].splitlines()
        cells = {line.count("|") for line in markdown if line.startswith("|")}
        self.assertEqual((len(cells), sum(line.startswith("| curdkv") for line in markdown)), (1, 2))

    def test_report(self):
        file = write("rows.jsonl", "".join(json.dumps({**r, "depth": d * r["n_tokens"]}) + "\n" for d in (1, 2, 4)
                                           for r in self.rows if r["test"] == "prefill" and r["depth"]))
        self.curdkv("report", file, "-o", path("page.html"))
        with open(path("page.html")) as f:
            page = f.read()
        for words in ("Speed and memory, tiny.gguf", "Growth", "curdkv, full cache", "knorm 0.90", "llama.cpp"):
            self.assertIn(words, page)
        # The same speed at every depth: a time of n / speed for the same n, so a power of 0.
        self.assertRegex(page, r"prefill, s</th><td>-?0\.00</td>")
        self.fails(1, "line 1: field 'depth' is no number", "report",
                   write("bad.jsonl", json.dumps({**self.rows[0], "depth": "far"})), "-o", path("x.html"))
        self.fails(1, "line 1: field 'median_ts' is not positive", "report",
                   write("bad.jsonl", json.dumps({**self.rows[0], "median_ts": 0})), "-o", path("x.html"))

    def test_report_against_the_ratio(self):
        decode = next(r for r in self.rows if r["test"] == "decode" and r["engine"] == "curdkv")
        rows = [{**decode, "press": "none" if ratio == 0 else "curdkv", "compression_ratio": ratio, "depth": depth,
                 "kv_bytes": (1 - ratio) * depth * 2**20} for depth in (100, 200) for ratio in (0, 0.2, 0.5, 0.9)]
        self.curdkv("report", write("rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows)), "-o", path("page.html"))
        with open(path("page.html")) as f:
            page = f.read()
        self.assertIn("Memory and time against the ratio", page)
        self.assertEqual(page.count("<title>200 tokens, 0: 200</title>"), 1)  # the full cache starts the line
        self.assertEqual(page.count("<title>200 tokens, 0.5: 100</title>"), 1)

    def test_wrong_usage(self):
        self.fails(2, "--tests", *BENCH, "--tests", "speed")
        self.fails(2, "--against", *BENCH, "--against", "vllm")
        self.fails(2, "-o", *BENCH, "-o", "xml")
        self.fails(2, "--depth", *BENCH, "-d", "-1")
        self.fails(2, "no test is left to do", "bench", "-m", MODEL, "-p", "0", "-n", "0", "-d", "0")
        self.fails(2, "no press 'nothing'", "bench", "-m", MODEL, "--press", "nothing")
        self.fails(2, "one cache type", *BENCH, "--against", "llama.cpp", "--cache-type-k", "f32")
        self.fails(2, "repeats", *BENCH, "--press", "kvzip")
        self.fails(1, "No such file", "bench", "-m", path("missing.gguf"))

    def test_closed_output(self):
        done = subprocess.run(f"{CURDKV} {' '.join(BENCH)} -o jsonl > /dev/full", shell=True, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("cannot write to standard output", done.stderr)

    def test_interrupt_leaves_whole_lines(self):
        run = subprocess.Popen([CURDKV, "bench", "-m", MODEL, "-r", "10000", "-d", "500", "-o", "jsonl"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with self.assertRaises(subprocess.TimeoutExpired):
            run.wait(timeout=1)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=60)
        self.assertIn("interrupted", err)
        self.assertEqual(run.returncode, 130)
        for line in out.splitlines():
            json.loads(line)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    unittest.main()
