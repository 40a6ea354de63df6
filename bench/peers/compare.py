#!/usr/bin/env python3
"""curdkv, llama.cpp, openvino.genai and kvpress on one model, document and question, each in a process of its
own, in turn. The last two are installed from PyPI into a folder that is thrown away (kvpress brings PyTorch:
several GB). Needs the programs of 'make'. Prints Markdown; every measurement goes to stderr as a JSON line.

    bench/peers/compare.py -m MODEL.gguf -f DOCUMENT -q QUESTION -d 2048,8192 [-r 3] [--engines curdkv,llama.cpp,openvino]
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parent.parent / "build"
PACKAGES = {"openvino": ["openvino-genai"], "kvpress": ["kvpress", "gguf"]}


def environment(folder, engine):
    """The Python of an environment with the engine's packages."""
    home = folder / engine
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        print(f"installing {' '.join(PACKAGES[engine])} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[engine]], check=True)
        (home / "ready").touch()
    return python


def commands(args, folder, model):
    """Name and command line of each contestant, but for the number of tokens."""
    for engine in args.engines.split(","):
        if engine in ("curdkv", "llama.cpp"):
            presses = [("none", 0)] + ([("adacurdkv", args.compression_ratio)] if engine == "curdkv" else [])
            for press, ratio in presses:
                yield lambda n, e=engine, p=press, r=ratio: [
                    BUILD / "peer", e, model, args.document, args.question, str(n), str(args.predict),
                    str(args.threads), p, str(r)]
        else:
            python = environment(folder, engine)
            for ratio in [[], ["--compression-ratio", str(args.compression_ratio)]][:2 if engine == "kvpress" else 1]:
                yield lambda n, py=python, e=engine, r=ratio: [
                    py, HERE / f"{e}_peer.py", model, args.document, args.question, "--tokens", str(n),
                    "--predict", str(args.predict), "--threads", str(args.threads), *r]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-f", "--document", required=True)
    parser.add_argument("-q", "--question", required=True)
    parser.add_argument("-d", "--depths", default="2048,8192", help="tokens of the document")
    parser.add_argument("-n", "--predict", type=int, default=33)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("--compression-ratio", type=float, default=0.8)
    parser.add_argument("--engines", default="curdkv,llama.cpp,openvino,kvpress")
    parser.add_argument("--keep", help="folder to keep environments and the requantised model in")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curdkv-peers-") as temporary:
        folder = pathlib.Path(args.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = folder / (pathlib.Path(args.model).stem + ".Q8_0.gguf")
        if not model.exists():
            subprocess.run([BUILD / "requantise", args.model, model], check=True)
        contestants = list(commands(args, folder, model))
        for n_tokens in (int(d) for d in args.depths.split(",")):
            rows = {}
            for repeat in range(args.repetitions):
                for command in contestants[::1 if repeat % 2 == 0 else -1]:
                    done = subprocess.run(command(n_tokens), capture_output=True, text=True)
                    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
                    if done.returncode != 0 or not lines:
                        print(f"{command(n_tokens)} failed:\n{done.stderr[-2000:]}", file=sys.stderr)
                        continue
                    row = json.loads(lines[-1])
                    print(lines[-1], file=sys.stderr, flush=True)
                    rows.setdefault((row["engine"], row["press"], row["compression_ratio"]), []).append(row)
            print(f"\n{model.name}, {n_tokens} tokens, {args.threads} threads; medians of {args.repetitions}, range\n")
            print("| engine | press | prefill, t/s | decoding, t/s | peak RSS, MiB |\n|---|---|---|---|---|")
            order = ["curdkv", "llama.cpp", "openvino.genai", "kvpress"]
            for key in sorted(rows, key=lambda k: (order.index(k[0]), k[2])):
                def column(speed):
                    values = sorted(speed(r) for r in rows[key])
                    return f"{statistics.median(values):.1f} ({values[0]:.1f} to {values[-1]:.1f})"
                print(f"| {key[0]} | {key[1]} {key[2] or ''} | {column(lambda r: 1e3 * n_tokens / r['prefill_ms'])} | "
                      f"{column(lambda r: 1e3 / r['decode_ms_per_token'])} | "
                      f"{column(lambda r: r['rss_peak_bytes'] / (1 << 20))} |", flush=True)


if __name__ == "__main__":
    main()
