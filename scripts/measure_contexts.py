#!/usr/bin/env python3
"""What saving and opening a context costs (docs/results.md, "Saved contexts"): bytes, times, and pages that two
processes share. Rounds are interleaved; medians are printed with the least and the most.
usage: measure_contexts.py CURDKV MODEL DOCUMENT [ROUNDS] [THREADS]"""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

curdkv, model, document = sys.argv[1:4]
n_rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
threads = sys.argv[5] if len(sys.argv) > 5 else "2"
folder = tempfile.TemporaryDirectory()
context = os.path.join(folder.name, "saved.kvc")
PRESS = ("--press", "adacurdkv", "--compression-ratio", "0.8")
QUESTIONS = [a for q in ("What was decided?", "Who was the engineer?", "What did it cost in all?") for a in ("-q", q)]


def result(command, *args):
    args = (curdkv, command, "-m", model, "-t", threads, *args, "--json")
    return json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)


def told(what, values, unit="ms"):
    print(f"{what:44} {statistics.median(values):10.1f} {unit}  ({min(values):.1f} to {max(values):.1f})")


def pss_of_context(n_processes):
    """Proportional set size, in KiB, of the file in all processes while they generate."""
    args = (curdkv, "run", "-m", model, "-t", "1", "--context", context, *8 * ("-q", "Tell me all of it."), "-n", "400")
    running = [subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(n_processes)]
    for process in running:
        while b"restored" not in process.stderr.readline():
            pass
    time.sleep(0.3)  # every page was looked at when the file was opened
    total = 0
    for process in running:
        with open(f"/proc/{process.pid}/smaps") as smaps:
            for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps.read()):
                if "saved.kvc" in mapping.split("\n")[0]:
                    total += int(re.search(r"^Pss: +(\d+) kB", mapping, re.MULTILINE)[1])
    for process in running:
        process.kill()
        process.wait()
        process.stderr.close()
    return total


save, restore, in_memory, from_file, reading = [], [], [], [], []
for _ in range(n_rounds):
    saved = result("compress", "-f", document, *PRESS, "-o", context)
    save.append(saved["save_ms"])
    read = result("run", "-f", document, *PRESS, *QUESTIONS, "-n", "2")
    opened = result("run", "--context", context, *QUESTIONS, "-n", "2")
    assert [a["answer"] for a in read["answers"]] == [a["answer"] for a in opened["answers"]]
    reading.append(read["prefill_ms"])
    restore.append(opened["restore_ms"])
    in_memory += [a["question_ms"] for a in read["answers"]]
    from_file += [a["question_ms"] for a in opened["answers"]]
print(f"{saved['n_context_tokens']} tokens; cache {saved['kv_bytes']} bytes, file {saved['file_bytes']}: "
      f"{saved['file_bytes'] / saved['kv_bytes']:.4f} times; full cache {saved['kv_bytes_full']}")
told("reading", reading)
told("saving, on the disk", save)
told("opening, all checked", restore)
told("question to first token, in memory", in_memory)
told("question to first token, from the file", from_file)
print(f"{'reading against opening':44} {statistics.median(reading) / statistics.median(restore):10.0f} times")
for n in (1, 2):
    print(f"{'PSS of the file in ' + str(n) + (' process' if n == 1 else ' processes together'):44} {pss_of_context(n):10} KiB")
