#!/usr/bin/env python3
"""curdkv with less and less memory to be had (ulimit -v): how each run ends. Prints Markdown.

    bench/address_space.py -m MODEL.gguf [-f DOCUMENT] [--levels 20]

Exits with 1 if any run ends in another way than with an answer or with exit code 1 and one message.
"""
import argparse
import collections
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
LOADER = 56  # MiB that the system takes to load the program with its libraries


def end_of(command, limit):
    """(exit code, last line of stderr) with at most `limit` bytes of address space."""
    def restrict():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, preexec_fn=restrict)
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--file", default=HERE.parent / "demo" / "harbour_report.txt")
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--program", default=HERE.parent / "build" / "curdkv")
    args = parser.parse_args()
    bad = 0
    print("| command | needs, MiB | limits, MiB | how it ended |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        commands = {
            "run": [args.program, "run", "-m", args.model, "-f", args.file, "-q", "What is this?", "-n", "4"],
            "eval": [args.program, "eval", "-m", args.model, "--task", "niah_single_1", "--samples", "1", "--context-tokens",
                     "2048", "--press", "knorm", "-o", os.path.join(folder, "results.jsonl")]}
        for name, command in commands.items():
            def fresh(limit, command=command):
                for f in pathlib.Path(folder).iterdir():
                    f.unlink()
                return end_of(command, limit)
            low, high = 1, 16384
            while high - low > 4:
                middle = (low + high) // 2
                low, high = (low, middle) if fresh(middle << 20)[0] == 0 else (middle, high)
            ends = collections.Counter()
            limits = [round(LOADER + (high - LOADER) * (i + 0.5) / args.levels) for i in range(args.levels)]
            for limit in limits:
                code, message = fresh(limit << 20)
                print(name, limit, code, message, file=sys.stderr, flush=True)
                well = code == 1 and "error" in message
                # Below some 30 MiB the loader of the operating system has the word, not the program.
                loader = code == 127 or (code == 1 and "error while loading shared libraries" in message)
                bad += not (well or code == 0 or loader)
                ends[f"exit code {code}" + (", a message" if well else "")] += 1
            print(f"| `{name}` | {high} | {limits[0]} to {limits[-1]} | "
                  + "; ".join(f"{n} x {end}" for end, n in ends.items()) + " |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
