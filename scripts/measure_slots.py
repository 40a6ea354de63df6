#!/usr/bin/env python3
"""Saved contexts beside the slots that llama-server saves and restores (docs/results.md, "Saved contexts"): bytes,
times, and how much of the prompt is read again afterwards. Each round restores in fresh processes, the engines in
turn; medians are printed with the least and the most.
usage: measure_slots.py CURDKV LLAMA_SERVER MODEL DOCUMENT [ROUNDS] [THREADS]"""
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

curdkv, llama_server, model, document = sys.argv[1:5]
n_rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 3
threads = sys.argv[6] if len(sys.argv) > 6 else "2"
folder = tempfile.TemporaryDirectory()
QUESTION = "What is this text about, and who wrote it?"
PRESSES = {"full cache": ("--press", "none"), "adacurdkv 0.8": ("--press", "adacurdkv", "--compression-ratio", "0.8")}
with open(document) as file:
    text = file.read()
told = {}


def note(what, value):
    told.setdefault(what, []).append(value)


class Server:
    """llama-server with one slot, which its files lie beside."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [llama_server, "-m", model, "-t", threads, "-c", str(n_context + 1024), "-np", "1", "--slot-save-path",
             folder.name + "/", "--port", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health")
                break
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None:
                    sys.exit("llama-server ended early")
                time.sleep(0.1)

    def post(self, path, **body):
        """The reply, and the milliseconds until it was there."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        start = time.monotonic()
        with urllib.request.urlopen(request) as reply:
            return json.load(reply), 1000 * (time.monotonic() - start)

    def ask(self, prompt, n_predict):
        reply, ms = self.post("/completion", prompt=prompt, n_predict=n_predict, temperature=0, cache_prompt=True, id_slot=0)
        return reply["timings"], ms

    def end(self):
        self.process.terminate()
        self.process.wait()


def ours(command, *args):
    done = subprocess.run((curdkv, command, "-m", model, "-t", threads, *args, "--json"), check=True, capture_output=True)
    return json.loads(done.stdout)


n_context = 0
for name, press in PRESSES.items():
    saved = ours("compress", "-f", document, *press, "-o", os.path.join(folder.name, name))
    n_context = saved["n_context_tokens"]
    note(f"curdkv, {name}: tokens", n_context)
    note(f"curdkv, {name}: file, bytes", saved["file_bytes"])
    note(f"curdkv, {name}: reading, ms", saved["prefill_ms"])
    note(f"curdkv, {name}: saving, ms", saved["save_ms"])
server = Server()
read, _ = server.ask(text, 0)
note("llama-server: tokens", read["prompt_n"])
note("llama-server: reading, ms", read["prompt_ms"])
for _ in range(n_rounds):
    reply, ms = server.post("/slots/0?action=save", filename="slot.bin")
    note("llama-server: saving, ms", ms)
note("llama-server: file, bytes", reply["n_written"])
server.end()
for _ in range(n_rounds):
    server = Server()
    _, ms = server.post("/slots/0?action=restore", filename="slot.bin")
    note("llama-server: restoring, ms", ms)
    answer, ms = server.ask(text + "\n" + QUESTION, 1)
    note("llama-server: tokens read for the question", answer["prompt_n"])
    note("llama-server: question to first token, ms", ms)
    server.end()
    for name in PRESSES:
        run = ours("run", "--context", os.path.join(folder.name, name), "-q", QUESTION, "-n", "1")
        note(f"curdkv, {name}: restoring, all checked, ms", run["restore_ms"])
        note(f"curdkv, {name}: question to first token, ms", run["answers"][0]["question_ms"])
for what, values in sorted(told.items()):
    print(f"{what:56} {statistics.median(values):12.1f}  ({min(values):.1f} to {max(values):.1f})")
