"""curdkv chat: turns, commands and Ctrl-C at a terminal, which is a pseudo-terminal here; and lines from a pipe."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from harness import BUILD, CURDKV, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "100000", "2", "32"], check=True)
# So that an answer without end takes a while.
SLOW = path("slow.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), SLOW, "100000", "6", "64", "256", "4", "4", "512"], check=True)
TEXT = "The thing in the north is an ant. " * 12
DOCUMENT = write("document.txt", TEXT)
PRESS = ("--press", "ridgekv", "--compression-ratio", "0.5")
CHAT = ("chat", "-m", MODEL, "-t", "1", "-n", "12")
PROMPT = "> "


class Terminal:
    """A chat at a terminal of 80 columns."""

    def __init__(self, *args):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(CURDKV, [CURDKV, *args], {**os.environ, "TERM": "xterm", "LC_ALL": "C"})
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = ""  # since the last wait
        self.all = ""

    def read(self, seconds):
        if not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.fd, 65536).decode("utf-8", "replace")
        except OSError:
            return False
        self.seen += data
        self.all += data
        return data != ""

    def wait(self, pattern, seconds=60):
        """What came up to and including the pattern, without the terminal's escape sequences."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", self.seen).replace("\r", "")
            found = re.search(pattern, plain)
            if found:
                self.seen = plain[found.end():]
                return plain[:found.end()]
            if not self.read(0.2):
                time.sleep(0.01)
        raise AssertionError(f"{pattern!r} did not come: {self.seen[-500:]!r}")

    def send(self, text):
        os.write(self.fd, text.encode())

    def ask(self, line):
        """What is written between a line and the next prompt."""
        self.send(line + "\n")
        out = self.wait(r"\n" + PROMPT + "$")
        return out.split("\n", 1)[1].removesuffix(PROMPT)

    def end(self):
        while self.read(5):
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


class AtATerminal(Case):
    def begin(self, *args):
        terminal = Terminal(*args)
        terminal.wait(r"/help lists.*\n" + PROMPT + "$")
        return terminal

    def test_turns_and_commands(self):
        chat = self.begin(*CHAT, "-f", DOCUMENT, *PRESS)
        first = chat.ask("What is an ant?")
        self.assertTrue(first.strip())
        self.assertEqual(chat.ask("/ask-again"), first)
        after_two = chat.ask("Why?")
        self.assertEqual(chat.ask("/forget"), "")
        self.assertEqual(chat.ask("What is an ant?"), first)
        self.assertEqual(chat.ask("Why?"), after_two)
        stats = chat.ask("/stats")
        self.assertRegex(stats, r"tokens +\d+, of which \d+ since the document\n")
        self.assertRegex(stats, r"bytes .* of .*\nspeed +first token after \d+ ms, then [\d.]+ t/s")
        self.assertNotIn("beside", stats)
        full = chat.ask("/full")
        self.assertTrue(full.strip())
        self.assertIn("the full cache beside it", chat.ask("/stats"))
        for command in ("/ask-again", "/forget", "/full", "/read FILE", "/save FILE", "/stats", "/help", "/exit"):
            self.assertIn("\n" + command, "\n" + chat.ask("/help"))
        self.assertIn("no command '/sats' (did you mean '/stats'?)", chat.ask("/sats"))
        self.assertIn("/read needs a FILE", chat.ask("/read"))
        self.assertIn("/stats takes nothing", chat.ask("/stats now"))
        self.assertIn("No such file", chat.ask("/read " + path("missing.txt")))
        self.assertIn("tokens read", chat.ask("/read " + DOCUMENT))
        self.assertIn("no question since the document was read", chat.ask("/ask-again"))
        chat.ask("Why?")
        chat.ask("/forget")
        self.assertIn("no question since the turns were forgotten", chat.ask("/ask-again"))
        self.assertEqual(chat.ask(""), "")
        chat.send("/exit\n")
        self.assertEqual(chat.end(), 0)

    def test_lines_are_edited_and_remembered(self):
        chat = self.begin(*CHAT, "-f", DOCUMENT, *PRESS)
        first = chat.ask("What is an ant?")
        chat.ask("/forget")
        left, right = "\x1b[D", "\x1b[C"
        self.assertEqual(chat.ask("Whxat i an ant?" + left * 8 + "s" + left * 5 + "\x7f" + right * 4), first)
        chat.ask("/forget")
        self.assertEqual(chat.ask("\x1b[A" * 4), first)  # four lines up
        plain = self.begin(*CHAT)
        whole = plain.ask("Why a caf\u00e9?")
        plain.ask("/forget")
        self.assertEqual(plain.ask("Why a caf\u00e9\u00e9\x7f?"), whole)  # a character, not a byte, is taken back
        plain.send("\x04")
        self.assertEqual(plain.end(), 0)
        chat.send("\x04")
        self.assertEqual(chat.end(), 0)

    def test_ctrl_c_stops_an_answer_and_not_the_program(self):
        chat = self.begin("chat", "-m", SLOW, "-t", "1", "-n", "60000", "--draft", "none")
        for _ in range(2):
            chat.send("What is an ant?\n")
            chat.wait(r"ant\?\n[^>]{20}")  # it streams
            chat.send("\x03")
            chat.wait(r"\(stopped\)\n" + PROMPT + "$", 20)
        self.assertRegex(chat.ask("/stats"), r"tokens +\d+")
        chat.send("half a line\x03")
        chat.wait(r"half a line.*\n" + PROMPT + "$")
        self.once_more(chat)
        self.assertRegex(chat.ask("/stats"), r"tokens +\d+")  # what else is typed makes it two anew
        self.once_more(chat)
        chat.send("\x03")
        self.assertEqual(chat.end(), 0)

    def once_more(self, chat):
        chat.send("\x03")
        return chat.wait(r"once more.*\n" + PROMPT + "$")

    def test_turns_that_are_read_anew_show_a_bar(self):
        chat = self.begin(*CHAT, "--chat-budget", "64")
        self.assertIn("no question yet", chat.ask("/full"))
        shown = [" reading older turns [" in " " + chat.ask("And what of the thing in the north?") for _ in range(6)]
        self.assertFalse(shown[0])
        self.assertTrue(any(shown))
        chat.send("/exit\n")
        self.assertEqual(chat.end(), 0)

    def test_sigterm_ends_it_and_leaves_the_terminal_in_order(self):
        chat = self.begin(*CHAT)
        self.assertFalse(termios.tcgetattr(chat.fd)[3] & termios.ICANON)
        os.kill(chat.pid, signal.SIGTERM)
        chat.wait("interrupted")
        self.assertTrue(termios.tcgetattr(chat.fd)[3] & termios.ICANON)
        self.assertEqual(chat.end(), 130)


class FromAPipe(Case):
    def chat(self, lines, *args, **kwargs):
        return self.curdkv(*CHAT, *args, input="\n".join(lines) + "\n", **kwargs)

    def test_answers_and_nothing_else_on_stdout(self):
        out, err = self.chat(["What is an ant?", "", "Why?"], "-f", DOCUMENT, *PRESS)
        self.assertIn("tokens read", err)
        self.assertNotIn("\x1b", out + err)
        self.assertNotIn(PROMPT, out)
        answers = out.split("\n\n")
        one, _ = self.chat(["What is an ant?"], "-f", DOCUMENT, *PRESS)
        self.assertTrue(out.startswith(one))
        self.assertEqual(self.chat([], "-f", DOCUMENT)[0], "")
        run, _ = self.curdkv("run", *CHAT[1:], "-f", DOCUMENT, *PRESS, "-q", "What is an ant?")
        self.assertEqual(one.strip(), run.strip())
        self.assertGreaterEqual(len(answers), 2)

    def test_without_a_document_and_with_a_system_turn(self):
        plain, _ = self.chat(["Why?"])
        other, _ = self.chat(["Why?"], "-sys", "Be brief.")
        self.assertTrue(plain.strip() and other.strip())
        self.assertNotEqual(plain, other)

    def test_errors_do_not_end_it(self):
        out, err = self.chat(["/nothing", "/read -", "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "Why?"],
                             code=1)
        self.assertIn("no command '/nothing'", err)
        self.assertIn("standard input has the questions", err)
        self.assertTrue(out.strip())
        done = subprocess.run([CURDKV, *CHAT], input=b"\xff\xfe\nWhy?\n", capture_output=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"not UTF-8", done.stderr)
        self.assertTrue(done.stdout.strip())

    def test_what_cannot_begin(self):
        for words, args in (("No such file", ("-f", path("missing.txt"))), ("leave out --raw", ("--raw",)),
                            ("give a file", ("-f", "-")), ("at least 64", ("--chat-budget", "9")),
                            ("leave out -f and -p", ("-f", DOCUMENT, "--context", DOCUMENT)),
                            ("the document is too long", ("-f", DOCUMENT, "-c", "100"))):
            with self.subTest(words):
                code = 2 if words not in ("No such file", "the document is too long") else 1
                self.fails(code, words, *CHAT, *args, input="Why?\n")

    def test_what_does_not_fit_loses_nothing(self):
        out, err = self.chat(["Why?", "x" * 3000, "/read " + write("long.txt", TEXT * 9), "/ask-again"], "-c", "600", code=1)
        self.assertIn("the question does not fit", err)
        self.assertIn("the document is too long", err)
        self.assertEqual(out, 2 * self.chat(["Why?"], "-c", "600")[0])

    def test_saved_and_gone_on_with(self):
        saved = path("chat.kvc")
        out, _ = self.chat(["What is an ant?", "/save " + saved, "Why?"], "-f", DOCUMENT, *PRESS)
        self.assertRegex(out, r"chat.kvc: \d+ tokens saved, ")
        told = self.json("inspect", saved, "--json")
        self.assertEqual(told["documents"][0]["name"], DOCUMENT)
        self.assertEqual((told["press"], told["compression_ratio"]), ("ridgekv", 0.5))
        again, err = self.chat(["Why?", "/full", "/save " + saved, "/forget", "Why?"], "--context", saved)
        self.assertRegex(err, r"restored \d+ tokens")
        answers = re.split(r"\n\n|[^\n]*saved, .*\n", again)
        self.assertTrue(again.startswith(answers[0]))
        self.assertTrue(again.endswith(answers[0] + "\n\n"))
        # Before anything was asked it is what compress saves.
        self.chat(["/save " + saved], "-f", DOCUMENT, *PRESS)
        compressed = path("compressed.kvc")
        self.curdkv("compress", "-m", MODEL, "-t", "1", "-f", DOCUMENT, *PRESS, "-o", compressed)
        ask = ("run", *CHAT[1:], "-q", "Why?", "--context")
        self.assertEqual(self.curdkv(*ask, saved)[0], self.curdkv(*ask, compressed)[0])
        self.assertIn("nothing to save", self.chat(["/save " + saved], code=1)[1])
        self.assertIn("it is an input too", self.chat(["Why?", "/save " + MODEL], code=1)[1])

    def rows_since(self, budget):
        lines = ["And what of the thing?", "/stats"] * 12
        out, _ = self.chat(lines, "-f", DOCUMENT, *PRESS, "--chat-budget", str(budget))
        return [int(n) for n in re.findall(r"at most (\d+) since the document", out)]

    def test_a_budget_bounds_the_turns(self):
        free, bounded = self.rows_since(0), self.rows_since(160)
        self.assertEqual(len(bounded), 12)
        self.assertLessEqual(max(bounded), 160 + 12)
        self.assertGreater(free[-1], 400)
        self.assertGreaterEqual(sum(after <= before for before, after in zip(bounded, bounded[1:])), 3)
        # With a press that counts bytes, too.
        out, _ = self.chat(["Why?"] * 3, "-f", DOCUMENT, "--press", "recommended", "--compression-ratio", "0.6",
                           "--chat-budget", "64")
        self.assertTrue(out.strip())

    def test_sampling(self):
        hot = ("--temp", "1.5", "--seed", "7")
        out, _ = self.chat(["Why?", "/ask-again"], *hot)
        one, _ = self.chat(["Why?"], *hot)
        self.assertTrue(out.startswith(one))
        self.assertNotEqual(out, one + one)


if __name__ == "__main__":
    unittest.main()
