"""Writes ruler.jsonl: prompts that RULER's own scripts make, those of qa_1 and qa_2 from ruler_squad.json and
ruler_hotpotqa.json.

usage: ruler.py V1 V2 > ruler.jsonl
V1 and V2 are checkouts of hsiehjackson/RULER (e40fae1) and NVIDIA/RULER (c3f5e3b). Needs numpy, scipy, tqdm and
pyyaml. A token is two characters, and words and essay are made up, as in ruler_test.cpp. Prompts are written out for
one sample of each task, and as FNV-1a sums of their bytes for all.
"""
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

N_SAMPLES = 3
ESSAY = " ".join(f"Sentence {i} is here." for i in range(400))  # fewer words than fit
TASKS = {"niah_single_2": (2048, 8192), "niah_multikey_2": (1024, 4096), "vt": (1500, 4096), "cwe": (1500, 4096, 60000),
         "fwe": (1024, 4096), "qa_1": (1024, 4096), "qa_2": (1024, 4096)}
STANDS_IN = {
    "tokenizer.py": """
class Twos:
    def text_to_tokens(self, text):
        return range(0, len(text), 2)
def select_tokenizer(*_):
    return Twos()
""",
    "wonderwords/__init__.py": "from . import random_word\n",
    "wonderwords/random_word.py": """
def _get_words_from_text_file(name):
    n = {"nounlist.txt": 3000, "adjectivelist.txt": 1500, "verblist.txt": 500}[name]
    return [f"{name[0]}{i}" for i in range(n)] + ["both"]
""",
    "nltk/__init__.py": "",
    "nltk/tokenize.py": """
def sent_tokenize(text):
    return text.replace(". ", ".\\n").split("\\n")
""",
    "nemo/collections/asr/parts/utils/manifest_utils.py": """
import json
read_manifest = None
def write_manifest(path, rows):
    with open(path, "w") as f:
        f.writelines(json.dumps(row) + "\\n" for row in rows)
""",
}


def fnv1a(text):
    out = 0xcbf29ce484222325
    for byte in text.encode():
        out = (out ^ byte) * 0x100000001b3 % 2**64
    return f"{out:016x}"


def constants(scripts):
    spec = importlib.util.spec_from_file_location("constants", scripts / "data/synthetic/constants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TASKS


def run(scripts, task, max_tokens, folder):
    """The samples, and the size that the script says it found."""
    with open(scripts / "synthetic.yaml") as f:
        config = yaml.safe_load(f)[task]
    base = constants(scripts)[config["task"]]
    args = {"save_dir": folder, "save_name": "out", "tokenizer_path": "-", "max_seq_length": max_tokens,
            "tokens_to_generate": base["tokens_to_generate"], "num_samples": N_SAMPLES, "random_seed": 42,
            "template": base["template"] + base["answer_prefix"], **config["args"]}
    log = subprocess.run([sys.executable, scripts / f"data/synthetic/{config['task']}.py",
                          *(str(word) for k, v in args.items() for word in (f"--{k}", v))],
                         env={**os.environ, "PYTHONPATH": str(folder / "modules")}, capture_output=True, text=True, check=True)
    sizes = re.findall(r"(?:Num haystack|Num noises|num_words|num_example_words|Number of documents|\(number of \w+\)): (\d+)",
                       log.stdout + log.stderr)
    with open(folder / "out/validation.jsonl") as f:
        return [json.loads(line) for line in f], int(sizes[-1]) if sizes else None


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for file, text in STANDS_IN.items():
            path = folder / "modules" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for version, checkout in zip(("v1", "v2"), sys.argv[1:3]):
            scripts = folder / version
            shutil.copytree(pathlib.Path(checkout) / "scripts", scripts)
            data = scripts / "data/synthetic/json"
            (data / "english_words.json").write_text("{}")  # not asked for at these lengths
            for kind in ("squad", "hotpotqa"):
                shutil.copy(pathlib.Path(__file__).parent / f"ruler_{kind}.json", data / f"{kind}.json")
            (data / "PaulGrahamEssays.json").write_text(json.dumps({"text": ESSAY}))
            for task, lengths in TASKS.items():
                for max_tokens in lengths:
                    rows, size = run(scripts, task, max_tokens, folder)
                    if version == "v1" and task.startswith("qa_") and max_tokens == 4096:
                        rows = rows[:1]  # all documents fit, and the script goes on with them as it shuffled them
                    for i, row in enumerate(rows):
                        prompt = row["input"] + row.get("answer_prefix", "")
                        out = {"ruler_version": version, "task": task, "max_tokens": max_tokens, "sample": i, "size": size,
                               "outputs": row["outputs"], "fnv1a": fnv1a(prompt)}
                        if i == 0 and max_tokens < 2000 and not task.startswith("niah_"):
                            out["input"] = prompt
                        print(json.dumps(out))


main()
