"""curdkv on the default model: memory really freed, interrupts, the demo's questions."""
import os
import signal
import subprocess
import time
import unittest

from harness import CURDKV, Case, write

MODEL = os.environ["CURDKV_TEST_MODEL"]
REPORT = os.path.join(os.path.dirname(__file__), "../../demo/harbour_report.txt")


class Memory(Case):
    def test_what_is_evicted_leaves_the_process(self):
        with open(REPORT) as file:
            text = file.read()
        document = write("long.txt", (text * 2)[:25600])
        runs = {}
        for press in ("none", "curdkv", "adacurdkv"):
            runs[press] = self.json("run", "-m", MODEL, "-f", document, "-q", "What is this?", "-n", "4", "--json",
                                    "--press", press, "--compression-ratio", "0.8", "-t", "2")
        full = runs["none"]
        n, full_bytes = full["n_context_tokens"], full["kv_bytes_full"]
        self.assertGreaterEqual(n, 6000)
        self.assertLessEqual(full["kv_bytes"], 1.001 * full_bytes)
        one_layer, hidden = full_bytes / 30, n * 576 * 4
        for press in ("curdkv", "adacurdkv"):
            run = runs[press]
            self.assertEqual(run["kv_bytes_full"], full_bytes)
            self.assertLessEqual(run["kv_bytes"], 0.205 * full_bytes)
            self.assertLessEqual(run["kv_bytes_peak"], run["kv_bytes"] + 1.2 * one_layer + 1.02 * hidden)
            freed = full["rss_peak_bytes"] - run["rss_peak_bytes"]
            promised = full["kv_bytes_peak"] - run["kv_bytes_peak"]
            print(f"{press}: {n} tokens, KV {run['kv_bytes'] / 2**20:.1f} of {full_bytes / 2**20:.1f} MiB "
                  f"({run['kv_bytes'] / full_bytes:.4f}), peak {run['kv_bytes_peak'] / 2**20:.1f} against "
                  f"{full['kv_bytes_peak'] / 2**20:.1f} MiB; peak RSS lower by {freed / 2**20:.1f} MiB, "
                  f"reported {promised / 2**20:.1f} MiB")
            self.assertAlmostEqual(freed / promised, 1, delta=0.05)


class Interrupt(Case):
    def test_stops_within_a_second(self):
        for delay in (0.3, 1.0):  # while it loads, and while it reads: one thread takes seconds for that
            run = subprocess.Popen([CURDKV, "run", "-m", MODEL, "-f", REPORT, "-q", "x", "-t", "1", "--json"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            time.sleep(delay)
            run.send_signal(signal.SIGINT)
            start = time.time()
            out, err = run.communicate(timeout=60)
            self.assertLess(time.time() - start, 1.0)
            self.assertEqual((run.returncode, out), (130, ""), err)


class Demo(Case):
    def test_answers_hold_the_facts(self):
        # The demo's questions, whichever kernel rounds.
        for kernel in ("ggml", "auto"):
            out = self.json("run", "-m", MODEL, "-f", REPORT, "--json", "-t", "2", "-n", "32",
                            "--compare-full", "--prefill-kernel", kernel,
                            "-q", "What is the name of the harbour engineer?",
                            "-q", "What was the total cost of the rebuilding?",
                            "-q", "What is the name of the quarry the granite came from?")
            self.assertGreaterEqual(out["n_context_tokens"], 4000)
            for answer, fact in zip(out["answers"], ("Ingrid Solheim", "38 million", "Oldervik")):
                self.assertIn(fact, answer["answer"])
                self.assertIn(fact, answer["full"]["answer"])


class NothingSaid(Case):
    def test_the_default_spoils_no_simple_answer(self):
        facts = ("The harbour master of Tollvik is Mara Lindqvist. The bridge opened in 1962. The red warehouse stores 418 "
                 "barrels of tar. ")
        rain = "Rain fell on the quay for most of the morning and the gulls stayed on the roof of the office. "
        asked = ("-q", "Who is the harbour master of Tollvik?", "-q", "In which year did the bridge open?",
                 "-q", "How many barrels of tar are stored in the red warehouse?")
        ask = ("run", "-m", MODEL, "-t", "2", "-p", facts + 20 * rain, "-n", "24", "--json", *asked)
        default = [a["answer"] for a in self.json(*ask)["answers"]]
        full = [a["answer"] for a in self.json(*ask, "--press", "none")["answers"]]
        self.assertEqual(default, full)
        self.assertIn("Mara Lindqvist", full[0])


if __name__ == "__main__":
    unittest.main()
