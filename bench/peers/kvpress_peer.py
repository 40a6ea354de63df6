"""kvpress's pipeline (PyTorch on the CPU, BF16) on one document and question: one JSON line."""
import argparse
import json
import os
import resource
import time

import torch
from kvpress import AdaKVPress, CURPress
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

parser = argparse.ArgumentParser()
parser.add_argument("model", help="GGUF that transformers reads")
parser.add_argument("document")
parser.add_argument("question")
parser.add_argument("--tokens", type=int, required=True, help="of the document that are read")
parser.add_argument("--predict", type=int, default=33)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--compression-ratio", type=float, default=0.0, help="0: no press, else AdaKVPress(CURPress)")
args = parser.parse_args()

torch.set_num_threads(args.threads)
folder, file = os.path.split(args.model)
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.bfloat16)
pipe = pipeline("kv-press-text-generation", model=model, tokenizer=tokenizer, device="cpu")
with open(args.document, encoding="utf-8") as f:
    ids = tokenizer.encode(f.read(), add_special_tokens=False)
if len(ids) < args.tokens:
    raise SystemExit(f"the document has {len(ids)} tokens, fewer than {args.tokens}")
context = tokenizer.decode(ids[:args.tokens])
press = AdaKVPress(CURPress(args.compression_ratio)) if args.compression_ratio > 0 else None
model.generation_config.eos_token_id = None


def seconds(context, n_predict):
    start = time.monotonic()
    with torch.no_grad():
        pipe(context, question=args.question, press=press, max_new_tokens=n_predict)
    return time.monotonic() - start


seconds(context[:200], 2)  # whatever is only done once
first = seconds(context, 1)
all_tokens = seconds(context, args.predict)
print(json.dumps({
    "engine": "kvpress", "press": "adacurdkv" if press else "none", "compression_ratio": args.compression_ratio,
    "n_context_tokens": args.tokens, "prefill_ms": 1e3 * first,
    "decode_ms_per_token": 1e3 * (all_tokens - first) / (args.predict - 1),
    "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
