"""Reference for rows in few bits and for the one budget of bytes (press "recommended").

usage: packing.py layerXX.gguf packing_layerXX.gguf

Reads one layer's keys, values and queries (tests/goldens/extract.py) and computes in double precision, apart from the
engine and from what its headers say (row_codec.h, scorer.h, allocation.h, byte_budget.h, press.h):
- references.nXX: XX queries of each KV head, of evenly spaced tokens and of its group's heads in turn, rotated to where
  the context's end would have them; of 512 every fifth. worth: root mean square of the weights that those of 512 give a
  token, times its value's norm; induction: per head, the mean of 0.3 of their weight on their own token and all of
  those on the four behind it;
- mean_k, mean_v: of the rows, turned by a Hadamard matrix, F16;
- levels_X.TYPE, scale_X.TYPE: of some rows, centred and turned, each element's level, counted from the lowest (less
  128, of q8), and what a level's unit stands for; error_X.TYPE: the mean squared error of these rows, per head;
- logit_error.TYPE: root mean square over 128 of 384 queries and keys; key_type.xF: bits of the first type with at most
  0.5, had queries been F times as large: the layers at hand have but one type otherwise;
- counts.xF.fYY.sXX: rows per head where the layer's may take XX percent of their bytes in F16 and each head has YY
  percent of an even share for certain; order: in which each head gives them up, mixkv's, its first four tokens last.
Needs numpy and the gguf package.
"""
import sys
from math import erf, exp, pi, sqrt

import gguf
import numpy as np

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
K, V, Q = (next(t for t in reader.tensors if t.name == name).data.astype(np.float64)
           for name in ("keys", "values", "queries"))  # [heads, tokens, d]
H, n, d = K.shape
G = Q.shape[0] // H
THETA = float(reader.get_field("rope_theta").contents())
N_SAMPLED, N_SINKS = 32, 4
out = {}


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# Tokens and heads of their groups, that queries to come are taken from.
def taken(asked):
    m = min(max(1, asked), n * G)
    return (2 * np.arange(m) + 1) * n // (2 * m), np.arange(m) % G


# [heads, asked, d].
def references(asked):
    t, head = taken(asked)
    angle = (n + np.arange(len(t)) % 64 - t)[:, None] * THETA ** (-2 * np.arange(d // 2) / d)
    q = Q.reshape(H, G, n, d)[:, head, t]
    a, b = q[..., : d // 2], q[..., d // 2 :]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)


refs = references(512)
out["references.n96"] = references(96).astype(np.float32)
out["references.n512"] = refs[:, ::5].astype(np.float32)
weights = softmax(refs @ K.transpose(0, 2, 1) / sqrt(d))
worth = np.sqrt((weights**2).mean(1)) * np.linalg.norm(V, axis=-1)
out["worth"] = worth.astype(np.float32)
asked_by = taken(512)[0]
induction = sum(
    share * np.where(asked_by + i < n, weights[:, np.arange(len(asked_by)), np.minimum(asked_by + i, n - 1)], 0).mean(1)
    for i, share in enumerate((0.3, 1, 1, 1, 1)))
out["induction"] = induction.astype(np.float32)


# Rows turned, and centred by their rounded mean.
def hadamard():
    block = 1
    while d % (2 * block) == 0:
        block *= 2
    turn = np.ones((1, 1))
    while len(turn) < block:
        turn = np.kron([[1, 1], [1, -1]], turn) / sqrt(2)
    return np.kron(np.eye(d // block), turn)


turn = hadamard()
assert np.allclose(turn @ turn, np.eye(d))
centred = {}
for name, x in ("k", K), ("v", V):
    mean = (x @ turn).mean(1).astype(np.float16)
    out["mean_" + name] = mean
    centred[name] = x @ turn - mean.astype(np.float64)[:, None]

# A level's step that is best for a Gaussian of variance 1 with so many evenly spaced levels: Max 1960, table 2.
GAUSS_STEP = {"q8": (256, 0.0308), "q5": (32, 0.1881), "q4": (16, 0.3352)}
Q3 = np.array([-114, -71, -40, -13, 13, 40, 71, 114.0])
Q3_ONE = 53
UNIT = {"q8": 1 / 64, "q5": 1 / 8, "q4": 1 / 4, "q3": 1 / 32}


# The mean squared error of a Gaussian, levels around zero with thresholds halfway.
def gaussian_error(levels):
    edges = [-np.inf, *((levels[1:] + levels[:-1]) / 2), np.inf]
    below = [0.5 * (1 + erf(x / sqrt(2))) for x in edges]
    dense = [exp(-x * x / 2) / sqrt(2 * pi) for x in edges]
    error = 1.0
    for level, p, q, f, g in zip(levels, below, below[1:], dense, dense[1:]):
        error += level**2 * (q - p) - 2 * level * (f - g)
    return error


def evenly_spaced(n_levels, step):
    return (np.arange(n_levels) - (n_levels - 1) / 2) * step


for n_levels, step in GAUSS_STEP.values():  # as a check of the table's digits
    least = gaussian_error(evenly_spaced(n_levels, step))
    assert all(least < gaussian_error(evenly_spaced(n_levels, step + by)) for by in (-1e-4, 1e-4))
assert gaussian_error(Q3 / Q3_ONE) < 0.03455  # Max: 0.03454 for eight levels


# Of ascending levels.
def nearest(x, levels):
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, x)


def fitted(x, levels, unit_size):
    """Codes of a row for a unit of such a size, and the unit that fits them best."""
    code = nearest(x, levels * unit_size) if unit_size > 0 else nearest(x, levels)
    return code, float(x @ levels[code] / (levels[code] ** 2).sum())


def encode(kind, x):
    rms = sqrt((x**2).mean())
    if kind == "q3":
        _, unit = fitted(x, Q3, rms / Q3_ONE)
        return fitted(x, Q3, unit) + (Q3,)
    n_levels, step = GAUSS_STEP[kind]
    levels = evenly_spaced(n_levels, 1)
    choices = [fitted(x, levels, np.abs(x).max() / levels[-1]), fitted(x, levels, rms * step)]
    errors = [((x - unit * levels[code]) ** 2).sum() for code, unit in choices]
    return choices[int(errors[1] < errors[0])] + (levels,)


def stands_for(kind, x):
    if kind == "f16":
        return x.astype(np.float16).astype(np.float64)
    code, unit, levels = encode(kind, x)
    return float(np.float16(unit / UNIT[kind])) * UNIT[kind] * levels[code]


sampled = np.arange(N_SAMPLED) * n // N_SAMPLED
for name, rows in centred.items():
    for kind in UNIT:
        code, unit = np.zeros((H, N_SAMPLED, d)), np.zeros((H, N_SAMPLED))
        error = np.zeros(H)
        for h in range(H):
            for i, t in enumerate(sampled):
                code[h, i], unit[h, i], _ = encode(kind, rows[h, t])
                error[h] += ((stands_for(kind, rows[h, t]) - rows[h, t]) ** 2).mean() / N_SAMPLED
        out[f"levels_{name}.{kind}"] = (code - (128 if kind == "q8" else 0)).astype(np.int8)
        out[f"scale_{name}.{kind}"] = unit.astype(np.float32)
        out[f"error_{name}.{kind}"] = error.astype(np.float32)
        power = (rows[:, sampled] ** 2).mean((1, 2))
        print(f"{name} {kind} mean squared error {error}, of the rows' {error / power}")

# Types of keys.
n_queries, n_keys, few = 128, min(512, n), references(384)  # of which each third is of the same head
step = few.shape[1] // n_queries
queries = few[:, np.arange(n_queries) * step + np.arange(n_queries) % step] @ turn / sqrt(d)
keys = centred["k"][:, np.arange(n_keys) * n // n_keys]
logit_error = {}
for kind in ("q3", "q4", "q5", "q8", "f16"):
    off = np.array([[stands_for(kind, x) - x for x in keys[h]] for h in range(H)])
    logit_error[kind] = np.sqrt(((queries @ off.transpose(0, 2, 1)) ** 2).mean((1, 2)))
    out["logit_error." + kind] = logit_error[kind].astype(np.float32)
    print(f"{kind} root mean square error of logits {logit_error[kind]}")


def key_types(factor):
    return [next((kind for kind in logit_error if logit_error[kind][h] * factor <= 0.5), "f16") for h in range(H)]


# One budget of bytes.
BITS = {"q3": 3, "q4": 4, "q5": 5, "q8": 8, "f16": 16}


def row_bytes(kind):
    padded = (d + 15) // 16 * 16
    return padded * BITS[kind] // 8 + (2 if kind in UNIT else 0)


def counts(n_bytes, sizes, floor, n_fixed):
    kept = [min(n, max(int(floor * n_bytes / H / size), n_fixed)) for size in sizes]
    left = n_bytes - sum(k * size for k, size in zip(kept, sizes))
    rest = []
    for h in range(H):
        worth_here = worth[h] * (1e-4 + induction[h])
        rest += [(-w / sizes[h], h) for w in sorted(worth_here, reverse=True)[kept[h] :]]
    for _, h in sorted(rest):
        if sizes[h] > left:
            break
        left -= sizes[h]
        kept[h] += 1
    return kept


for factor in (1, 4):
    types = key_types(factor)
    sizes = [row_bytes(kind) + row_bytes("q3") for kind in types]
    out[f"key_type.x{factor}"] = np.array([BITS[kind] for kind in types], np.int32)
    print(f"types of keys, queries {factor} times as large: {types}, rows of {sizes} bytes")
    for floor in (30, 80):
        for percent in (50, 25, 15, 10, 5, 1):
            kept = counts(percent / 100 * H * n * 2 * (d + d), sizes, floor / 100, N_SINKS + 1)
            out[f"counts.x{factor}.f{floor}.s{percent}"] = np.array(kept, np.int32)
            print(f"{percent} % of the bytes, floor {floor} %: rows {kept}")


# mixkv's order, as presses.py has its scores.
def smooth(x, width):
    return np.array([x[max(0, t - width // 2) : t + width // 2 + 1].mean() for t in range(len(x))])


def ridge_leverage(a, ridge):
    u, s, _ = np.linalg.svd(a, full_matrices=False)
    return (u**2 * (s**2 / (s**2 + ridge * (s**2).sum() / d))).sum(1)


def leverage(h):
    return smooth(ridge_leverage(K[h], 3) * ridge_leverage(V[h], 3), 3)


def noncausal(h, chunk=256):
    sums = np.zeros((G, n))
    for g in range(G):
        for at in range(0, n, chunk):
            q, k = (np.zeros((chunk, d)) for _ in range(2))  # the last chunk is filled up with zeros
            m = min(chunk, n - at)
            q[:m], k[:m] = Q[h * G + g, at : at + m], K[h, at : at + m]
            sums[g, at : at + m] = softmax(q @ k.T).sum(0)[:m]
    padded = np.pad(sums.mean(0) * np.linalg.norm(V[h], axis=-1), 1)
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


def ranks(score):
    return np.argsort(np.argsort(-score, kind="stable"), kind="stable")


order = []
for h in range(H):
    by_leverage = leverage(h)
    by_leverage[:N_SINKS] = np.inf
    # Shares 0.7 and 0.3, in whole numbers: (rank + 1/2) / 0.7 and (rank + 1/2) / 0.3, times 4.2.
    place = np.minimum(3 * (2 * ranks(by_leverage) + 1), 7 * (2 * ranks(noncausal(h)) + 1))
    place[:N_SINKS] = -1
    order.append(np.argsort(place, kind="stable"))
out["order"] = np.array(order, np.int32)

writer = gguf.GGUFWriter(target, "curdkv-golden")
writer.add_string("source", "tests/reference/packing.py")
for name, x in out.items():
    writer.add_tensor(name, x)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
