"""What the tests of eval and report share: a tiny model, a grid of presses, and files read back."""
import json
import os
import subprocess

from harness import BUILD, path

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "4096"], check=True)
GRID = ("eval", "-m", MODEL, "-t", "1", "--task", "niah_single_1,niah_multikey_1", "--samples", "3", "--context-tokens",
        "700", "-n", "4", "--press", "knorm,snapkv,curdkv:sinks=9", "--compression-ratio", "0.5,0.9")


def lines(file):
    with open(path(file)) as f:
        return [json.loads(line) for line in f]


def content(file):
    with open(path(file), "rb") as f:
        return f.read()
