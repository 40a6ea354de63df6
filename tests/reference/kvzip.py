"""KVzip's two readings in numpy, on a tiny random llama model: what the engine's kvzip and kvzipplus presses have to
keep.

usage: kvzip.py kvzip_model.gguf kvzip_reference.gguf

The model is what `make_tiny_model kvzip_model.gguf 1024` writes. Double precision, written from Kim et al., "KVzip:
Query-Agnostic KV Cache Compression with Context Reconstruction", NeurIPS 2025 (arXiv 2505.23416), in the details as
kvpress 0.5.5 with layerwise=True: every repeat attends to the whole context and itself; its scores come from a softmax
over the first 4 tokens, its own stretch and itself; the highest over queries and the group's heads counts. Kept: the
highest over a layer's heads, the first 4 tokens always. For KVzip+ (Jegou and Jeblick 2026, arXiv 2601.07891) the
attention of a query is divided by the norm of the layer's input, as the projections take it, and multiplied by the norm
of the token's value behind a head's part of the output matrix. Needs numpy and the gguf package.
"""
import sys

import gguf
import numpy as np

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
T = {t.name: t.data.astype(np.float64) for t in reader.tensors}
key = lambda k: reader.get_field("llama." + k).contents()
L, H, HKV, D = key("block_count"), key("attention.head_count"), key("attention.head_count_kv"), key("attention.key_length")
EPS, BASE = key("attention.layer_norm_rms_epsilon"), key("rope.freq_base")
G = H // HKV
rng = np.random.default_rng(7)


def norm(x, w):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * w


def rope(x, positions):  # [tokens, heads, D], neighbouring dimensions rotate together
    angle = positions[:, None, None] * BASE ** (-np.arange(0, D, 2) / D)
    a, b = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = a * np.cos(angle) - b * np.sin(angle)
    out[..., 1::2] = a * np.sin(angle) + b * np.cos(angle)
    return out


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def project(il, x, positions):
    p = f"blk.{il}."
    n = norm(x, T[p + "attn_norm.weight"])
    q = rope((n @ T[p + "attn_q.weight"].T).reshape(-1, H, D), positions)
    k = rope((n @ T[p + "attn_k.weight"].T).reshape(-1, HKV, D), positions)
    return q, k, (n @ T[p + "attn_v.weight"].T).reshape(-1, HKV, D), np.linalg.norm(n, axis=-1)


def causal(q, k, n_past):  # logits of [queries, H, D] over [keys, HKV, D], of which n_past are seen by all
    logits = np.einsum("qhd,khd->hqk", q, np.repeat(k, G, axis=1)) / np.sqrt(D)
    later = np.arange(k.shape[0])[None, :] > n_past + np.arange(q.shape[0])[:, None]
    return np.where(later[None], -np.inf, logits)


def layer(il, x, positions, past_k, past_v):
    p = f"blk.{il}."
    q, k, v, input_norms = project(il, x, positions)
    keys, values = np.concatenate([past_k, k]), np.concatenate([past_v, v])
    a = softmax(causal(q, keys, past_k.shape[0]))
    out = np.einsum("hqk,khd->qhd", a, np.repeat(values, G, axis=1)).reshape(x.shape[0], -1)
    x = x + out @ T[p + "attn_output.weight"].T
    n = norm(x, T[p + "ffn_norm.weight"])
    gate, up = n @ T[p + "ffn_gate.weight"].T, n @ T[p + "ffn_up.weight"].T
    return x + (gate / (1 + np.exp(-gate)) * up) @ T[p + "ffn_down.weight"].T, q, k, v, input_norms


n = 203
n_vocab = T["token_embd.weight"].shape[0]
context = rng.integers(0, n_vocab, n).astype(np.int32)
repeats = []  # stretches behind a prefix of 5 tokens, each asked for by 11 to 13 tokens
for i, (first, count) in enumerate([(5, 80), (85, 80), (165, 38)]):
    ask = rng.integers(0, n_vocab, 11 + i).astype(np.int32)
    repeats.append((first, count, np.concatenate([ask, context[first : first + count]])))

none = np.zeros((0, HKV, D))
x = T["token_embd.weight"][context]
again = [T["token_embd.weight"][tokens] for _, _, tokens in repeats]
scores, plus = np.zeros((L, HKV, n)), np.zeros((L, HKV, n))
for il in range(L):
    x, _, K, V, _ = layer(il, x, np.arange(n), none, none)
    wo = T[f"blk.{il}.attn_output.weight"].reshape(-1, H, D)
    written = np.linalg.norm(np.einsum("ehd,khd->hke", wo, np.repeat(V, G, axis=1)), axis=-1)  # [H, n]
    for i, (first, count, tokens) in enumerate(repeats):
        again[i], q, k, _, input_norms = layer(il, again[i], n + np.arange(len(tokens)), K, V)
        n_sinks = min(4, first)
        keys = np.concatenate([K[:n_sinks], K[first : first + count], k])
        a = softmax(causal(q, keys, n_sinks + count))[:, :, n_sinks : n_sinks + count]
        scores[il, :, first : first + count] = a.max(1).reshape(HKV, G, count).max(1)
        a = (a / input_norms[None, :, None]).max(1) * written[:, first : first + count]
        plus[il, :, first : first + count] = a.reshape(HKV, G, count).max(1)

writer = gguf.GGUFWriter(target, "curdkv-golden")
writer.add_string("source", "tests/reference/kvzip.py")
writer.add_tensor("context", context)
for i, (first, count, tokens) in enumerate(repeats):
    writer.add_tensor(f"repeat{i}.stretch", np.array([first, count], np.int32))
    writer.add_tensor(f"repeat{i}.tokens", tokens.astype(np.int32))
for name, all_scores in (("kept", scores), ("plus", plus)):
    for r in (30, 50, 70, 90):
        k = int(n * (1 - r / 100)) * HKV
        for il in range(L):
            s = all_scores[il].copy()
            s[:, :4] = s.max() + 1
            order = np.argsort(-s.ravel(), kind="stable")
            border = s.ravel()[order[k - 1 : k + 1]]
            if border[0] - border[1] < 1e-4 * border[0]:
                continue
            mask = np.zeros(n * HKV, np.int32)
            mask[order[:k]] = 1
            writer.add_tensor(f"{name}.r{r}.{il}", mask)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
