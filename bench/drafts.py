#!/usr/bin/env python3
"""Decoding with drafts looked up in the document, and without: the same answers, and how much faster. Questions ask for
passages of four documents word for word, or for something that is in none of them. Prints Markdown.

    bench/drafts.py -m MODEL.gguf [--program build/curdkv] [-- OPTIONS OF BOTH RUNS]
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = ("demo/harbour_report.txt", "README.md", "docs/evaluation.md", "LICENSE")
ELSEWHERE = ["Write a short story about a fox who learns to sail.", "Explain how bread is baked.",
             "Write a poem about the first snow.", "Which planets have rings, and why?",
             "Describe a walk through a forest in autumn."]
N_QUOTED = 10


def openings(text):
    """Openings of ten paragraphs, or where there are fewer of ten sentences, spread over the document."""
    def of(pieces, n_words):
        long_ones = [" ".join(p.split()) for p in pieces if len(p.split()) > n_words and "|" not in p and "`" not in p[:60]]
        step = max(1, len(long_ones) // N_QUOTED)
        return [" ".join(p.split()[:8]) for p in long_ones[::step][:N_QUOTED]]
    whole = of(text.split("\n\n"), 20)
    return whole if len(whole) == N_QUOTED else of(re.split(r"(?<=[.:;])\s", text), 11)


def answers(program, args, document, questions, draft, extra):
    asked = [x for q in questions for x in ("-q", q)]
    out = subprocess.run([program, "run", "-m", args.model, "-f", document, "-n", str(args.n_predict), "--json", "--draft", draft,
                          *asked, *extra], capture_output=True, text=True, check=True).stdout
    return json.loads(out)["answers"]


def main():
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-n", "--n-predict", type=int, default=96)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("--program", default=ROOT / "build" / "curdkv")
    args, extra = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1:]
    ratios, same, drafted = {"quoting": {}, "elsewhere": {}}, {"quoting": 0, "elsewhere": 0}, {"quoting": [0, 0], "elsewhere": [0, 0]}
    for document in DOCUMENTS:
        quoting = [f'Repeat the passage that begins with "{p}", word for word.'
                   for p in openings((ROOT / document).read_text())]
        for kind, questions in (("quoting", quoting), ("elsewhere", ELSEWHERE)):
            for repetition in range(args.repetitions):
                sides = {d: answers(args.program, args, ROOT / document, questions, d, extra)
                         for d in (("none", "lookup") if repetition % 2 == 0 else ("lookup", "none"))}
                for i, (alone, with_drafts) in enumerate(zip(sides["none"], sides["lookup"])):
                    if alone["n_tokens"] < 8:
                        continue
                    ratio = alone["decode_ms_per_token"] / with_drafts["decode_ms_per_token"]
                    ratios[kind].setdefault((document, i), []).append(ratio)
                    if repetition == 0:
                        same[kind] += alone["answer"] == with_drafts["answer"]
                        drafted[kind][0] += with_drafts["n_drafted"]
                        drafted[kind][1] += with_drafts["n_accepted"]
            print(document, kind, [f"{statistics.median(v):.2f}" for k, v in ratios[kind].items() if k[0] == document],
                  file=sys.stderr, flush=True)
    print("| answers | of them the same | tokens per second with drafts over without: median | least to greatest | drafted, right |\n"
          "|---|---|---|---|---|")
    for kind, of in ratios.items():
        each = [statistics.median(v) for v in of.values()]
        n, right = drafted[kind]
        print(f"| {len(each)}, {kind} | {same[kind]} | {statistics.median(each):.2f} | {min(each):.2f} to {max(each):.2f} | "
              f"{n}, {right} |")


if __name__ == "__main__":
    main()
