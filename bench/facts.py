#!/usr/bin/env python3
"""Short documents that state four facts each: how many of them the full cache answers, and how many what is done when
nothing is asked for. Prints Markdown.

    bench/facts.py -m MODEL.gguf [MODEL.gguf ...] [--documents 20] [-- OPTIONS OF A THIRD RUN]
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
FIRST = "Mara Jonas Edith Tomas Ingrid Felix Ada Oskar Ruth Viktor".split()
LAST = "Lindqvist Bergholm Castell Dorn Ekberg Falk Grieg Hellström Iversen Jansen".split()
TOWN = "Tollvik Harnsby Eastmere Norwell Kirkholm Sandrup Felsund Marbeck".split()
GOODS = "tar salt rope oil flour coal timber wool".split()
FILLING = [
    "Rain fell on the quay for most of the morning and the gulls stayed on the roof of the office.",
    "The ferry came in late, as it does in autumn, and the passengers hurried to the inn.",
    "Nobody remembers who planted the lime trees along the road, but everybody likes them.",
    "The baker opens before dawn and the smell of bread reaches the last house of the street.",
    "A new coat of paint was put on the benches, and two of them were moved into the sun.",
    "In winter the harbour freezes now and then, and children walk to the lighthouse and back.",
]


def make(seed):
    """A document of 400 to 800 tokens, and its four questions with what the answer must say."""
    r = random.Random(seed)
    town, goods = r.choice(TOWN), r.choice(GOODS)
    name, barrels, year, colour = f"{r.choice(FIRST)} {r.choice(LAST)}", r.randrange(120, 980), r.randrange(1901, 1999), \
        r.choice("red blue green white yellow".split())
    facts = [f"The harbour master of {town} is {name}.",
             f"In the warehouse by the pier {barrels} barrels of {goods} are stored.",
             f"The bridge over the river was opened in {year}.",
             f"The lighthouse of {town} was painted {colour}."]
    asked = [(f"Who is the harbour master of {town}?", name),
             (f"How many barrels of {goods} are stored in the warehouse?", str(barrels)),
             ("In which year was the bridge opened?", str(year)),
             (f"What colour was the lighthouse of {town} painted?", colour)]
    text = [r.choice(FILLING) for _ in range(r.randrange(19, 35))]
    for fact in facts:
        text.insert(r.randrange(len(text) + 1), fact)
    return " ".join(text), asked


def answered(program, model, document, asked, options):
    questions = [x for question, _ in asked for x in ("-q", question)]
    out = subprocess.run([program, "run", "-m", model, "-f", document, "-n", "32", "--json", *questions, *options],
                         capture_output=True, text=True, check=True).stdout
    reply = json.loads(out)
    return [want in a["answer"] for (_, want), a in zip(asked, reply["answers"])], reply["n_context_tokens"]


def main():
    own, third = (sys.argv[1:sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1:]) if "--" in sys.argv \
        else (sys.argv[1:], None)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", nargs="+", required=True)
    parser.add_argument("--documents", type=int, default=20)
    parser.add_argument("--program", default=HERE.parent / "build" / "curdkv")
    args = parser.parse_args(own)
    runs = {"full cache": ["--press", "none"], "nothing asked for": []}
    if third is not None:
        runs[" ".join(third)] = third
    print("| model | tokens | " + " | ".join(runs) + " | asked | of what the full cache answers |")
    print("|---|---|" + "---|" * len(runs) + "---|---|")
    for model in args.model:
        right, sizes = {name: [] for name in runs}, []
        for seed in range(args.documents):
            text, asked = make(seed)
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
                f.write(text)
                f.flush()
                for name, options in runs.items():
                    got, n = answered(args.program, model, f.name, asked, options)
                    right[name] += got
            sizes.append(n)
            print(seed, n, {k: sum(v[-4:]) for k, v in right.items()}, file=sys.stderr, flush=True)
        full = right["full cache"]
        kept = {k: sum(a and b for a, b in zip(full, v)) / max(1, sum(full)) for k, v in right.items() if v is not full}
        print(f"| {pathlib.Path(model).name} | {min(sizes)} to {max(sizes)} | "
              + " | ".join(str(sum(v)) for v in right.values())
              + f" | {len(full)} | " + ", ".join(f"{v:.0%}" for v in kept.values()) + " |")


if __name__ == "__main__":
    main()
