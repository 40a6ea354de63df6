"""curdkv serve over HTTP: OpenAI's forms, contexts, the same answers as curdkv run, and what it refuses."""
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import unittest

from harness import BUILD, Case, path, write
from server import Server

ROOT = pathlib.Path(__file__).parents[2]
MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000", "2", "32"], check=True)
TEXT = "The thing in the north is an ant. " * 60
DOCUMENT = write("document.txt", TEXT)
PRESS = {"press": "adacurdkv", "compression_ratio": 0.6}
PRESS_OPTIONS = ("--press", "adacurdkv", "--compression-ratio", "0.6")
CHAT = "/v1/chat/completions"


class Serving(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(MODEL, *PRESS_OPTIONS, "-np", "8", "--contexts", path("contexts"), "--compress-above", "300")

    @classmethod
    def tearDownClass(cls):
        with cls.server:
            pass

    def run_answers(self, *questions, n=12):
        """What curdkv run says of the document."""
        asked = [word for q in questions for word in ("-q", q)]
        told = self.json("run", "-m", MODEL, "-t", "1", "-n", str(n), "-f", DOCUMENT, *PRESS_OPTIONS, "--json", *asked)
        return [a["answer"] for a in told["answers"]]

    def context(self, text=TEXT, **more):
        return self.server.post("/v1/contexts", {"document": text, "name": "ants.txt", **PRESS, **more})

    def test_a_context_is_asked_as_run_asks(self):
        questions = ["What is an ant?", "Why?", "ant north thing " * 40]
        expected = self.run_answers(*questions)
        context = self.context()
        self.assertEqual(context["documents"][0]["name"], "ants.txt")
        self.assertLess(context["kv_bytes"], 0.5 * context["kv_bytes_full"])
        got = [self.server.ask(q, context=context["id"], max_tokens=12) for q in questions]
        self.assertEqual(got, expected)

    def test_a_document_in_a_message_is_found_again(self):
        question = "What is an ant?"
        expected = self.run_answers(question)[0]
        text = "A document of its own. " + TEXT
        cached = []
        for press in (PRESS, PRESS, {"press": "none"}):
            answer = self.server.post(CHAT, {"messages": [{"role": "user", "content": text + "\n\n" + question}],
                                             "max_tokens": 4, **press})
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 300)
        self.assertEqual(cached[2], 0)
        whole = self.server.ask(TEXT + "\n\n" + question, max_tokens=12, **PRESS)
        self.assertEqual(whole, expected)
        self.assertEqual(self.server.ask(TEXT + "\n\n" + question, max_tokens=12, **PRESS, cache_prompt=False), expected)

    def test_the_same_text_in_company(self):
        context = self.context()["id"]
        questions = [f"What is ant number {i}? " + "north " * (7 * i) for i in range(16)]
        alone = [self.server.ask(q, context=context, max_tokens=20) for q in questions]
        self.assertGreater(len(set(alone)), 8)
        together = [None] * len(questions)

        def ask(i):
            together[i] = self.server.ask(questions[i], context=context, max_tokens=20)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(questions))]
        for t in threads:
            t.start()
        self.server.post("/v1/contexts", {"document": "Something else. " * 150, **PRESS})
        for t in threads:
            t.join()
        self.assertEqual(together, alone)

    def test_turns_go_on_from_what_was_asked(self):
        context = self.context()["id"]
        turns = [{"role": "user", "content": "What is an ant? " * 10}]
        first = self.server.post(CHAT, {"messages": turns, "context": context, "max_tokens": 12})
        turns += [{"role": "assistant", "content": first["choices"][0]["message"]["content"]},
                  {"role": "user", "content": "And why?"}]
        second = self.server.post(CHAT, {"messages": turns, "context": context, "max_tokens": 12})
        held = second["usage"]["prompt_tokens_details"]["cached_tokens"]
        self.assertGreater(held, first["usage"]["prompt_tokens_details"]["cached_tokens"] + 20)
        fresh = self.server.post(CHAT, {"messages": turns, "context": context, "max_tokens": 12, "cache_prompt": False})
        self.assertEqual(fresh["choices"][0]["message"], second["choices"][0]["message"])
        self.assertLess(fresh["usage"]["prompt_tokens_details"]["cached_tokens"], held)

    def test_an_answer_goes_on_from_the_assistants_message(self):
        body = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "It is an "}]}
        prompt = self.server.post("/apply-template", body)["prompt"]
        self.assertTrue(prompt.endswith("It is an "), prompt)
        answer = self.server.post(CHAT, {**body, "max_tokens": 12})["choices"][0]["message"]["content"]
        completed = self.server.post("/v1/completions", {"prompt": prompt, "max_tokens": 12})["choices"][0]["text"]
        self.assertEqual(answer, completed)
        events, _ = self.server.events(CHAT, {**body, "max_tokens": 12, "continue_final_message": True})
        self.assertEqual("".join(c["delta"].get("content") or "" for e in events for c in e["choices"]), answer)

    def test_streams_say_what_answers_say(self):
        body = {"messages": [{"role": "user", "content": "ant " * 20}], "max_tokens": 24, "n": 2, "temperature": 1, "seed": 3}
        whole = self.server.post(CHAT, body)
        events, done = self.server.events(CHAT, {**body, "stream_options": {"include_usage": True}})
        self.assertTrue(done)
        texts = ["", ""]
        for event in events:
            self.assertEqual(event["object"], "chat.completion.chunk")
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
        self.assertEqual(texts, [c["message"]["content"] for c in whole["choices"]])
        self.assertNotEqual(texts[0], texts[1])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"])
        self.assertEqual({c["finish_reason"] for c in whole["choices"]} - {"length", "stop"}, set())

    def test_stop_texts_end_answers(self):
        body = {"prompt": "ant", "max_tokens": 40}
        text = self.server.post("/v1/completions", body)["choices"][0]["text"]
        stop = text[len(text) // 2:len(text) // 2 + 3]
        cut = self.server.post("/v1/completions", {**body, "stop": [stop, "never said"]})["choices"][0]
        self.assertEqual(cut["text"], text[:text.index(stop)])
        self.assertEqual(cut["finish_reason"], "stop")
        events, _ = self.server.events("/v1/completions", {**body, "stop": stop})
        self.assertEqual("".join(c["text"] for e in events for c in e["choices"]), cut["text"])

    def test_echo_scores_the_prompt(self):
        text = "The thing in the north is an ant. " * 3
        both = self.server.post("/v1/completions", {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 3})
        probs = both["choices"][0]["logprobs"]
        self.assertEqual("".join(probs["tokens"]), both["choices"][0]["text"])
        self.assertIsNone(probs["token_logprobs"][0])
        n = len(probs["tokens"])
        self.assertEqual([len(probs[k]) for k in ("token_logprobs", "top_logprobs", "text_offset")], [n] * 3)
        # A token's score is that of choosing it where the text before it ends.
        tokens = self.server.post("/tokenize", {"content": text, "add_special": True})["tokens"]
        self.assertEqual(len(tokens), n)
        for i in (5, n // 2, n - 1):
            asked = self.server.post("/v1/completions", {
                "prompt": tokens[:i], "max_tokens": 1, "logprobs": 1, "logit_bias": {str(tokens[i]): 1000}})
            self.assertAlmostEqual(asked["choices"][0]["logprobs"]["token_logprobs"][0], probs["token_logprobs"][i], 2)

    def test_a_press_in_the_address_counts_as_in_the_body(self):
        body = {"prompt": TEXT + "\n\nWhat is an ant?", "max_tokens": 0, "echo": True, "logprobs": 0}
        in_body = self.server.post("/v1/completions", {**body, **PRESS})
        query = "&".join(f"{name}={value}" for name, value in PRESS.items())
        for of_query in (self.server.post("/v1/completions?" + query, body),
                         self.server.post(f"/with/{query}/v1/completions", body),
                         self.server.post("/v1/completions?press=snapkv&compression_ratio=0.1", {**body, **PRESS})):
            self.assertEqual(of_query["choices"], in_body["choices"])
        self.assertNotEqual(self.server.post("/v1/completions", body)["choices"], in_body["choices"])

    def test_json_schema_holds(self):
        schema = {"type": "object", "properties": {"n": {"enum": ["ant", "bee"]}}, "required": ["n"]}
        for form in ({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
                     {"type": "json_object", "schema": schema}):
            said = self.server.ask("ant", response_format=form, max_tokens=60)
            self.assertIn(json.loads(said)["n"], ("ant", "bee"))
        self.assertRegex(self.server.ask("ant", grammar="root ::= [a-c] [0-9]", max_tokens=20), "^[a-c][0-9]$")
        self.assertIn("grammar", self.server.post("/v1/completions", {"prompt": "a", "grammar": "root ::= ("}, status=400)
                      ["error"]["message"])
        self.assertNotIn("root", self.server.said())  # no text of a request's

    def test_contexts_are_listed_shown_pinned_and_deleted(self):
        events, _ = self.server.events("/v1/contexts", {"document": "To be deleted. " * 100, "name": "d", **PRESS})
        self.assertEqual([e["object"] for e in events][-1], "context")
        self.assertIn("context.progress", [e["object"] for e in events])
        one = events[-1]["id"]
        self.assertIn(one, [c["id"] for c in self.server.get("/v1/contexts")["data"]])
        shown = self.server.get(f"/v1/contexts/{one}?shading=1")
        self.assertEqual(len(shown["tokens"]), shown["n_tokens"])
        self.assertAlmostEqual(sum(shown["kept"]) / len(shown["kept"]), 0.4, 1)
        self.assertIn("To be deleted.", "".join(shown["tokens"]))
        self.assertTrue(self.server.post(f"/v1/contexts/{one}", {"pinned": True})["pinned"])
        status, headers, file = self.server.request("GET", f"/v1/contexts/{one}/file")
        self.assertEqual((status, int(headers["Content-Length"])), (200, len(file)))
        saved = write("downloaded.kvc", file)
        self.assertEqual(self.json("inspect", saved, "--json")["n_context_tokens"], shown["n_tokens"])
        self.server.json("DELETE", f"/v1/contexts/{one}")
        self.server.json("GET", f"/v1/contexts/{one}", status=404)
        self.server.post(CHAT, {"messages": [{"role": "user", "content": "x"}], "context": one}, status=400)
        added = self.server.post("/v1/contexts/upload", file)
        self.assertEqual(self.server.ask("Why?", context=added["id"], max_tokens=8),
                         self.json("run", "-m", MODEL, "-t", "1", "-n", "8", "-q", "Why?", "--context", saved, "--json")
                         ["answers"][0]["answer"])
        torn = self.server.post("/v1/contexts/upload", file[:len(file) // 2], status=400)
        self.assertNotIn(path("contexts"), torn["error"]["message"])

    def test_a_document_as_it_is(self):
        plain = {"Content-Type": "text/plain"}
        query = "?name=ants.txt&press=adacurdkv&compression_ratio=0.6"
        made = self.server.json("POST", "/v1/contexts" + query, TEXT.encode(), headers=plain)
        self.assertEqual(made["id"], self.context()["id"])
        self.server.json("POST", "/v1/contexts", b"\xff\xfe", headers=plain, status=400)

    def test_what_is_asked_wrongly_is_refused(self):
        bad = [("", "JSON object"), ("[" * 100000, "JSON object"), ({}, "'messages'"), ({"messages": []}, "'messages'"),
               ({"messages": [{"role": "user"}]}, "'content'"), ({"messages": [{"role": 3, "content": ""}]}, "'role'"),
               ({"messages": [{"role": "king", "content": ""}]}, "'role'"),
               ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'text'")]
        for more, words in [({"temperature": "x"}, "'temperature'"), ({"n": 99}, "'n'"), ({"top_p": 2}, "'top_p'"),
                            ({"press": "curdvk"}, "curdkv"),
                            ({"compression_ratio": 1}, "'compression_ratio'"), ({"stop": 3}, "'stop'"),
                            ({"response_format": {"type": "xml"}}, "'response_format'"), ({"context": "../x"}, "no context"),
                            ({"tools": 3}, "'tools'"), ({"continue_final_message": True}, "assistant's"),
                            ({"continue_final_message": "all"}, "'continue_final_message'"),
                            ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "no tools"), ({"logit_bias": {"x": 1}}, "'logit_bias'")]:
            bad.append(({"messages": [{"role": "user", "content": "x"}], "max_tokens": 1, **more}, words))
        for body, words in bad:
            with self.subTest(body=str(body)[:80]):
                self.assertIn(words, self.server.post(CHAT, body, status=400)["error"]["message"])
        long = {"messages": [{"role": "user", "content": "ant " * 200000}]}
        self.assertEqual(self.server.post(CHAT, long, status=400)["error"]["code"], "context_length_exceeded")
        self.server.json("GET", "/nothing", status=404)

    def test_fields_that_are_null_count_as_missing(self):
        described = self.server.get("/openapi.json")["components"]["schemas"]["ChatRequest"]
        nulls = {name: None for name in described["properties"] if name not in ("messages", "max_tokens")}
        body = {"messages": [{"role": "user", "content": "ant"}], "max_tokens": 6}
        self.assertGreater(len(nulls), 30)
        self.assertEqual(self.server.post(CHAT, {**nulls, **body})["choices"], self.server.post(CHAT, body)["choices"])

    def test_pages_of_others_may_not_ask(self):
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
            self.server.json("GET", "/v1/models", headers=headers, status=403)
        self.server.json("GET", "/v1/models", headers={"Host": f"localhost:{self.server.port}"})

    def test_what_it_tells(self):
        self.assertEqual(self.server.get("/health"), {"status": "ok"})
        self.assertEqual(self.server.get("/v1/models")["data"][0]["id"], "tiny.gguf")
        self.server.ask("ant", max_tokens=2)
        status, _, text = self.server.request("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertRegex(text.decode(), r"curdkv:tokens_predicted_total [1-9]")
        self.assertIn('curdkv:time_to_first_token_seconds_bucket{le="+Inf"}', text.decode())
        page = self.server.request("GET", "/")
        self.assertIn("Content-Security-Policy", page[1])
        self.assertIn(b"<title>curdkv</title>", page[2])
        described = self.server.get("/openapi.json")["paths"]
        self.assertIn("/v1/chat/completions", described)
        text = "ant <|im_end|>"
        tokens = self.server.post("/tokenize", {"content": text})["tokens"]
        self.assertEqual(self.server.post("/detokenize", {"tokens": tokens})["content"].strip(), text)
        prompt = self.server.post("/apply-template", {"messages": [{"role": "user", "content": "ant"}]})["prompt"]
        self.assertIn("ant", prompt)


class Readme(Case):
    def test_its_commands_work(self):
        """Every curl of the README's part on the server, as it stands there but for the port and the context's id."""
        with open(os.path.join(ROOT, "README.md")) as file:
            part = file.read().split("\n## A server\n")[1].split("\n## ")[0]
        commands = re.findall(r"^curl (?:.*\\\n)*.*$", part, re.MULTILINE)
        self.assertEqual(len(commands), 2)
        with Server(MODEL, "-n", "8") as server:
            made = None
            for command in commands:
                command = command.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}").replace('"ID"', f'"{made}"')
                done = subprocess.run(command.replace("curl", "curl -sS --fail-with-body", 1), shell=True, cwd=ROOT,
                                      capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, command + done.stdout + done.stderr)
                made = made or json.loads(done.stdout)["id"]
            self.assertEqual(json.loads(done.stdout)["object"], "chat.completion")
            self.assertEqual(json.loads(done.stdout)["context"], made)


class Keeping(Case):
    def test_contexts_outlive_the_server_and_keys_have_their_own(self):
        keys = write("keys.txt", "# two\nfirst-key\nsecond-key\n")
        folder = path("kept")
        options = ("--contexts", folder, "--api-key-file", keys, *PRESS_OPTIONS)
        with Server(MODEL, *options, key="first-key") as server:
            context = server.post("/v1/contexts", {"document": TEXT, "name": "ants"})
            answer = server.ask("Why?", context=context["id"], max_tokens=12)
            server.json("GET", "/v1/contexts", headers={"Authorization": "Bearer none"}, status=401)
            server.json("GET", "/v1/contexts", headers={"Authorization": ""}, status=401)
            other = {"Authorization": "Bearer second-key"}
            self.assertEqual(server.json("GET", "/v1/contexts", headers=other)["data"], [])
            server.json("GET", f"/v1/contexts/{context['id']}", headers=other, status=404)
            again = server.json("POST", "/v1/contexts", {"document": TEXT}, headers=other)
            self.assertFalse(again["found"])
        modes = {os.stat(os.path.join(at, f)).st_mode & 0o777 for at, _, files in os.walk(folder) for f in files}
        self.assertEqual(modes, {0o600})
        with Server(MODEL, *options, key="first-key") as server:
            listed = server.get("/v1/contexts")["data"]
            self.assertEqual([c["id"] for c in listed], [context["id"]])
            self.assertEqual(listed[0]["documents"], context["documents"])
            self.assertEqual(server.ask("Why?", context=context["id"], max_tokens=12), answer)
            self.assertTrue(server.post("/v1/contexts", {"document": TEXT, "name": "ants"})["found"])

    def test_the_memory_for_contexts_is_bounded(self):
        canaries = [f"canary{i}" for i in range(12)]
        with Server(MODEL, "--press", "none", "--context-memory", "2", "--contexts", path("many"), "-np", "2") as server:
            ids = [server.post("/v1/contexts", {"document": f"{c} " * 150})["id"] for c in canaries]
            first = [server.ask("Which?", context=i, max_tokens=16) for i in ids]
            held = [c for c in server.get("/v1/contexts")["data"] if c["in_memory"]]
            self.assertLess(len(held), len(ids))
            self.assertLessEqual(sum(c["kv_bytes"] for c in held), 2 << 20)
            self.assertEqual([server.ask("Which?", context=i, max_tokens=16) for i in ids], first)
            self.assertGreater(len(set(first)), 6)

    def test_files_make_room_for_others(self):
        folder = path("small")
        with Server(MODEL, "--press", "none", "--context-disk", "1", "--contexts", folder) as server:
            ids = [server.post("/v1/contexts", {"document": f"bee{i} " * 150})["id"] for i in range(8)]
            size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in os.walk(folder) for f in files)
            self.assertLessEqual(size, 1 << 20)
            self.assertIn(ids[-1] + ".kvc", [f for _, _, files in os.walk(folder) for f in files])


class Limits(Case):
    def wait_for(self, server, line):
        """Until the metrics say so."""
        for _ in range(600):
            if f"\ncurdkv:{line}\n" in server.request("GET", "/metrics")[2].decode():
                return
            time.sleep(0.05)
        self.fail(f"{line} was never true")

    def test_a_full_queue_refuses_and_a_client_that_leaves_is_let_go(self):
        with Server(MODEL, "-np", "1", "--queue", "1", "--press", "none") as server:
            body = json.dumps({"prompt": "ant", "max_tokens": 30000, "ignore_eos": True, "stream": True})
            going = [server.connect(), server.connect()]
            going[0].request("POST", "/v1/completions", body)
            self.assertEqual(going[0].getresponse().status, 200)
            going[1].request("POST", "/v1/completions", body)
            self.wait_for(server, "requests_deferred 1")
            status, headers, text = server.request("POST", "/v1/completions", {"prompt": "ant"})
            self.assertEqual((status, json.loads(text)["error"]["code"]), (429, "queue_full"))
            self.assertGreater(int(headers["Retry-After"]), 0)
            for connection in going:
                connection.sock.shutdown(socket.SHUT_RDWR)
                connection.close()
            answer = None
            for _ in range(100):
                status, _, answer = server.request("POST", "/v1/completions", {"prompt": "ant", "max_tokens": 2})
                if status == 200:
                    break
                time.sleep(0.1)
            self.assertEqual(status, 200, answer)

    def test_time_and_tokens_are_limited(self):
        with Server(MODEL, "--timeout", "1", "--press", "none", "-n", "50000", "--max-body", "1") as server:
            late = server.post("/v1/completions", {"prompt": "ant", "max_tokens": 50000, "ignore_eos": True}, status=503)
            self.assertEqual(late["error"]["code"], "timeout")
            server.post("/v1/completions", {"prompt": "x" * (2 << 20)}, status=413)
        with Server(MODEL, "-n", "3", "--press", "none") as server:
            told = server.post("/v1/completions", {"prompt": "ant", "max_tokens": 10, "ignore_eos": True})
            self.assertEqual(told["usage"]["completion_tokens"], 3)

    def test_answers_end_before_the_server_does(self):
        server = Server(MODEL, "--press", "none")
        with server:
            got = []

            def ask():
                got.append(server.post("/v1/completions", {"prompt": "ant", "max_tokens": 300, "ignore_eos": True}))

            asking = threading.Thread(target=ask)
            asking.start()
            self.wait_for(server, "requests_total 1")
            self.assertEqual(server.stop(), 0)
            asking.join()
            self.assertEqual(got[0]["usage"]["completion_tokens"], 300)

    def test_wrong_options(self):
        self.fails(1, "there is no key", "serve", "-m", MODEL, "--api-key-file", write("empty.txt", "\n# none\n"))
        self.fails(1, "cannot make the folder", "serve", "-m", MODEL, "--contexts", "/proc/none")
        self.fails(1, "cannot listen", "serve", "-m", MODEL, "--host", "203.0.113.1")


if __name__ == "__main__":
    unittest.main()
