"""OpenAI's own client, unmodified, against curdkv serve."""
import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cli"))
import openai  # noqa: E402
from harness import BUILD, Case, path, write  # noqa: E402
from server import Server  # noqa: E402

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000", "2", "32"], check=True)
TEMPLATE = os.path.join(os.environ["CURDKV_TEMPLATES"], "Qwen-Qwen2.5-7B-Instruct.jinja")
TEXT = "The thing in the north is an ant. " * 60
TOOL = {"type": "function", "function": {"name": "look_up", "description": "Looks a word up.", "parameters": {
    "type": "object", "properties": {"word": {"enum": ["ant", "bee"]}}, "required": ["word"]}}}


class Client(Case):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(MODEL, "--press", "adacurdkv", "--compression-ratio", "0.6", "-np", "4", "--compress-above", "300",
                            "--api-key-file", write("keys.txt", "secret\n"), "--chat-template-file", TEMPLATE, key="secret")
        cls.client = openai.OpenAI(base_url=f"http://127.0.0.1:{cls.server.port}/v1", api_key="secret", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        with cls.server:
            pass

    def chat(self, content, **more):
        return self.client.chat.completions.create(model="tiny.gguf", messages=[{"role": "user", "content": content}],
                                                   **{"max_tokens": 12, **more})

    def test_chat_and_stream(self):
        whole = self.chat("ant", n=2, temperature=1, seed=5, logprobs=True, top_logprobs=2)
        self.assertEqual(len(whole.choices), 2)
        self.assertEqual(len(whole.choices[0].logprobs.content[0].top_logprobs), 2)
        texts, usage = ["", ""], None
        for chunk in self.chat("ant", n=2, temperature=1, seed=5, stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(texts, [c.message.content for c in whole.choices])
        self.assertEqual(usage.completion_tokens, whole.usage.completion_tokens)

    def test_a_long_prompt_is_found_again(self):
        for expected in (False, True):
            answer = self.chat(TEXT + "\n\nWhat is an ant?")
            self.assertEqual(answer.usage.prompt_tokens_details.cached_tokens > 300, expected)
        other = self.chat(TEXT + "\n\nWhat is an ant?", extra_body={"press": "none"})
        self.assertEqual(other.usage.prompt_tokens_details.cached_tokens, 0)

    def test_tools_are_told_of(self):
        without = self.chat("Look up ant.").usage.prompt_tokens
        for choice in ("auto", "required", {"type": "function", "function": {"name": "look_up"}}):
            answer = self.chat("Look up ant.", tools=[TOOL], tool_choice=choice)
            self.assertGreater(answer.usage.prompt_tokens, without + 100)
        turns = [{"role": "user", "content": "Look up ant."},
                 {"role": "assistant", "content": None, "tool_calls": [
                     {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"word": "ant"}'}}]},
                 {"role": "tool", "tool_call_id": "call_1", "content": "An insect."}]
        self.client.chat.completions.create(model="tiny.gguf", messages=turns, tools=[TOOL], max_tokens=4)
        with self.assertRaises(openai.BadRequestError):
            self.chat("x", tools=[TOOL], tool_choice={"type": "function", "function": {"name": "other"}})

    def test_parsed_answers(self):
        schema = {"name": "x", "strict": True, "schema": {"type": "object", "properties": {"n": {"enum": [1, 2]}},
                                                          "required": ["n"], "additionalProperties": False}}
        answer = self.chat("ant", response_format={"type": "json_schema", "json_schema": schema}, max_tokens=60)
        self.assertRegex(answer.choices[0].message.content, r'^\{\s*"n"\s*:\s*[12]\s*\}$')

    def test_completions_and_models(self):
        self.assertEqual([m.id for m in self.client.models.list()], ["tiny.gguf"])
        answer = self.client.completions.create(model="tiny.gguf", prompt=["ant", "bee"], max_tokens=4, echo=True, logprobs=1)
        self.assertEqual([c.index for c in answer.choices], [0, 1])
        self.assertTrue(answer.choices[1].text.startswith("bee"))
        self.assertIsNone(answer.choices[0].logprobs.token_logprobs[0])

    def test_errors_are_those_that_the_client_knows(self):
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=self.client.base_url, api_key="other", max_retries=0).models.list()
        with self.assertRaises(openai.BadRequestError) as raised:
            self.chat("ant " * 200000)
        self.assertEqual(raised.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("gpt-4")


class Readme(Case):
    def test_its_python_works(self):
        """The README's lines as they stand there, but for the port and an answer's length."""
        with open(os.path.join(ROOT, "README.md")) as file:
            part = file.read().split("\n## A server\n")[1].split("\n## ")[0]
        (lines,) = re.findall(r"```python\n(.*?)```", part, re.DOTALL)
        with Server(MODEL, "-n", "8") as server:
            lines = lines.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
            done = subprocess.run([sys.executable, "-c", "import openai\n" + lines], cwd=ROOT, capture_output=True, text=True,
                                  timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        cached = [int(n) for n in re.findall(r" (\d+)$", done.stdout, re.MULTILINE)]
        self.assertEqual(len(cached), 2, done.stdout)
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 1024)


if __name__ == "__main__":
    unittest.main()
