#!/usr/bin/env python3
"""What chats within --chat-budget keep (docs/results.md, "Chats"): needles told in turn 3 and asked for in turn 20,
and memory over 30 turns about one document. Drives 'curdkv chat' through pipes; appends a line per trial or turn to
RESULTS.jsonl, goes on from what is there, and prints a summary.

usage: measure_chat.py CURDKV MODEL DOCUMENT RESULTS.jsonl [--trials 20] [--budget 256] [--threads 2]
                       [--presses default,streamingllm,unbounded]
default: what compresses turns where no --press is given; unbounded: no budget at all."""
import argparse
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

SYSTEM = "You are a helpful assistant. Keep answers short."
THINGS = "lighthouse archive bridge cellar chapel depot ferry garden mill observatory station theatre".split()
COLOURS = "amber blue crimson green grey ivory olive purple silver white".split()
DOINGS = [
    "We painted the {colour} door of the {thing} this morning and it took {n} tins of paint.",
    "The {thing} was closed until noon because somebody had lost the key, and {n} people waited outside.",
    "My neighbour at the {thing} bought {n} apples and gave half of them to the children.",
    "There was a concert at the {thing} with {n} listeners, and it rained the whole evening.",
    "On the way home we passed the {colour} {thing} and counted {n} boats on the water.",
    "The clock of the {thing} stopped at {n} minutes past the hour and nobody noticed.",
    "A letter came from the {thing}: they would like to borrow {n} chairs for the {colour} room.",
    "The {thing} has a new roof of {n} {colour} tiles, which the whole street talks about.",
]
ABOUT_DOCUMENT = "What is the name of the harbour engineer?"


def note(r, n_sentences=1):
    said = [r.choice(DOINGS).format(thing=r.choice(THINGS), colour=r.choice(COLOURS), n=r.randrange(11, 99))
            for _ in range(n_sentences)]
    return "A note for the diary, just say OK. " + " ".join(said)


class Chat:
    def __init__(self, *args):
        self.process = subprocess.Popen([curdkv, "chat", "-m", o.model, "-t", o.threads, "-sys", SYSTEM, *args], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def say(self, line):
        """The answer to a line, and the /stats behind it: tokens since the document, rows of the turns, bytes."""
        self.process.stdin.write(line + "\n/stats\n")
        self.process.stdin.flush()
        out = ""
        while not re.search(r"^speed .*\n", out, re.MULTILINE):
            read = self.process.stdout.readline()
            if not read:
                sys.exit("curdkv chat ended early: " + out)
            out += read
        answer, told = re.split(r"^(?=tokens  \d+, of which)", out, flags=re.MULTILINE)
        since, rows, size = re.search(r"of which (\d+) since.*at most (\d+) since.*bytes   (.*?) of", told, re.DOTALL).groups()
        return answer.strip(), {"turn_tokens": int(since), "turn_rows": int(rows), "kv": size}

    def rss_kib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def options_of(press):
    if press == "unbounded":
        return ("--chat-budget", "0")
    return ("--chat-budget", o.budget, *(() if press == "default" else ("--press", press)))


def needle(chat, trial):
    """20 turns: is what turn 3 told still known?"""
    r = random.Random(trial)
    thing, colour, number = r.choice(THINGS), r.choice(COLOURS), str(r.randrange(10000, 100000))
    chat.say("/forget")
    for turn in range(1, 20):
        told = f"Remember this for later: the code of the {colour} {thing} is {number}."
        chat.say(told if turn == 3 else note(r))
    answer, size = chat.say(f"What is the code of the {colour} {thing}? Answer with the number.")
    return {"found": number in answer, "answer": answer, "wanted": number, **size}


def thirty_turns(chat):
    """A turn a line; the question about the document is turn 1, turn 30, and once more after /forget."""
    r = random.Random(0)
    for turn in range(1, 31):
        answer, size = chat.say(ABOUT_DOCUMENT if turn in (1, 30) else note(r))
        yield {"turn": turn, "answer": answer, "rss_kib": chat.rss_kib(), **size}
    chat.say("/forget")
    answer, size = chat.say(ABOUT_DOCUMENT)
    yield {"turn": 31, "answer": answer, "rss_kib": chat.rss_kib(), **size}


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
for name in ("curdkv", "model", "document", "results"):
    parser.add_argument(name)
parser.add_argument("--trials", type=int, default=20)
parser.add_argument("--budget", default="256")
parser.add_argument("--threads", default="2")
parser.add_argument("--presses", default="default,streamingllm,unbounded")
o = parser.parse_args()
curdkv = o.curdkv
results = pathlib.Path(o.results)
lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def keep(line):
    lines.append(line)
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def those(what, press):
    return [x for x in lines if (x["what"], x["press"], x["budget"]) == (what, press, o.budget)]


folder = tempfile.TemporaryDirectory()
context = str(pathlib.Path(folder.name) / "document.kvc")
subprocess.run([curdkv, "compress", "-m", o.model, "-t", o.threads, "-sys", SYSTEM, "-f", o.document, "-o", context],
               check=True, capture_output=True)
presses = o.presses.split(",")
for trial in range(o.trials):  # presses in turn, so that what is there is of all when it is stopped
    for press in presses:
        if trial in [x["trial"] for x in those("needle", press)]:
            continue
        chat = Chat("--context", context, "-n", "16", *options_of(press))
        keep({"what": "needle", "press": press, "budget": o.budget, "trial": trial, **needle(chat, trial)})
        chat.end()
for press in presses:
    if len(those("turns", press)) < 31:
        chat = Chat("--context", context, "-n", "16", *options_of(press))
        for line in thirty_turns(chat):
            keep({"what": "turns", "press": press, "budget": o.budget, **line})
        chat.end()

for press in presses:
    found = [x["found"] for x in those("needle", press)]
    print(f"{press:24} needle of turn 3 at turn 20: {sum(found)} of {len(found)}")
    turns = those("turns", press)[-31:]
    same = [turns[i]["answer"] == turns[0]["answer"] for i in (29, 30)]
    print(f"{'':24} turn 30 answers as turn 1: {same[0]}; after /forget: {same[1]}")
    for x in (turns[i] for i in (0, 9, 19, 29, 30)):
        print(f"{'':24} turn {x['turn']:2}: {x['turn_tokens']:5} tokens since the document, {x['turn_rows']:5} rows, "
              f"cache {x['kv']}, RSS {x['rss_kib'] / 1024:.0f} MiB")
