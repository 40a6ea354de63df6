#!/usr/bin/env python3
"""Pages that processes share of a saved context (docs/results.md, "Saved contexts"), and whether 'run --context'
answers as the run that read the document. build/saved measures the rest.
usage: measure_contexts.py CURDKV MODEL DOCUMENT [THREADS]"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

curdkv, model, document = sys.argv[1:4]
threads = sys.argv[4] if len(sys.argv) > 4 else "2"
folder = tempfile.TemporaryDirectory()
context = os.path.join(folder.name, "saved.kvc")
PRESS = ("--press", "adacurdkv", "--compression-ratio", "0.8")
QUESTIONS = [a for q in ("What was decided?", "Who was the engineer?", "What did it cost in all?") for a in ("-q", q)]


def result(command, *args):
    args = (curdkv, command, "-m", model, "-t", threads, *args, "--json")
    return json.loads(subprocess.run(args, check=True, capture_output=True, text=True).stdout)


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


saved = result("compress", "-f", document, *PRESS, "-o", context)
read = result("run", "-f", document, *PRESS, *QUESTIONS, "-n", "32")
opened = result("run", "--context", context, *QUESTIONS, "-n", "32")
same = [a["answer"] == b["answer"] for a, b in zip(read["answers"], opened["answers"])]
print(f"{saved['n_context_tokens']} tokens, file {saved['file_bytes']} bytes; same answers: {sum(same)} of {len(same)}")
for n in (1, 2):
    print(f"PSS of the file in {n} process{'' if n == 1 else 'es together'}: {pss_of_context(n)} KiB")
