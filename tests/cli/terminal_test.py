"""What reaches a terminal: bars that fit it, no escape sequences of others' making, and bytes as they are elsewhere."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import unittest

from harness import BUILD, CURDKV, SLOW, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "1000000"], check=True)
EVIL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x08\x7f \u009b31m \u202eback\u2066 end\n"
SHOWN = "\\x1b[31mred\\x1b[0m \\x1b]0;title\\x07 \\x08\\u007f \\u009b31m \\u202eback\\u2066 end"


def resize(fd, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


class Terminal:
    """Runs curdkv with stdout or stderr, or both, on a terminal."""

    def __init__(self, *args, columns=80, streams="both", then=None, **env):
        master, slave = pty.openpty()
        resize(slave, columns)
        keep = {k: v for k, v in os.environ.items() if k != "TERM"}
        other = subprocess.DEVNULL
        run = subprocess.Popen([CURDKV, *args], stdin=subprocess.DEVNULL, stdout=other if streams == "err" else slave,
                               stderr=other if streams == "out" else slave, env={**keep, **env})
        out = []

        def read():
            while True:
                try:
                    data = os.read(master, 65536)
                except OSError:
                    break
                if not data:
                    break
                if then is not None and not out:  # from the first output on
                    resize(slave, then)
                out.append(data)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self.code = run.wait(timeout=120)
        time.sleep(0.2)
        os.close(slave)
        reader.join(timeout=5)
        os.close(master)
        self.bytes = b"".join(out)
        self.text = self.bytes.decode("utf-8", "replace")


class Bars(Case):
    # Long enough to be read for a second.
    document = write("long.txt", "The thing in the north is an ant. " * (250 if SLOW else 700))
    args = ("run", "-m", MODEL, "-t", "1", "-f", document, "-q", "x", "-n", "1", "--press", "none", "-c", "200000")

    def widths(self, text):
        return [len(part) for part in text.split("\r") if part.endswith("%") or " left" in part or part.endswith("tokens")]

    def test_no_wider_than_the_terminal(self):
        for columns in (200, 80, 60, 20, 5):
            text = Terminal(*self.args, columns=columns, streams="err", TERM="xterm").text
            widths = self.widths(text)
            self.assertTrue(widths or columns == 5, text[:200])
            self.assertLess(max(widths + [0]), columns)
            self.assertNotIn("\x1b", text)
        self.assertLess(self.widths(Terminal(*self.args, columns=120, then=30, streams="err", TERM="xterm").text)[-1], 30)
        full = Terminal(*self.args, columns=120, streams="err", TERM="xterm").text
        self.assertRegex(full, r"\[=* +\] +\d+ %  \d+ s left  \d+ t/s  \d+ tokens")

    def test_no_escape_sequences(self):
        for env in ({"TERM": "dumb"}, {}, {"TERM": "xterm"}):
            self.assertNotIn("\x1b", Terminal(*self.args, **env).text)

    def test_the_line_is_taken_away(self):
        parts = Terminal(*self.args, columns=80, streams="err", TERM="xterm").text.split("\r")
        at = max(i for i, part in enumerate(parts) if "%" in part and "[" in part)
        self.assertRegex(parts[at + 1], r"^ +$")

    def test_nothing_where_there_is_no_terminal(self):
        _, err = self.curdkv(*self.args)
        self.assertNotIn("\r", err)


class Escapes(Case):
    """What the tiny model answers is noise; questions are printed with answers, and come from the user's own files."""
    args = ("run", "-m", MODEL, "-t", "1", "-p", "x", "-n", "1", "--press", "none", "-q", EVIL, "-q", "y")

    def test_shown_on_a_terminal(self):
        text = Terminal(*self.args, streams="out").text
        self.assertIn(SHOWN, text)
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\u009b", text)

    def test_left_alone_elsewhere(self):
        self.assertIn(EVIL, self.curdkv(*self.args)[0])

    def test_json_stays_json(self):
        import json
        text = Terminal(*self.args, "--json", streams="out").text
        self.assertNotRegex(text, "[\x1b\x7f\u0080-\u009f\u202e]")
        self.assertEqual(json.loads(text)["answers"][0]["question"], EVIL)

    def test_names_and_messages(self):
        for args in (("inspect", EVIL), ("run", "-f", EVIL, "-q", "x"), (EVIL,), ("run", "--" + EVIL),
                     ("run", "-n", EVIL), ("report", EVIL, "-o", path("x.html")),
                     ("run", "-m", MODEL, "-p", "x", "-q", "y", "--press", EVIL), ("perplexity", "-m", EVIL, "-p", "x")):
            text = Terminal(*args).text
            self.assertNotRegex(text, "[\x1b\x07\x08\x7f\u0080-\u009f\u202e\u2066]", args)
            self.assertIn("\\x1b[31mred", text)
        latin = os.fsencode(path("")) + b"\x9b31m.txt"
        self.assertIn("\\x9b31m", Terminal("run", "-f", latin, "-q", "x").text)

    def test_metadata(self):
        with open(MODEL, "rb") as file:
            data = file.read()
        # general.name "tiny" in four bytes.
        at = data.index(b"general.name") + len(b"general.name") + 4 + 8
        self.assertEqual(data[at:at + 4], b"tiny")
        named = write("named.gguf", data[:at] + b"\x1b[2\n" + data[at + 4:])
        self.assertIn("name          \\x1b[2\\x0a", Terminal("inspect", named, streams="out").text)
        self.assertIn("name          \x1b[2\n\n", self.curdkv("inspect", named)[0])


if __name__ == "__main__":
    unittest.main()
