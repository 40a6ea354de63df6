"""A curdkv serve under test, and ways to ask it."""
import http.client
import json
import re
import signal
import subprocess
import tempfile
import time

from harness import CURDKV


class Server:
    """Started with further options; stopped, and looked at, at the end of a with block."""

    def __init__(self, model, *options, key=None):
        self.key = key
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([CURDKV, "serve", "-m", model, "--port", "0", "-t", "2", *options], stderr=self.log)
        deadline = time.time() + 120
        while time.time() < deadline:
            found = re.search(r"at http://127\.0\.0\.1:(\d+)", self.said())
            if found:
                self.port = int(found.group(1))
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        raise AssertionError("the server did not start:\n" + self.said())

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        said = self.said()
        self.log.close()
        if kind is None and (code != 0 or any(word in said for word in ("Sanitizer", "terminate called", "GGML_ASSERT"))):
            raise AssertionError(f"the server ended with {code}:\n{said}")

    def stop(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)

    def connect(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None):
        """(status, headers, text)."""
        connection = self.connect()
        sent = dict(headers or {})
        if self.key and "Authorization" not in sent:
            sent["Authorization"] = "Bearer " + self.key
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, dict(response.getheaders()), text

    def get(self, path, **kwargs):
        return self.json("GET", path, **kwargs)

    def post(self, path, body, **kwargs):
        return self.json("POST", path, body, **kwargs)

    def json(self, method, path, body=None, status=200, headers=None):
        got, _, text = self.request(method, path, body, headers)
        if got != status:
            raise AssertionError(f"{method} {path}: {got}, not {status}: {text[:2000]}")
        return json.loads(text)

    def events(self, path, body):
        """The objects of a stream, and whether it ended with [DONE]."""
        status, headers, text = self.request("POST", path, {**body, "stream": True})
        if status != 200:
            raise AssertionError(f"{path}: {status}: {text[:2000]}")
        assert headers["Content-Type"] == "text/event-stream", headers
        lines = [line[6:] for line in text.decode().split("\n\n") if line.startswith("data: ")]
        done = bool(lines) and lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines if line != "[DONE]"], done

    def ask(self, question, **more):
        """The text of an answer in a chat."""
        messages = question if isinstance(question, list) else [{"role": "user", "content": question}]
        answer = self.post("/v1/chat/completions", {"messages": messages, **more})
        return answer["choices"][0]["message"]["content"]
