#!/usr/bin/env python3
"""Sends a running curdkv serve malformed and odd requests; tells of hangs and of connections that end without reason.

usage: fuzz_server.py PORT [N [SEED]]

Bodies are JSON requests with fields left out, doubled, swapped for other kinds, and bytes changed; headers are likewise.
Whether the server is alive afterwards, and what its sanitizers say, is for who started it to look at: at the end it is
asked for its health, and that must be told.
"""
import json
import random
import socket
import sys
import time

CHAT = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "ant"}], "max_tokens": 1,
        "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 1, "stop": ["x"], "n": 1, "stream": False, "logprobs": True,
        "top_logprobs": 2, "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto", "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}},
        "continue_final_message": True, "press": "adacurdkv", "compression_ratio": 0.5, "context": "0" * 32, "logit_bias": {"5": 1},
        "chat_template_kwargs": {"enable_thinking": True}, "grammar": "root ::= \"a\"", "stream_options": {"include_usage": True}}
COMPLETION = {"prompt": "ant", "max_tokens": 1, "echo": True, "logprobs": 2, "stop": "b", "grammar": "root ::= [a-z]*"}
BODIES = [("/v1/chat/completions", CHAT), ("/v1/completions", COMPLETION),
          ("/v1/contexts", {"document": "ant " * 20, "name": "a", "press": "none", "stream": True}),
          ("/tokenize", {"content": "ant", "add_special": True, "with_pieces": True}), ("/detokenize", {"tokens": [1, 2]}),
          ("/apply-template", {"messages": CHAT["messages"], "tools": CHAT["tools"]}),
          ("/v1/contexts/" + "0" * 32, {"pinned": True}), ("/v1/contexts/upload", {"a": 1})]
ODD = [None, True, False, 0, -1, 1e308, -1e308, 2**63, -2**63, 0.1, "", "x", "\u0000", "\ud83d\ude00", "<|im_end|>", [], {}, [[]],
       [None], {"a": None}, "a" * 500, list(range(50)), {"type": "object"}, {"$ref": "#"}, {"pattern": "(a*)*b"}, "../../x"]
GRAMMARS = ["root ::= root", "root ::= a\na ::= root | \"\"", "root ::= \"a\"{1,100000}", "root ::= ((((((a", "", "root ::= [", "x"]
SCHEMAS = [{"type": "string", "pattern": "^(a|b){1,50}$"}, {"$ref": "#/definitions/x", "definitions": {"x": {"$ref": "#/definitions/x"}}},
           {"type": "array", "minItems": 100000}, {"enum": []}, {"oneOf": [{}, {"type": 3}]}, {"type": ["object", 3]},
           {"properties": {"a": {"properties": {"b": 3}}}}, {"minimum": -2**62, "maximum": 2**62, "type": "integer"}]
METHODS = ["GET", "POST", "DELETE", "OPTIONS", "PUT", "HEAD", "PATCH", "TRACE", "G" * 100, ""]


class Fuzzer:
    def __init__(self, port, seed):
        self.port, self.random = port, random.Random(seed)
        self.socket = None

    def mutate(self, value):
        r = self.random
        if r.random() < 0.15:
            return r.choice(ODD)
        if isinstance(value, dict):
            out = {k: (self.mutate(v) if r.random() < 0.25 else v) for k, v in value.items() if r.random() > 0.06}
            if "grammar" in out and r.random() < 0.3:
                out["grammar"] = r.choice(GRAMMARS)
            if "json_schema" in out and r.random() < 0.5:
                out["json_schema"] = {"schema": r.choice(SCHEMAS)}
            return out
        if isinstance(value, list):
            return [self.mutate(v) for v in value] * r.choice([0, 1, 1, 1, 2])
        return r.choice(ODD) if r.random() < 0.3 else value

    def body(self):
        r = self.random
        path, template = r.choice(BODIES)
        if path == "/v1/chat/completions":  # most together are refused at once: a few at a time
            keep = set(r.sample(sorted(CHAT), r.randint(0, 5))) | {"messages", "max_tokens"}
            template = {k: v for k, v in CHAT.items() if k in keep}
        body = template if r.random() < 0.05 else self.mutate(template)
        if isinstance(body, dict) and path != "/v1/contexts" and r.random() < 0.95:
            body["max_tokens"] = 1
        text = json.dumps(body).encode("utf-8", "surrogatepass")
        if r.random() < 0.15:
            text = bytearray(text)
            for _ in range(r.randint(1, 6)):
                if text:
                    text[r.randrange(len(text))] = r.randrange(256)
            text = bytes(text)
        if r.random() < 0.03:
            text = r.choice([b"[" * 3000, b"{\"a\":" * 500, b"", b"null", text[:len(text) // 2], text * 3])
        return path, text

    def request(self):
        r = self.random
        path, body = self.body()
        method = "POST"
        headers = [f"Host: 127.0.0.1:{self.port}", "Content-Type: application/json"]
        length = str(len(body))
        if r.random() < 0.08:
            method = r.choice(METHODS)
        if r.random() < 0.05:
            path = r.choice(["/", "/" + "a" * 5000, "/v1/contexts/../../x", "/%00", "/v1/models/" + "%ff" * 9, "//", "*",
                             "/v1/contexts/" + "f" * 32 + "/file", "/metrics", "/v1/contexts/x?shading=1"])
        if r.random() < 0.05:
            headers.append(r.choice(["Authorization: Bearer " + "x" * 3000, "Origin: null", "Expect: 100-continue", "Range: bytes=0-",
                                     "X: " + "\x01" * 20, "Accept-Encoding: gzip", "Connection: close", "Content-Encoding: gzip",
                                     "Transfer-Encoding: chunked", "Upgrade: websocket", "X-" + "h" * 3000 + ": 1", ": ", "Host: b"]))
        if r.random() < 0.02:
            length = r.choice(["-1", "99999999999999999999", "x", "0", ""])
        self.ends = length != str(len(body)) or len(headers) > 2
        lines = [f"{method} {path} HTTP/1.1", *headers, f"Content-Length: {length}", "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace") + body

    def send(self, data):
        """Sends it, and reads an answer or the end of the connection; False if there was neither in time."""
        fresh = self.socket is None
        if fresh:
            self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        try:
            self.socket.sendall(data)
            if self.ends:  # or the server waits for what it was promised
                self.socket.shutdown(socket.SHUT_WR)
            answer = b""
            while b"\r\n\r\n" not in answer:
                more = self.socket.recv(1 << 16)
                if not more:
                    self.close()
                    return True
                answer += more
            head, rest = answer.split(b"\r\n\r\n", 1)
            lower = head.lower()
            if b"content-length: " not in lower or b"100 continue" in lower or b"connection: close" in lower or data[:4] == b"HEAD":
                self.close()
                return True
            n = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
            while len(rest) < n:
                more = self.socket.recv(1 << 16)
                if not more:
                    break
                rest += more
            return True
        except TimeoutError:
            self.close()
            return False
        except OSError:
            self.close()
            return True

    def close(self):
        self.socket.close()
        self.socket = None


def main():
    port, n = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10000
    fuzzer = Fuzzer(port, int(sys.argv[3]) if len(sys.argv) > 3 else 1)
    begun, hung = time.time(), 0
    for i in range(n):
        data = fuzzer.request()
        if not fuzzer.send(data):
            hung += 1
            print(f"no answer within a minute to request {i}:\n{data[:3000]!r}", flush=True)
        if i % 20000 == 19999:
            print(f"{i + 1} requests, {(i + 1) / (time.time() - begun):.0f} a second, {hung} without an answer", flush=True)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as s:
        s.sendall(f"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        alive = b"200 OK" in s.recv(4096)
    print(f"{n} requests: {hung} without an answer; the server is {'well' if alive else 'gone'}")
    return 0 if alive and hung == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
