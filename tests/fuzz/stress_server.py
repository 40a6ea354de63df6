#!/usr/bin/env python3
"""Loads and breaks a curdkv serve, and looks at what comes of it.

usage: stress_server.py CURDKV MODEL [canaries|crowd|kills|disk|cluster ...]   (default: all; a tiny model will do)

canaries   200 documents, memory for ten, 5,000 questions at random by 8 clients: every answer is that document's own
crowd      256 connections at once, among them slow readers and writers, half-closed and broken ones, for SECONDS (60)
kills      20 times: kill -9 under load, start again; contexts are there and answer as before
disk       files may not grow: saving is refused by an error, and answers go on
cluster    three servers over one folder behind nginx (examples/nginx.conf): a document that all are given is read
           once, and one of them is killed while clients ask: every answer comes, and is right
SECONDS, REQUESTS and DOCUMENTS in the environment change the sizes.
"""
import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

CURDKV, MODEL = sys.argv[1:3]
SECONDS = int(os.environ.get("SECONDS", 60))
REQUESTS = int(os.environ.get("REQUESTS", 5000))
DOCUMENTS = int(os.environ.get("DOCUMENTS", 200))


class Server:
    def __init__(self, *options, **more):
        self.log = tempfile.TemporaryFile("w+")
        options = ("--port", "0", *options)
        self.process = subprocess.Popen([CURDKV, "serve", "-m", MODEL, "-t", "2", "--quiet", *options],
                                        stderr=self.log, **more)
        for _ in range(3000):
            found = re.search(r"127\.0\.0\.1:(\d+)", self.said())
            if found:
                self.port = int(found.group(1))
                return
            time.sleep(0.02)
        raise SystemExit("the server did not start:\n" + self.said())

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024

    def ask(self, method, path, body=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        finally:
            connection.close()

    def answer(self, context, question="Which?", n=8):
        return self.ask("POST", "/v1/chat/completions", {"context": context, "max_tokens": n, "messages": [
            {"role": "user", "content": question}]})

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        said = self.said()
        if code != 0 or "Sanitizer" in said:
            raise SystemExit(f"the server ended with {code}:\n{said[-5000:]}")


def text_of(reply):
    status, body = reply
    if status != 200:
        raise SystemExit(f"{status}: {body}")
    return body["choices"][0]["message"]["content"]


def canaries(folder):
    server = Server("--press", "adacurdkv", "--compression-ratio", "0.5", "--contexts", folder, "--context-memory", "2", "-np", "8")
    ids, sizes = [], []
    for i in range(DOCUMENTS):
        status, made = server.ask("POST", "/v1/contexts", {"document": f"canary-{i * 7919 % 10007} sings in house {i}. " * 60})
        assert status == 200, made
        ids.append(made["id"])
        sizes.append(made["kv_bytes"])
    print(f"{DOCUMENTS} contexts of {sizes[0] >> 10} KiB each, {server.rss():.0f} MiB resident", flush=True)
    expected = [text_of(server.answer(i)) for i in ids]
    print(f"{len(set(expected))} different answers", flush=True)
    before, wrong, lock, left = server.rss(), [], threading.Lock(), [REQUESTS]

    def client(seed):
        r = random.Random(seed)
        while True:
            with lock:
                if left[0] == 0:
                    return
                left[0] -= 1
            i = r.randrange(len(ids))
            if text_of(server.answer(ids[i])) != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=client, args=(s,)) for s in range(8)]
    begun = time.time()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    status, listed = server.ask("GET", "/v1/contexts")
    held = sum(c["kv_bytes"] for c in listed["data"] if c["in_memory"])
    print(f"{REQUESTS} questions in {time.time() - begun:.0f} s: {len(wrong)} wrong answers; {held >> 10} KiB of contexts in memory; "
          f"resident {before:.0f} -> {server.rss():.0f} MiB")
    server.stop()
    return not wrong and held <= 2 << 20


def crowd(folder):
    server = Server("--press", "none", "-np", "4", "--queue", "32", "--client-timeout", "5", "--max-connections", "300")
    status, made = server.ask("POST", "/v1/contexts", {"document": "An ant is a thing. " * 80})
    context, end = made["id"], time.time() + SECONDS
    expected = text_of(server.answer(context))
    counts, lock = {}, threading.Lock()

    def count(what):
        with lock:
            counts[what] = counts.get(what, 0) + 1

    def polite():
        while time.time() < end:
            try:
                reply = server.answer(context)
                if reply[0] == 200:
                    count("answered" if text_of(reply) == expected else "WRONG")
                else:
                    count(f"refused {reply[0]} {reply[1]['error']['code']}")
                    time.sleep(0.05)
            except (OSError, http.client.HTTPException) as e:
                count(f"no answer ({type(e).__name__})")

    def rude(seed):
        r = random.Random(seed)
        body = json.dumps({"prompt": "ant", "max_tokens": 200, "stream": True, "ignore_eos": True}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        while time.time() < end:
            try:
                with socket.create_connection(("127.0.0.1", server.port), timeout=20) as s:
                    kind = r.randrange(5)
                    if kind == 0:  # writes slowly, and not to the end
                        for byte in head[:r.randrange(1, 30)]:
                            s.sendall(bytes([byte]))
                            time.sleep(0.05)
                    elif kind == 1:  # reads slowly
                        s.sendall(head + body)
                        for _ in range(10):
                            s.recv(10)
                            time.sleep(0.2)
                    elif kind == 2:  # half-closed
                        s.sendall(head + body)
                        s.shutdown(socket.SHUT_WR)
                        while s.recv(4096):
                            pass
                    elif kind == 3:  # leaves at once
                        s.sendall(head + body)
                    else:  # says nothing
                        time.sleep(r.random() * 3)
                    count("rude ones")
            except OSError:
                count("rude ones cut off")

    threads = [threading.Thread(target=polite) for _ in range(128)] + [threading.Thread(target=rude, args=(s,)) for s in range(128)]
    for t in threads:
        t.start()
    first = None
    while time.time() < end:
        time.sleep(SECONDS / 10)
        first = first or server.rss()
    for t in threads:
        t.join()
    print(json.dumps(counts), f"resident {first:.0f} -> {server.rss():.0f} MiB", flush=True)
    for _ in range(200):
        if server.answer(context)[0] == 200:
            break
        time.sleep(0.05)
    well = text_of(server.answer(context)) == expected
    server.stop()
    return well and not any(what.startswith(("WRONG", "no answer")) for what in counts)


def kills(folder):
    options = ("--press", "adacurdkv", "--compression-ratio", "0.5", "--contexts", folder, "-np", "4")
    server = Server(*options)
    ids = [server.ask("POST", "/v1/contexts", {"document": f"An ant of kind {i}. " * 80})[1]["id"] for i in range(5)]
    expected = [text_of(server.answer(i)) for i in ids]
    r = random.Random(1)
    for n in range(20):
        def load(i):
            try:
                for k in range(100):
                    server.ask("POST", "/v1/contexts", {"document": f"Another {n} {i} {k}. " * 80})
                    server.answer(ids[i])
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                pass

        threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        time.sleep(0.1 + r.random())
        server.process.kill()
        server.process.wait()
        for t in threads:
            t.join()
        server = Server(*options)
        for i, e in zip(ids, expected):
            if text_of(server.answer(i)) != e:
                print(f"after kill {n}, {i} answers otherwise")
                return False
        status, listed = server.ask("GET", "/v1/contexts")
        ok = [text_of(server.answer(c["id"])) for c in listed["data"]]
    left = [f for _, _, files in os.walk(folder) for f in files if f.startswith(".curdkv-")]
    print(f"20 kills: {len(ok)} contexts are there, all answer; {len(left)} unfinished files are left")
    server.stop()
    return True


def disk(folder):
    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))

    server = Server("--press", "none", "--contexts", folder, preexec_fn=small)
    status, told = server.ask("POST", "/v1/contexts", {"document": "An ant. " * 400})
    print(status, told)
    fine = status == 500 and folder not in json.dumps(told)
    status, told = server.ask("POST", "/v1/chat/completions", {"max_tokens": 4, "messages": [
        {"role": "user", "content": "An ant. " * 400 + "\n\nWhy?"}]})
    server.stop()
    return fine and status == 200


class Proxy:
    """nginx as examples/nginx.conf has it, before the servers."""

    def __init__(self, servers, folder):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        example = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "nginx.conf")
        with open(example) as file:
            text = file.read().replace("listen 8080;", f"listen 127.0.0.1:{self.port};")
        for i, server in enumerate(servers):
            text = text.replace(f"127.0.0.1:{8081 + i} ", f"127.0.0.1:{server.port} ")
        paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(os.path.join(folder, "nginx.conf"), "w") as file:
            user = "user root;" if os.getuid() == 0 else ""
            file.write(f"{user} pid {folder}/pid; error_log {folder}/errors; daemon off; events {{}}\n"
                       f"http {{ access_log off; {paths}\n{text}}}\n")
        self.process = subprocess.Popen(["nginx", "-p", folder, "-c", os.path.join(folder, "nginx.conf")])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("nginx did not start")

    def answer(self, context):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps({
                "context": context, "max_tokens": 8, "messages": [{"role": "user", "content": "Which?"}]}), {"X-Context": context})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


def cluster(folder):
    if not shutil.which("nginx"):
        print("nginx is not installed: nothing was tried")
        return False
    contexts, others = os.path.join(folder, "contexts"), os.path.join(folder, "nginx")
    os.mkdir(contexts)
    os.mkdir(others)
    options = ("--press", "adacurdkv", "--compression-ratio", "0.5", "--contexts", contexts, "-np", "8", "--allowed-host", "*")
    servers = [Server(*options) for _ in range(3)]
    document, made = "An ant of a kind of its own. " * 2000, []
    threads = [threading.Thread(target=lambda s=s: made.append(s.ask("POST", "/v1/contexts", {"document": document})[1]))
               for s in servers]
    for t in threads:
        t.start()
    for t in threads:
        t.join()

    def tokens_read(server):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", "/metrics")
        return int(re.search(r"curdkv:context_tokens_read_total (\d+)", connection.getresponse().read().decode()).group(1))

    read, n = [tokens_read(s) for s in servers], made[0]["n_tokens"]
    print(f"a document of {n} tokens given to three servers at once: they read {read} tokens", flush=True)
    once = sum(read) == n and len({m["id"] for m in made}) == 1
    ids = [servers[0].ask("POST", "/v1/contexts", {"document": f"An ant of kind {i}. " * 80})[1]["id"] for i in range(12)]
    expected = {i: text_of(servers[0].answer(i)) for i in ids}
    proxy, results, lock, end = Proxy(servers, others), [], threading.Lock(), time.time() + min(SECONDS, 60)

    def client(seed):
        r = random.Random(seed)
        while time.time() < end:
            i = r.choice(ids)
            try:
                status, reply = proxy.answer(i)
                what = "right" if status == 200 and reply["choices"][0]["message"]["content"] == expected[i] else f"{status}: {reply}"
            except (OSError, ValueError, http.client.HTTPException) as error:
                what = repr(error)
            with lock:
                results.append(what)

    threads = [threading.Thread(target=client, args=(s,)) for s in range(8)]
    for t in threads:
        t.start()
    time.sleep(min(SECONDS, 60) / 3)
    servers[1].process.kill()
    servers[1].process.wait()
    n_before = len(results)
    time.sleep(min(SECONDS, 60) / 3)
    servers[1] = Server(*options, "--port", str(servers[1].port))
    for t in threads:
        t.join()
    wrong = [r for r in results if r != "right"]
    print(f"{len(results)} questions, one of three servers killed after {n_before} and started again: {len(wrong)} without the "
          f"right answer {wrong[:3]}")
    proxy.process.terminate()
    proxy.process.wait()
    for s in servers:
        s.stop()
    return once and not wrong


def main():
    wanted = sys.argv[3:] or ["canaries", "crowd", "kills", "disk", "cluster"]
    failed = []
    for name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            print(f"== {name}", flush=True)
            if not globals()[name](folder):
                failed.append(name)
    print("failed: " + ", ".join(failed) if failed else "all well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
