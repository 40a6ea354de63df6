"""openvino.genai on one document and question: one JSON line with prefill, decoding and peak memory."""
import argparse
import json
import resource

import numpy as np
import openvino as ov
import openvino_genai as genai

parser = argparse.ArgumentParser()
parser.add_argument("model", help="GGUF that openvino.genai reads: F16, Q8_0 or Q4_0")
parser.add_argument("document")
parser.add_argument("question")
parser.add_argument("--tokens", type=int, required=True, help="of the document that are read")
parser.add_argument("--predict", type=int, default=33)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

pipeline = genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
tokenizer = pipeline.get_tokenizer()
with open(args.document, encoding="utf-8") as file:
    document = tokenizer.encode(file.read()).input_ids.data[0]
if len(document) < args.tokens:
    raise SystemExit(f"the document has {len(document)} tokens, fewer than {args.tokens}")
question = tokenizer.encode("\n\n" + args.question + "\n").input_ids.data[0]
ids = np.concatenate([document[:args.tokens], question])[None, :]
config = genai.GenerationConfig(max_new_tokens=args.predict, ignore_eos=True, do_sample=False)


def generate(ids):
    return pipeline.generate(genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids))), config)


generate(ids[:, :64])  # whatever is only done once
metrics = generate(ids).perf_metrics
print(json.dumps({
    "engine": "openvino.genai", "press": "none", "compression_ratio": 0, "n_context_tokens": args.tokens,
    "prefill_ms": metrics.get_ttft().mean, "decode_ms_per_token": metrics.get_tpot().mean,
    "rss_peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
