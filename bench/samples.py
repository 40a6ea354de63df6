"""Samples for bench/answers: needle tasks and questions about short documents, one JSON object a line.

usage: samples.py RULER.jsonl LONGBENCH_DIR TEMPLATES.json > samples.jsonl

RULER.jsonl: rows with task, context, question and answer_prefix (kvpress's split of RULER's prompts).
LONGBENCH_DIR: 2wikimqa.jsonl and qasper.jsonl as LongBench publishes them; TEMPLATES.json: kvpress's templates by task.
Contexts of questions are cut in the middle to 6,000 characters, about 1,300 tokens.
"""
import json
import sys

ruler, longbench, templates = sys.argv[1:]
for line in open(ruler):
    row = json.loads(line)
    if row.get("ruler_version", "v2") == "v2":
        keys = ("task", "context", "question", "answer_prefix")
        print(json.dumps({"kind": "needles", **{k: row[k] for k in keys}}))
for task in ("2wikimqa", "qasper"):
    t = json.load(open(templates))["tasks"][task]
    for line in open(f"{longbench}/{task}.jsonl"):
        row = json.loads(line)
        text = row["context"]
        if len(text) > 6000:
            text = text[:3000] + text[-3000:]
        print(json.dumps({
            "kind": "questions",
            "task": task,
            "context": t["context"].replace("{context}", text),
            "question": t["question"].replace("{input}", row["input"]),
            "answer_prefix": t["answer_prefix"],
        }))
