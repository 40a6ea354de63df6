#!/usr/bin/env python3
"""Several clients ask about one document: curdkv serve beside llama-server, both warm, in turns.

usage: measure_server.py --curdkv build/curdkv --llama-server llama-server -m MODEL -f DOCUMENT [--clients 8] [--rounds 5]

With --while-reading FILE (curdkv alone): how long an answer's tokens take while that document is read.

Each round, every client asks a new question of its own of one server, all at once, and takes 64 tokens; then the same
of the other.
Told are tokens a second of all clients together and the time to the first token, per round, and their ratios.
"""
import argparse
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

QUESTIONS = ["What is this text about?", "Which people are named in it?", "What happens first?", "What happens last?",
             "Which places are named?", "Which numbers matter?", "What was decided, and by whom?", "What remains open?"]


def stream(port, path, body, times=None):
    """(seconds to the first token, seconds to the last, tokens); each token's time is appended to `times`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3600)
    begun = time.perf_counter()
    connection.request("POST", path, json.dumps({**body, "stream": True}), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{path}: {response.status}: {response.read()[:500]}")
    first, n, last = None, 0, begun
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        for choice in event["choices"]:
            if choice["delta"].get("content"):
                last = time.perf_counter()
                first = first or last
                n += 1
                if times is not None:
                    times.append(last)
    connection.close()
    return (first or last) - begun, last - begun, n


class Engine:
    def __init__(self, command, ready):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while True:
            self.log.seek(0)
            found = re.search(ready, self.log.read())
            if found:
                self.port = int(found.group(1))
                return
            if self.process.poll() is not None:
                self.log.seek(0)
                raise SystemExit(self.log.read())
            time.sleep(0.1)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def ask_all(port, bodies, ending):
    bodies = [{**b, "messages": [{"role": "user", "content": b["messages"][0]["content"] + ending}]} for b in bodies]
    results = [None] * len(bodies)

    def ask(i):
        results[i] = stream(port, "/v1/chat/completions", bodies[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    begun = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wall = time.perf_counter() - begun
    return sum(n for _, _, n in results) / wall, statistics.median(first for first, _, _ in results)


def while_reading(engine, body, text):
    """Seconds between an answer's tokens, without and with a document being read meanwhile."""
    def gaps(times):
        return [b - a for a, b in zip(times, times[1:])]

    alone = []
    stream(engine.port, "/v1/chat/completions", {**body, "max_tokens": 100}, alone)
    state, times = {}, []

    def read():
        begun = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=3600)
        connection.request("POST", "/v1/contexts", json.dumps({"document": text}))
        state["context"] = json.loads(connection.getresponse().read())
        state["end"] = time.perf_counter()
        state["seconds"] = state["end"] - begun

    reading = threading.Thread(target=read)
    reading.start()
    time.sleep(1)
    while reading.is_alive():
        some = []
        stream(engine.port, "/v1/chat/completions", {**body, "max_tokens": 100}, some)
        times += gaps([t for t in some if t < state.get("end", float("inf"))])
    reading.join()
    return gaps(alone), times, state


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--curdkv", required=True)
    p.add_argument("--llama-server")
    p.add_argument("-m", required=True)
    p.add_argument("-f", required=True)
    p.add_argument("-t", default="2")
    p.add_argument("--clients", type=int, default=8)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--n-ctx", type=int, default=9216, help="of one slot of llama-server's")
    p.add_argument("--while-reading", metavar="FILE")
    p.add_argument("--press", default="recommended")
    p.add_argument("--ratio", type=float, default=0.8)
    o = p.parse_args()
    document = open(o.f).read()
    n = o.clients
    common = {"max_tokens": 64, "temperature": 0, "ignore_eos": True}
    ours = Engine([o.curdkv, "serve", "-m", o.m, "-t", o.t, "-np", str(n), "--port", "0", "--quiet"], r"127\.0\.0\.1:(\d+)")
    questions = [QUESTIONS[i % len(QUESTIONS)] + " " * (i // len(QUESTIONS)) for i in range(n)]
    connection = http.client.HTTPConnection("127.0.0.1", ours.port, timeout=3600)
    begun = time.perf_counter()
    connection.request("POST", "/v1/contexts", json.dumps({"document": document, "press": o.press, "compression_ratio": o.ratio}))
    context = json.loads(connection.getresponse().read())
    print(json.dumps({"read_s": round(time.perf_counter() - begun, 2), "n_tokens": context["n_tokens"],
                      "kv_bytes": context["kv_bytes"], "kv_bytes_full": context["kv_bytes_full"]}), flush=True)
    sides = {"curdkv": (ours, [{**common, "context": context["id"], "messages": [{"role": "user", "content": q}]}
                               for q in questions])}
    if o.llama_server:
        theirs = Engine([o.llama_server, "-m", o.m, "-t", o.t, "-np", str(n), "-c", str(n * o.n_ctx), "--port", "18089",
                         "--no-webui", "-fa", "on"], r"listening on http://127\.0\.0\.1:(\d+)")
        sides["llama-server"] = (theirs, [{**common, "id_slot": i, "cache_prompt": True,
                                           "messages": [{"role": "user", "content": document + "\n\n" + q}]}
                                          for i, q in enumerate(questions)])
    if o.while_reading:
        alone, reading, state = while_reading(ours, sides["curdkv"][1][0], open(o.while_reading).read())
        median, worst = statistics.median, lambda x: sorted(x)[int(0.95 * len(x))]
        print(json.dumps({"reading_tokens": state["context"]["n_tokens"], "reading_s": round(state["seconds"], 2),
                          "between_tokens_ms": round(1000 * median(alone), 1),
                          "between_tokens_while_reading_ms": round(1000 * median(reading), 1), "n": len(reading),
                          "ratio": round(median(reading) / median(alone), 2),
                          "ratio_95_percent": round(worst(reading) / worst(alone), 2)}), flush=True)
        ours.stop()
        return
    told = {name: [] for name in sides}
    for r in range(-1, o.rounds):  # the first one warms
        for name, (engine, bodies) in sides.items():
            rate, first = ask_all(engine.port, bodies, f"\nAnswer in {r + 20} words.")
            print(json.dumps({"round": r, "side": name, "tokens_per_second": round(rate, 2), "first_token_s": round(first, 3)}),
                  flush=True)
            if r >= 0:
                told[name].append((rate, first))
    for engine, _ in sides.values():
        engine.stop()
    if len(sides) == 2:
        rates = [a[0] / b[0] for a, b in zip(told["curdkv"], told["llama-server"])]
        firsts = [a[1] / b[1] for a, b in zip(told["curdkv"], told["llama-server"])]
        for name, values in (("tokens_per_second", rates), ("first_token", firsts)):
            print(json.dumps({"ratio": name, "median": round(statistics.median(values), 3),
                              "min": round(min(values), 3), "max": round(max(values), 3)}))


if __name__ == "__main__":
    sys.exit(main())
