"""curdkv eval on the command line, with a tiny model."""
import json
import os
import random
import resource
import signal
import subprocess
import time
import unittest

from eval_inputs import GRID, MODEL, content, lines
from harness import CURDKV, FOLDER, Case, path, write


class Eval(Case):
    @classmethod
    def setUpClass(cls):
        subprocess.run([CURDKV, *GRID, "-o", path("whole.jsonl")], check=True, capture_output=True)

    def test_help(self):
        for command in (("eval",), ("eval", "merge"), ("analyze",), ("report",)):
            self.assertIn("Usage: curdkv " + " ".join(command), self.curdkv(*command, "--help")[0])

    def test_a_line_a_prediction(self):
        records = lines("whole.jsonl")
        methods = [("none", 0)] + [(p, r) for p in ("knorm", "snapkv", "curdkv:sinks=9") for r in (0.5, 0.9)]
        expected = [(t, s, *m) for t in ("niah_single_1", "niah_multikey_1") for s in range(3) for m in methods]
        self.assertEqual([(r["task"], r["sample"], r["press"], r["compression_ratio"]) for r in records], expected)
        for r in records:
            self.assertEqual(set(r), {"task", "sample", "press", "compression_ratio", "prediction", "references",
                                      "score", "n_context_tokens", "kv_bytes", "press_params", "run"})
            self.assertLessEqual(r["n_context_tokens"], 700)
            self.assertEqual(r["run"]["seed"], 42)
            self.assertEqual(len(r["run"]["model_sha256"]), 64)
            full = next(f for f in records if (f["task"], f["sample"], f["press"]) == (r["task"], r["sample"], "none"))
            kept = r["kv_bytes"] / full["kv_bytes"]
            self.assertAlmostEqual(kept, 1 - r["compression_ratio"], delta=0.03)
        self.assertEqual(records[-1]["press_params"]["sinks"], "9")
        self.curdkv(*GRID, "--timings", "-o", path("timed.jsonl"))
        self.assertGreater(lines("timed.jsonl")[0]["prefill_ms"], 0)

    def test_the_rest_of_ruler(self):
        """Words as they come, questions of their users' files; the tiny model's tokens are too short for vt's example."""
        document = {"context": "The ant is in the north. " * 9, "qas": [
            {"question": "Where is the ant?", "is_impossible": False, "answers": [{"text": "north"}, {"text": "the north"}]}]}
        squad = write("squad.json", json.dumps({"data": [{"paragraphs": [document] * 2}]}))
        hotpotqa = write("hotpotqa.json", json.dumps([{"question": "Who?", "answer": "ant", "context": [["Ant", ["It is."]]]}]))
        asked = ("eval", "-m", MODEL, "-t", "1", "--context-tokens", "3000", "-n", "2", "--press", "knorm")
        err = self.curdkv(*asked, "--task", "qa_1,cwe,qa_2,fwe", "--samples", "2", "--squad", squad, "--hotpotqa", hotpotqa,
                          "-o", path("rest.jsonl"))[1]
        self.assertIn("qa_2 has 1 samples, fewer than the 2 asked for", err)
        records = [r for r in lines("rest.jsonl") if r["press"] == "none"]
        self.assertEqual([(r["task"], r["sample"], len(r["references"])) for r in records],
                         [("cwe", 0, 10), ("cwe", 1, 10), ("fwe", 0, 3), ("fwe", 1, 3), ("qa_1", 0, 2), ("qa_1", 1, 2),
                          ("qa_2", 0, 1)])
        for r in records:
            self.assertLess(r["n_context_tokens"], 3000)
            self.assertGreater(r["n_context_tokens"], 2400)
        self.assertEqual((records[0]["run"]["squad"], records[0]["run"]["hotpotqa"]), ("squad.json", "hotpotqa.json"))

        def fails(code, words, *args):
            self.fails(code, words, *asked, "--samples", "1", *args, "-o", path("x"))
        fails(2, "the example in front of vt has more than the 500 tokens", "--task", "vt")
        fails(2, "the example in front of vt", "--task", "ruler_all")  # behind the needle tasks
        fails(2, "qa_1 is read from a file: name its folder with --data, or SQuAD's file with --squad", "--task", "qa_1")
        fails(2, "or HotpotQA's file with --hotpotqa", "--task", "qa_1,qa_2", "--squad", squad)
        fails(1, "hotpotqa.json: field 'data' is missing or no list", "--task", "qa_1", "--squad", hotpotqa)
        fails(1, "squad.json: expected a list", "--task", "qa_2", "--hotpotqa", squad)
        fails(1, "No such file", "--task", "qa_2", "--hotpotqa", path("nowhere"))
        write("adjectivelist.txt", "red\nblue\n")
        write("nounlist.txt", "ant\nbee\n")
        fails(2, "cwe needs at least 20 different words; there are 4", "--task", "cwe", "--words", FOLDER.name)
        fails(2, "no verblist.txt", "--task", "cwe", "--words", FOLDER.name)
        write("verblist.txt", "\n".join(f"word{i}" for i in range(20)))
        err = self.curdkv(*asked, "--task", "cwe", "--samples", "1", "--words", FOLDER.name, "-o", path("verbs.jsonl"))[1]
        self.assertNotIn("verblist.txt", err)
        self.assertTrue(any(word.startswith("word") for word in lines("verbs.jsonl")[0]["references"]))

    def test_sharing_a_reading_changes_nothing(self):
        for press in ("snapkv", "curdkv:sinks=9"):
            alone = [a if a != "knorm,snapkv,curdkv:sinks=9" else press for a in GRID]
            self.curdkv(*alone, "-o", path(f"alone {press}.jsonl"))
            self.assertEqual(lines(f"alone {press}.jsonl"),
                             [r for r in lines("whole.jsonl") if r["press"] in ("none", press)])

    def test_goes_on_after_kills(self):
        grid = [a if a != "3" else "12" for a in GRID]
        self.curdkv(*grid, "-o", path("unbroken.jsonl"))
        whole = content("unbroken.jsonl")
        rng = random.Random(5)
        sizes = set()
        for n in range(20):  # at random moments, each further on
            goal = len(whole) * (n + rng.random()) / 20
            run = subprocess.Popen([CURDKV, *grid, "-o", path("killed.jsonl")], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
            while run.poll() is None:
                if os.path.exists(path("killed.jsonl")) and os.path.getsize(path("killed.jsonl")) >= goal:
                    time.sleep(rng.uniform(0, 0.01))
                    break
                time.sleep(0.001)
            run.kill()
            run.wait()
            self.assertTrue(whole.startswith(content("killed.jsonl")))
            sizes.add(len(content("killed.jsonl")))
        self.assertGreater(len(sizes), 7)
        os.truncate(path("killed.jsonl"), len(whole) - 40)  # as if a kill had hit a write
        self.curdkv(*grid, "-o", path("killed.jsonl"))
        self.assertEqual(content("killed.jsonl"), whole)
        self.curdkv(*grid, "-o", path("killed.jsonl"))  # nothing left to do
        self.assertEqual(content("killed.jsonl"), whole)

    def test_shards_merge_to_the_whole(self):
        fewer = ["1" if before == "--samples" else a for before, a in zip(("",) + GRID, GRID)]
        for i in (1, 2, 3, 4):
            self.curdkv(*fewer, "--shard", f"{i}/4", "-o", path(f"shard{i}.jsonl"))
            self.curdkv(*GRID, "--shard", f"{i}/4", "-o", path(f"shard{i}.jsonl"))
        self.assertEqual(sum(len(lines(f"shard{i}.jsonl")) for i in (1, 2, 3, 4)), len(lines("whole.jsonl")))
        shards = [path(f"shard{i}.jsonl") for i in (3, 1, 4, 2)]
        self.curdkv("eval", "merge", *shards, "-o", path("merged.jsonl"))
        self.assertEqual(content("merged.jsonl"), content("whole.jsonl"))
        self.curdkv("eval", "merge", *shards, path("whole.jsonl"), "-o", path("twice.jsonl"))
        self.assertEqual(content("twice.jsonl"), content("whole.jsonl"))
        other = lines("whole.jsonl")[0]
        other["prediction"] = "something else"
        self.fails(1, "differently", "eval", "merge", *shards, write("other.jsonl", json.dumps(other)), "-o", path("x"))
        other["run"]["seed"] = 7
        self.fails(1, "seed 7 instead of 42", "eval", "merge", *shards, write("other.jsonl", json.dumps(other)), "-o",
                   path("x"))

    def test_other_formats(self):
        self.curdkv("eval", "merge", path("whole.jsonl"), "--format", "kvpress", "-o", path("kvpress"))
        with open(path("kvpress/snapkv__0.50/metrics.json")) as f:
            self.assertEqual(set(json.load(f)), {"niah_single_1", "niah_multikey_1"})
        self.curdkv("eval", "merge", path("whole.jsonl"), "--format", "lm-eval", "-o", path("lm-eval"))
        with open(path("lm-eval/none__0.00/results_curdkv.json")) as f:
            self.assertEqual(json.load(f)["n-samples"]["niah_single_1"]["effective"], 3)

    def test_results_are_not_mixed_up(self):
        self.fails(1, "seed 42 instead of 1", *GRID, "--seed", "1", "-o", path("whole.jsonl"))
        self.fails(1, "no file of results", *GRID, "-o", write("mine.txt", "my only copy"))
        self.assertEqual(content("mine.txt"), b"my only copy")
        self.fails(1, "line 1: not a JSON object", *GRID, "-o", write("mine.txt", "my only copy\n"))
        self.assertEqual(content("mine.txt"), b"my only copy\n")

    def test_wrong_usage(self):
        self.fails(2, "--output is required", *GRID)
        self.fails(2, "no task 'nosuch'", "eval", "-m", MODEL, "--task", "nosuch", "-o", path("x"))
        self.fails(2, "--task is required", "eval", "-m", MODEL, "-o", path("x"))
        self.fails(2, "not '5/4'", *GRID, "--shard", "5/4", "-o", path("x"))
        self.fails(2, "read from a file", "eval", "-m", MODEL, "--task", "qasper", "-o", path("x"))
        self.fails(2, "150 tokens are too few for niah_single_1", "eval", "-m", MODEL, "--task", "niah_single_1",
                   "--context-tokens", "150", "-o", path("x"))
        self.fails(2, "--budget is not for eval", "eval", "-m", MODEL, "--task", "niah_single_1", "--budget", "9", "-o",
                   path("x"))
        self.fails(1, "cannot write", *GRID, "-o", path("no/such/folder"))
        self.fails(1, "is a device", *GRID, "-o", "/dev/full")

    def test_full_disk_leaves_whole_lines(self):
        def limit():  # stands for a disk that is full after 10,000 bytes
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
        self.fails(1, "File too large", *GRID, "-o", path("full.jsonl"), preexec_fn=limit)
        lines("full.jsonl")
        self.assertTrue(content("full.jsonl").endswith(b"\n"))
        self.curdkv(*GRID, "-o", path("full.jsonl"))
        self.assertEqual(content("full.jsonl"), content("whole.jsonl"))

    def test_interrupt_loses_nothing(self):
        run = subprocess.Popen([CURDKV, *GRID, "-o", path("stopped.jsonl")], stderr=subprocess.PIPE, text=True)
        while not os.path.exists(path("stopped.jsonl")) or not content("stopped.jsonl"):
            self.assertIsNone(run.poll())
            time.sleep(0.005)
        run.send_signal(signal.SIGINT)
        self.assertIn("interrupted", run.communicate(timeout=60)[1])
        self.assertEqual(run.returncode, 130)
        self.assertTrue(content("whole.jsonl").startswith(content("stopped.jsonl")))
        lines("stopped.jsonl")


class Datasets(Case):
    ROW = {"input": "Where is the ant?", "context": "The ant is in the north. " * 20, "answers": ["in the north"],
           "length": 9, "dataset": "qasper", "language": "en", "all_classes": None, "_id": "1"}

    def run_on(self, task, rows, *args, **kwargs):
        text = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)
        file = write(f"{task}.jsonl", text)
        out = path("data.out.jsonl")
        if os.path.exists(out):
            os.remove(out)
        command = ("eval", "-m", MODEL, "-t", "1", "--task", task, "--data", file, "-n", "4", "--press", "knorm", *args,
                   "-o", out)
        if kwargs:
            return self.fails(1, kwargs["error"], *command)
        self.curdkv(*command)
        return lines("data.out.jsonl")

    def test_longbench(self):
        records = self.run_on("qasper", [self.ROW, "", {**self.ROW, "answers": ["a", "b"]}])
        self.assertEqual([(r["sample"], r["press"]) for r in records],
                         [(0, "none"), (0, "knorm"), (1, "none"), (1, "knorm")])
        self.assertEqual(records[2]["references"], ["a", "b"])

    def test_long_documents_lose_their_middle(self):
        long = {**self.ROW, "context": "The ant is in the north. " * 2000}
        self.run_on("qasper", [long], error="qasper.jsonl, line 1: field 'context' is too long")
        records = self.run_on("qasper", [long], "--context-tokens", "300")
        self.assertLess(records[0]["n_context_tokens"], 330)
        self.assertGreater(records[0]["n_context_tokens"], 270)

    def test_ruler_from_files(self):
        prompt = ("A special magic number is hidden.\\nOne is: 5.\\nWhat is the special magic number for x mentioned in "
                  "the provided text? The special magic number for x mentioned in the provided text is")
        records = self.run_on("niah_single_1", [{"index": 0, "input": prompt, "outputs": ["5"], "length": 9}])
        self.assertEqual(records[0]["references"], ["5"])
        other = {"input": "Answer: b.\n Question: Find all variables that are assigned the value 5 in the text above. Answer: a",
                 "outputs": ["5", "6"]}
        self.assertEqual(self.run_on("vt", [other])[0]["references"], ["5", "6"])
        split = {"task": "vt", "context": "x", "question": "y", "answer_prefix": "z", "answer": ["5"]}
        self.assertEqual(len(self.run_on("vt", [split, {**split, "task": "cwe"}])), 2)

    def test_errors_name_file_line_and_field(self):
        def but(**change):
            return {k: v for k, v in {**self.ROW, **change}.items() if v != "gone"}
        for task, row, error in (
                ("qasper", "{", "qasper.jsonl, line 2: not a JSON object"),
                ("qasper", "[1]", "qasper.jsonl, line 2: not a JSON object"),
                ("qasper", but(context="gone"), "qasper.jsonl, line 2: field 'context' is missing"),
                ("qasper", but(input=5), "qasper.jsonl, line 2: field 'input' is no string"),
                ("qasper", but(answers=[]), "qasper.jsonl, line 2: field 'answers' is no list of strings, or empty"),
                ("trec", but(dataset="gone", all_classes=[1]), "trec.jsonl, line 2: field 'all_classes' is no list")):
            self.run_on(task, [{**self.ROW, "dataset": task}, row], error=error)
        self.run_on("qasper", [], error="has no sample of qasper")
        self.run_on("qasper", [{**self.ROW, "dataset": "trec"}], error="has no sample of qasper")
        ruler = {"input": "no question", "outputs": ["5"]}
        self.run_on("niah_single_1", [ruler], error="niah_single_1.jsonl, line 1: field 'input' holds no question")
        self.fails(1, "No such file", "eval", "-m", MODEL, "--task", "qasper", "--data", path("nowhere"), "-o", path("x"))


if __name__ == "__main__":
    unittest.main()
