"""What the command-line tests share: the program, a tiny model, a document, and a way to run."""
import json
import os
import subprocess
import tempfile
import unittest

BUILD = os.environ["CURDKV_BUILD"]
CURDKV = os.path.join(BUILD, "curdkv")
SLOW = os.environ.get("CURDKV_SLOW_BUILD") == "1"
FOLDER = tempfile.TemporaryDirectory(prefix="curdkv-cli-")


def path(name):
    return os.path.join(FOLDER.name, name)


def write(name, data):
    mode = "wb" if isinstance(data, bytes) else "w"
    with open(path(name), mode) as file:
        file.write(data)
    return path(name)


def sample(items, step):
    """All of them, or every step-th in slow builds: for what is asked of many that the program treats alike."""
    return list(items)[::step if SLOW else 1]


class Case(unittest.TestCase):
    maxDiff = None

    def curdkv(self, *args, code=0, **kwargs):
        """Runs curdkv; returns (stdout, stderr). No run may end by a signal or print a stack."""
        done = subprocess.run([CURDKV, *args], capture_output=True, text=True, **{"timeout": 600, **kwargs})
        self.assertEqual(done.returncode, code, f"{args}\n{done.stdout}\n{done.stderr}")
        for word in ("Sanitizer", "terminate called", "GGML_ASSERT", "#0 "):
            self.assertNotIn(word, done.stderr)
        return done.stdout, done.stderr

    def fails(self, code, words, *args, **kwargs):
        """Runs curdkv expecting an exit code and a message; nothing on stdout."""
        out, err = self.curdkv(*args, code=code, **kwargs)
        self.assertIn(words, err)
        self.assertEqual(out, "")

    def json(self, *args, **kwargs):
        return json.loads(self.curdkv(*args, **kwargs)[0])
