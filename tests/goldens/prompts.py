#!/usr/bin/env python3
"""Writes prompts.json: what llama-server's /apply-template makes of a few conversations, for every chat template
that llama.cpp ships (models/templates), in its own words.

usage: prompts.py LLAMA_SERVER TEMPLATES_DIR MODEL > prompts.json
MODEL is make_tiny_model's: its begin-of-sequence token is <|endoftext|>, its end <|im_end|>, none is added.
Also, how the server cuts a text into tokens by several pre-tokenizers. It has to be built from llama.cpp's source as
it comes, without the changes of cmake/llama.
"""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

PORT = 8917
DOCUMENT = "The harbour of Vell was built in 1911.\n\n  It has two piers."
QUESTION = "How many piers are there?"
SYSTEM = {"role": "system", "content": "Answer in one word."}
FIRST = {"role": "user", "content": DOCUMENT + "\n\n" + QUESTION}
CONVERSATIONS = {
    "one turn": [FIRST],
    "system": [SYSTEM, FIRST],
    "blanks": [{"role": "user", "content": " \n" + DOCUMENT + "\n\n" + QUESTION + "\n "}],
    "two turns": [FIRST, {"role": "assistant", "content": "Two."}, {"role": "user", "content": "When was it built?"}],
    "thinking": [SYSTEM, FIRST,
                 {"role": "assistant", "content": "<think>\nIt has two piers.\n</think>\n\nTwo."},
                 {"role": "user", "content": "When was it built?"},
                 {"role": "assistant", "content": "In 1911."}, {"role": "user", "content": "Thank you!"}],
}

PRE_TOKENIZERS = ["tekken", "gpt-4o", "deepseek-llm", "deepseek-coder", "deepseek-v3", "falcon", "poro-chat", "viking",
                  "chameleon", "superbpe", "bailingmoe", "seed-coder", "exaone-moe", "tiny_aya", "jais-2", "grok-2",
                  "youtu", "default", "llama-bpe", "qwen2"]
TEXT = ("The thing's in IT'S \u00c9t\u00c9 na\u00efve A\u030ange 12345678 x1y22 3,141.5 $5+7=12 |a|  b   c\t\td\n\n \n  e\r\nf"
        " \u4e2d\u6587\u5b57 \u3072\u3089\u304c\u306a\u30ab \ud55c\uad6d\uc5b4 \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u0663\u00b2\u00bd \u2026\u3002\uff0c\u060c"
        " \U0001f600\u200d\U0001f600 don't WON'T we\u2019ll <a href=\"x\">[1]</a> {x} \\n foo_bar.baz() // --- !!! ???/"
        " theInXMLParser ABCdef GHI\u00a0jkl\u3000mno IMGIMGABZ <sentinel:12> (a) `b` ~c^ #d @e %f &g *h   ")


def post(path, body):
    request = urllib.request.Request(f"http://127.0.0.1:{PORT}/{path}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError:
        return None  # the template refuses the conversation


@contextlib.contextmanager
def server(program, model, *options):
    command = [program, "-m", model, "--port", str(PORT), "-c", "256", "-t", "1", "--parallel", "1", "--no-warmup"]
    process = subprocess.Popen(command + list(options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=dict(os.environ, TZ="UTC"))
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def started(process):
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5):
                return True
        except OSError:
            time.sleep(0.05)
    return False


def main():
    program, templates, model = sys.argv[1:]
    prompts, pieces, now = {}, {}, int(time.time())
    for template in sorted(pathlib.Path(templates).glob("*.jinja")):
        with server(program, model, "--chat-template-file", template) as process:
            prompts[template.name] = None  # if llama-server refuses the template
            if started(process):
                answers = {name: post("apply-template", {"messages": m}) for name, m in CONVERSATIONS.items()}
                prompts[template.name] = {name: a and a["prompt"] for name, a in answers.items()}
        print(template.name, file=sys.stderr)
    for pre in PRE_TOKENIZERS:
        with server(program, model, "--override-kv", f"tokenizer.ggml.pre=str:{pre}") as process:
            if not started(process):
                sys.exit(f"no pre-tokenizer {pre}")
            pieces[pre] = post("tokenize", {"content": TEXT, "add_special": False, "parse_special": False})["tokens"]
    # The moment is for templates that tell the model the date, in UTC.
    lines = [f'"now": {now}']
    lines += [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in
              {"conversations": CONVERSATIONS, "tokens": {"text": TEXT, "pieces": pieces}}.items()]
    lines.append('"prompts": {' + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}"
                                             for k, v in prompts.items()) + "}")
    print("{" + ",\n".join(lines) + "}")


main()
