#!/usr/bin/env python3
"""Prefill and decoding on a quiet machine, beside busy threads, and with more threads than processors: curdkv and
llama.cpp in turn, each in a process of its own. Prints Markdown; every measurement goes to stderr as a JSON line.

    bench/load.py -m MODEL.gguf --llama FOLDER_OF_LLAMA_BENCH [-p 2048] [-n 32] [-r 5] [--program build/curdkv ...]

Rates are medians over the repetitions, with the least and the greatest; "times as long" compares with the same
engine alone on the quiet machine.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def run_curdkv(program, args, threads):
    out = subprocess.run(
        [program, "bench", "-m", args.model, "-d", str(args.n_prompt), "-n", str(args.n_gen), "-r", "1", "-t", str(threads),
         "--tests", "prefill,decode", "-o", "jsonl"], capture_output=True, text=True, check=True).stdout
    rows = [json.loads(line) for line in out.splitlines()]
    return {r["test"]: r["median_ts"] for r in rows if r["test"] in ("prefill", "decode")}


def run_llama(program, args, threads):
    common = [program, "-m", args.model, "-t", str(threads), "-r", "1", "-o", "jsonl", "-fa", "1"]
    rate = lambda *more: json.loads(subprocess.run([*common, *more], capture_output=True, text=True, check=True)
                                    .stdout.splitlines()[-1])["avg_ts"]
    return {"prefill": rate("-p", str(args.n_prompt), "-n", "0"),
            "decode": rate("-p", "0", "-n", str(args.n_gen), "-d", str(args.n_prompt))}


class Busy:
    """So many threads that do nothing but compute."""

    def __init__(self, n):
        self.n = n

    def __enter__(self):
        self.spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(self.n)]

    def __exit__(self, *_):
        for p in self.spinning:
            p.kill()
            p.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-p", "--n-prompt", type=int, default=2048)
    parser.add_argument("-n", "--n-gen", type=int, default=32)
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument("--program", nargs="+", default=[HERE.parent / "build" / "curdkv"], help="builds of curdkv, compared")
    parser.add_argument("--llama", help="folder with llama-bench")
    args = parser.parse_args()
    n = len(os.sched_getaffinity(0))
    states = [("quiet", n, 0), (f"beside {n} busy threads", n, n), (f"-t {2 * n} on {n} processors", 2 * n, 0)]
    engines = [(str(p), run_curdkv, p) for p in args.program]
    if args.llama:
        engines.append(("llama.cpp", run_llama, pathlib.Path(args.llama) / "llama-bench"))
    results = {}
    for repetition in range(args.repetitions):
        for state, threads, n_busy in states:
            for name, run, program in engines:
                with Busy(n_busy):
                    rates = run(program, args, threads)
                print(json.dumps(dict(engine=name, state=state, threads=threads, repetition=repetition, **rates)),
                      file=sys.stderr, flush=True)
                for test, rate in rates.items():
                    results.setdefault((state, test, name), []).append(rate)
    print("| state | test | engine | t/s (least to greatest) | times as long as quiet |\n|---|---|---|---|---|")
    for state, _, _ in states:
        for test in ("prefill", "decode"):
            for name, _, _ in engines:
                rates = results[state, test, name]
                quiet = statistics.median(results[states[0][0], test, name])
                middle = statistics.median(rates)
                print(f"| {state} | {test} | {name} | {middle:.1f} ({min(rates):.1f} to {max(rates):.1f}) | "
                      f"{quiet / middle:.2f} |")


if __name__ == "__main__":
    main()
