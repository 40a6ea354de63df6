"""Reference scores for presses that kvpress does not have, or has with random numbers of its own.

usage: presses.py layerXX.gguf reference_layerXX.gguf

Reads one layer's keys, values and queries (tests/goldens/extract.py) and writes score.NAME and kept.NAME.rXX, in
double precision, written from the papers and apart from the engine:
- leverage, ridgekv: Sengupta et al., "Value-Guided KV Compression for LLMs via Approximated CUR Decomposition", NeurIPS
  2025, equations 4 and 5, by singular value decomposition; the ridge divides by sigma^2 + lambda m;
- scissorshands: Liu et al., NeurIPS 2023 (arXiv 2305.17118), Algorithm 2, counts averaged over a group's query heads;
- noncausal_attention, compactor: Chari and Van Durme 2025 (arXiv 2507.08143), as kvpress 0.5.5 runs them;
- dropkv: "DropKV: KV cache eviction via Decoupled Residual-Output Perturbation" (openreview MqfNzH3TVH), as kvpress's
  pull request 285 runs it, every distance by itself; the protected last tokens lie above all heads' scores;
- capkv: Yang et al. 2026 (arXiv 2604.25975), as kvpress's cap_press.py runs it;
- mixkv: this project's, 0.7 ridge leverage (ridge 3, smooth 3), 0.3 non-causal attention, interleaved by rank.
Needs numpy and the gguf package.
"""
import sys

import gguf
import numpy as np

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
tensors = {t.name: t.data.astype(np.float64) for t in reader.tensors if t.name in ("keys", "values", "queries")}
K, V, Q = tensors["keys"], tensors["values"], tensors["queries"]  # [heads, tokens, d]
H, n, d = K.shape
G = Q.shape[0] // H
THETA = float(reader.get_field("rope_theta").contents())
rng = np.random.default_rng(48)
sketch = rng.standard_normal((d, 48)).astype(np.float32)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def group_mean(x):
    return x.reshape(H, G, -1).mean(1)


def leverage(a, ridge=0.0):
    u, s, _ = np.linalg.svd(a, full_matrices=False)
    m = (s**2).sum() / a.shape[1]
    weight = s**2 / (s**2 + ridge * m) if ridge else (s > s.max() * 1e-10).astype(float)
    return (u**2 * weight).sum(1)


def smooth(x, width):
    half = width // 2
    return np.array([x[max(0, t - half) : t + half + 1].mean() for t in range(len(x))])


def leverage_press(of="kv", ridge=0.0, width=1, sinks=4):
    out = []
    for h in range(H):
        s = np.ones(n)
        if "k" in of:
            s = s * leverage(K[h], ridge)
        if "v" in of:
            s = s * leverage(V[h], ridge)
        out.append(smooth(s, width))
    out = np.array(out)
    out[:, :sinks] = out.max() + 1 if sinks else out[:, :0]
    return out


def scissorshands(history=400, recent=10):
    w = min(history, n)
    out = np.zeros((Q.shape[0], n))
    for h in range(Q.shape[0]):
        logits = Q[h] @ K[h // G].T / np.sqrt(d)
        logits[np.triu_indices(n, 1)] = -np.inf
        out[h] = (softmax(logits)[n - w :] > 1 / n).sum(0) / w
    out = group_mean(out)
    if recent:
        out[:, -recent:] = 2
    return out


def standardise(x):
    return (x - x.mean()) / x.std(ddof=1)


def noncausal(first=0, last=n, chunk=256, scaled=False, corrected=False):
    sums = np.zeros((Q.shape[0], last - first))
    for h in range(Q.shape[0]):
        for at in range(first, last, chunk):
            m = min(chunk, last - at)
            q, k = Q[h, at : at + m], K[h // G, at : at + m]
            if not corrected:
                pad = np.zeros((chunk - m, d))
                q, k = np.concatenate([q, pad]), np.concatenate([k, pad])
            sums[h, at - first : at - first + m] = softmax(q @ k.T / (np.sqrt(d) if scaled else 1)).sum(0)[:m]
    s = group_mean(sums) * np.linalg.norm(V[:, first:last], axis=-1)
    padded = np.pad(s, ((0, 0), (1, 1)))
    return standardise((padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3)


def without_rope(x):
    """Half-split rotation taken back."""
    angle = np.arange(n)[:, None] * THETA ** (-np.arange(d // 2) / (d // 2))
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.concatenate([a * cos + b * sin, b * cos - a * sin], -1)


def compactor(removed):
    first, last = 8, n - 4
    raw = without_rope(K)[:, first:last]
    lev = []
    for h in range(H):
        x = (raw[h] - raw[h].mean(0)) @ (sketch.astype(np.float64) / np.sqrt(48))
        lev.append(np.einsum("ij,ij->i", x, np.linalg.solve(x.T @ x + 1e-2 * np.eye(48), x.T).T))
    s = removed * standardise(np.array(lev)) + noncausal(first, last)
    return np.pad(s, ((0, 0), (first, n - last)), constant_values=s.max())


def dropkv(window=32, kernel=7, epsilon=1e-6):
    moved = np.zeros((Q.shape[0], n))
    for h in range(Q.shape[0]):
        for i in range(n - window, n):
            p = np.zeros(n)
            p[: i + 1] = softmax(Q[h, i] @ K[h // G, : i + 1].T / np.sqrt(d))
            distance = ((V[h // G] - p @ V[h // G]) ** 2).sum(-1)
            moved[h] += (p / (1 - p + epsilon)) ** 2 * distance
    padded = np.pad(group_mean(moved), ((0, 0), (kernel // 2, kernel // 2)))
    out = np.array([np.convolve(x, np.ones(kernel) / kernel, "valid") for x in padded])
    out[:, n - window :] = out.max() + 1
    return out


def capkv(tau=5.0, future=512, sinks=4, epsilon=1e-6):
    angle = np.arange(n, n + future)[:, None] * THETA ** (-np.arange(d // 2) / (d // 2))
    cos, sin = np.cos(angle).mean(0), np.sin(angle).mean(0)
    mean = without_rope(Q)[:, sinks:].mean(1)
    a, b = mean[:, : d // 2], mean[:, d // 2 :]
    anchor = np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
    out = np.zeros((Q.shape[0], n - sinks))
    for h in range(Q.shape[0]):
        k, v = K[h // G, sinks:], V[h // G, sinks:]
        logits = tau * (k @ anchor[h]) / np.linalg.norm(k, axis=-1) / np.linalg.norm(anchor[h])
        w = np.exp(logits - logits.max())
        capacity = np.eye(d) + (v * (w + epsilon)[:, None]).T @ v
        out[h] = w * np.einsum("ij,ij->i", v, np.linalg.solve(capacity, v.T).T)
    out = group_mean(out)
    return np.pad(out, ((0, 0), (sinks, 0)), constant_values=out.max() + 1)


def mix(a, b, share):
    out = np.zeros_like(a)
    for h in range(H):
        rank = lambda s: np.argsort(np.argsort(-s, kind="stable"), kind="stable")
        out[h] = -np.minimum((rank(a[h]) + 0.5) / share, (rank(b[h]) + 0.5) / (1 - share)) / n
    return out


RATIOS = (0.3, 0.5, 0.7, 0.9)
scores = {
    "leverage.key": leverage_press("k"),
    "leverage.value": leverage_press("v"),
    "leverage": leverage_press(),
    "ridgekv": leverage_press(ridge=10, width=3),
    "scissorshands": scissorshands(),
    "scissorshands.h64.norecent": scissorshands(64, 0),
    "noncausal_attention": noncausal(),
    "noncausal_attention.c64.scaled.corrected": noncausal(chunk=64, scaled=True, corrected=True),
    "dropkv": dropkv(),
    "dropkv.w16.k3": dropkv(16, 3),
    "capkv": capkv(),
    "capkv.t20.nosinks": capkv(tau=20, sinks=0),
    "mixkv": mix(leverage_press(ridge=3, width=3), noncausal(), 0.7),
}
for r in RATIOS:
    scores[f"compactor.r{int(r * 100)}"] = compactor(r)

writer = gguf.GGUFWriter(target, "curdkv-golden")
writer.add_string("source", "tests/reference/presses.py")
writer.add_tensor("gaussian48", sketch)
for name, s in scores.items():
    writer.add_tensor("score." + name, s.astype(np.float32))
    for r in RATIOS:
        if ".r" in name and not name.endswith(f".r{int(r * 100)}") and name.startswith("compactor"):
            continue
        k = int(n * (1 - r))
        ordered = -np.sort(-s, axis=1)
        if (ordered[:, k - 1] - ordered[:, k] < 1e-5 * np.abs(ordered[:, k])).any():
            continue  # a tie at the border leaves the selection open
        if name.startswith("compactor") and k < 12:
            continue
        kept = np.sort(np.argsort(-s, axis=1, kind="stable")[:, :k], axis=1).astype(np.int32)
        writer.add_tensor("kept." + (name if name.startswith("compactor") else f"{name}.r{int(r * 100)}"), kept)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
