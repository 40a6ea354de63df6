"""Plots which tokens of a saved context were kept: a column for each token, a row for each layer's KV heads.
usage: plot_kept.py CONTEXT [IMAGE.png]   (pip install gguf; with IMAGE also matplotlib)"""
import sys

import numpy as np
from gguf import GGUFReader

reader = GGUFReader(sys.argv[1])
tensors = {t.name: t.data for t in reader.tensors}


def values(key):
    return [reader.fields[key].parts[i].tolist() for i in reader.fields[key].data]


def positions(words, n):
    """Of one head's n rows, and how many words say them: docs/context-format.md."""
    first, n_words = words[:2]
    if n_words == 0:
        return words[2:2 + n], 2 + n
    bits = np.unpackbits(words[2:2 + n_words].view(np.uint8), bitorder="little")
    return first + np.flatnonzero(bits), 2 + n_words


heads = [n for (n,) in values("context.model.n_head_kv")]
n_tokens = values("context.n_tokens")[0][0]
kept = np.zeros((sum(heads), n_tokens), bool)
for block in range(values("context.n_blocks")[0][0]):
    rows = iter(values(f"context.block.{block}.rows"))
    head = 0
    for layer, n_head_kv in enumerate(heads):
        words = tensors.get(f"block.{block}.layer.{layer}.positions")
        for _ in range(n_head_kv):
            n = next(rows)[0]
            if words is not None:
                where, n_words = positions(words, n)
                kept[head, where], words = True, words[n_words:]
            head += 1
print(f"{n_tokens} tokens; kept: {kept.mean():.1%} of rows, {kept.any(0).mean():.1%} of tokens by some head")
if len(sys.argv) > 2:
    import matplotlib.image

    matplotlib.image.imsave(sys.argv[2], kept, cmap="gray_r")
