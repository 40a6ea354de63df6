"""Reference figures for src/analysis, written from the paper's definitions and apart from the engine.

usage: analysis.py layer00.gguf layer14.gguf > analysis.json

Reads the keys, values, queries and kept tokens of tests/goldens/layerXX.gguf and computes, in double precision and
without any shortcut (every eviction is a softmax of its own over whole n x n matrices):
- heads: each key's mean causal attention and the loss of softmax(Q K^T) V when it alone is evicted (figure 1), with
  Spearman's rank correlation;
- reconstruction: losses of Q K^T and softmax(Q K^T) V for kvpress's selections (figure 2), with evicted keys gone and
  as rows of zeros (lemma 3.1), and the lemma's bound;
- low_rank: relative errors of the best rank-k approximation and of CUR by leverage (section 3.1).
Needs numpy, scipy and the gguf package.
"""
import json
import sys

import gguf
import numpy as np
from scipy.stats import spearmanr

SELECTIONS = """cur.kv_product.random.r50 cur.kv_product.random.r90 cur.kv_product.local.r30 snapkv.r50 tova.r70
 streaming_llm.r90 knorm.r90""".split()
HEADS = [0, 4, 8]


def attention(scores, visible):
    """Row-wise softmax over the visible; rows that see nothing are zeros."""
    s = np.where(visible, scores, -np.inf)
    top = s.max(1, keepdims=True)
    e = np.where(visible, np.exp(s - np.where(np.isfinite(top), top, 0)), 0)
    total = e.sum(1, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0)


def cur_error(a, k):
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    best = lambda weights: np.sort(np.argsort(-weights, kind="stable")[:k])
    rows, columns = best((u[:, :k] ** 2).sum(1)), best((vt[:k] ** 2).sum(0))
    c, r = a[:, columns], a[rows]
    return np.linalg.norm(a - c @ (np.linalg.pinv(c) @ a @ np.linalg.pinv(r)) @ r) / np.linalg.norm(a)


def svd_error(a, k):
    s = np.linalg.svd(a, compute_uv=False)
    return np.sqrt((s[k:] ** 2).sum() / (s**2).sum())


def of_layer(path):
    tensors = {t.name: t.data for t in gguf.GGUFReader(path).tensors}
    K, V, Q = (tensors[name].astype(np.float64) for name in ("keys", "values", "queries"))
    n, d = K.shape[1:]
    group = Q.shape[0] // K.shape[0]
    causal = np.tril(np.ones((n, n), bool))
    norm = np.linalg.norm
    out = {"heads": [], "reconstruction": [], "low_rank": []}
    for head in HEADS:
        k, v = K[head // group], V[head // group]
        scores = Q[head] @ k.T / np.sqrt(d)
        a = attention(scores, causal)
        loss = []
        for j in range(n):
            visible = causal.copy()
            visible[:, j] = False
            loss.append(norm(a @ v - attention(scores, visible) @ v))
        mean = a.sum(0) / np.arange(n, 0, -1)
        out["heads"].append(
            {"head": head, "attention": mean.tolist(), "loss": loss, "spearman": spearmanr(mean, loss).statistic}
        )
    for name in SELECTIONS:
        kept = tensors["kept." + name]
        losses = []
        for head in range(Q.shape[0]):
            k, v = K[head // group], V[head // group]
            stays = np.isin(np.arange(n), kept[head // group])
            scores = Q[head] @ k.T / np.sqrt(d)
            full = attention(scores, causal) @ v
            v_kept = v * stays[:, None]
            zeroed_scores = scores * stays
            losses.append(
                {
                    "qk_norm": norm(scores * causal),
                    "output_norm": norm(full),
                    "qk": norm((scores - zeroed_scores) * causal),
                    "output": norm(full - attention(scores, causal & stays) @ v),
                    "output_zeroed": norm(full - attention(zeroed_scores, causal) @ v_kept),
                    "bound": np.sqrt(n) * (norm(v - v_kept) + 2 * norm(v_kept)),
                }
            )
        out["reconstruction"].append({"selection": name, "heads": losses})
    for rank in (6, 32):
        heads = []
        for k, v in zip(K, V):
            heads.append([svd_error(k, rank), cur_error(k, rank), svd_error(v, rank), cur_error(v, rank)])
        out["low_rank"].append({"rank": rank, "heads": heads})
    return out


round_all = lambda x: json.loads(json.dumps(x), parse_float=lambda s: float("%.8g" % float(s)))
print(json.dumps(round_all([of_layer(path) for path in sys.argv[1:3]])))
