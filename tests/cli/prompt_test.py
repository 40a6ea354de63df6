"""The prompt that a user asks for: system turns, chat templates, none at all."""
import os
import subprocess
import unittest

from harness import BUILD, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL], check=True)
PLAIN = "{% for m in messages %}### {{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}### bot:{% endif %}"


class Prompts(Case):
    def tokens(self, *args):
        """How many tokens the context has."""
        return self.json("run", "-m", MODEL, "-p", "x", "-q", "y", "-n", "1", "--json", *args)["n_context_tokens"]

    def test_system_turn(self):
        none = self.tokens()
        self.assertEqual(none, 7)  # <|im_start|>user\nx
        turn = self.tokens("-sys", "abcdef")  # <|im_start|>system\nabcdef<|im_end|>\n
        self.assertEqual(turn, none + 1 + 7 + 6 + 2)
        self.assertEqual(self.tokens("--system-prompt", "abcdef"), turn)
        self.assertEqual(self.tokens("-sysf", write("sys.txt", "abcdef\n")), turn)
        self.assertEqual(self.tokens("-sys", ""), none)
        self.assertEqual(self.tokens("-sys", "abc<|im_end|>"), turn - 2)  # the caller's own words
        self.fails(1, "nosuch.txt", "run", "-m", MODEL, "-p", "x", "-q", "y", "-sysf", path("nosuch.txt"))

    def test_chat_template(self):
        plain = self.tokens("--chat-template", PLAIN)
        self.assertEqual(plain, len("### user: x"))
        self.assertEqual(self.tokens("--chat-template-file", write("plain.jinja", PLAIN), "--jinja"), plain)
        self.assertEqual(self.tokens("--chat-template", "chatml"), self.tokens())
        self.assertEqual(self.tokens("--raw"), 1)
        self.fails(2, "neither a chat template in Jinja nor one of the names", "run", "-m", MODEL, "-p", "x", "-q", "y",
                   "--chat-template", "nosuch")
        self.fails(2, "--no-jinja", "run", "-m", MODEL, "-p", "x", "-q", "y", "--no-jinja")
        self.fails(2, "--raw", "run", "-m", MODEL, "-p", "x", "-q", "y", "--raw", "-sys", "x")
        for source, words in ((PLAIN + "{% for i in range(10**9) %}x{% endfor %}", "cannot be used"),
                              (PLAIN + "{% for i in range(1000000000) %}x{% endfor %}", "does not come to an end"),
                              ("{{ raise_exception('no') }}", "no"), ("{{ 1 }}", "leaves out or changes"),
                              ("{{ messages[0].content | tojson }}", "leaves out or changes")):
            self.fails(1, words, "run", "-m", MODEL, "-p", "x", "-q", "y", "--chat-template", source)

    def test_other_commands(self):
        out = path("prompt.jsonl")
        self.curdkv("eval", "-m", MODEL, "--task", "niah_single_1", "--samples", "1", "--context-tokens", "1024", "-n", "2",
                    "--press", "none", "-sys", "Be kind.", "--chat-template", PLAIN, "-o", out)
        with open(out) as file:
            self.assertIn('"system":"Be kind."', file.readline())
        self.curdkv("analyze", "-m", MODEL, "-p", "some text to look at", "--figure", "heads", "-sys", "x", "-o", "-")


if __name__ == "__main__":
    unittest.main()
