"""curdkv analyze and report on the command line, with a tiny model."""
import base64
import html.parser
import json
import os
import re
import unittest

from eval_inputs import GRID, MODEL, content, lines
from harness import BUILD, Case, path, write


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.data = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data):
        self.data += data


class Report(Case):
    def test_page(self):
        self.curdkv(*GRID, "-o", path("results.jsonl"))
        document = write("document.txt", "</script><b>The thing in the north is an ant & more. </b>" * 20)
        self.curdkv("analyze", "-m", MODEL, "-t", "1", "-f", document, "--press", "snapkv,adacurdkv",
                    "--compression-ratio", "0.5,0.9", "-o", path("figure.json"))
        self.curdkv("report", path("results.jsonl"), path("figure.json"), "-o", path("page.html"))
        with open(path("page.html")) as f:
            text = f.read()
        page = Page(text)
        self.assertEqual(page.tags.count("script"), 2)  # the text did not end its element, nor open others
        self.assertTrue(all(link.startswith(("#", "data:")) for link in page.links), page.links)
        for words in ("RULER, tiny.gguf", "Answers against bytes", "50 % removed", "MK-1", "curdkv:sinks=9", "Friedman",
                      "Memory and speed"):
            self.assertIn(words, page.data)

    def test_answers_against_bytes(self):
        """Rows, bits and bytes on one axis: each sample's share of its own full cache, whatever the ratio counts."""
        full = {0: 4096000, 1: 1024000}  # of samples of different lengths
        kept = {("none", 0): 1, ("mixkv", 0.5): 0.5, ("mixkv", 0.9): 0.1, ("mixkv:keys=q4:values=q4", 0.9): 0.03,
                ("mixkv:ratio_of=bytes", 0.98): 0.02, ("snapkv:ratio_of=bytes:window=9", 0.98): 0.02,
                ("none:keys=q4:values=q4", 0): 0.28}
        rows = [{"task": "niah_single_1", "sample": sample, "press": press, "compression_ratio": ratio, "prediction": "",
                 "references": [""], "score": share, "n_context_tokens": 9, "kv_bytes": round(share * n), "press_params": {},
                 "run": {"model": "m"}} for sample, n in full.items() for (press, ratio), share in kept.items()]
        self.curdkv("report", write("rows.jsonl", "".join(json.dumps(r) + "\n" for r in rows)), "-o", path("page.html"))
        text = content("page.html").decode()
        first = text[:text.index("<h3>Scores")]
        drawn = {title: (float(x), float(y)) for x, y, title in re.findall(
            r"<circle class=\"line [^>]* cx=([0-9.]+) cy=([0-9.]+) r=2.6><title>(\S+ at \S+): [^<]*</title>", first)}
        self.assertEqual(set(drawn), {f"{press} at {ratio:g}" for press, ratio in kept if press != "none"})
        self.assertIn("<title>mixkv at 0.5: 50.0 (50.0–50.0), 50 % of the bytes, 1.22 MiB</title>", first)
        # The axis of bytes is logarithmic: 50 % to 10 % is as far as 10 % to 2 %.
        x = {title: at[0] for title, at in drawn.items()}
        self.assertAlmostEqual(x["mixkv at 0.5"] - x["mixkv at 0.9"], x["mixkv at 0.9"] - x["mixkv:ratio_of=bytes at 0.98"],
                               delta=0.2)
        self.assertEqual(x["mixkv:ratio_of=bytes at 0.98"], x["snapkv:ratio_of=bytes:window=9 at 0.98"])
        self.assertGreater(drawn["mixkv at 0.9"][1], drawn["mixkv at 0.5"][1])  # less of the score, further down
        self.assertIn("<title>full cache: 100.0 (100.0–100.0), 100 % of the bytes, 2.44 MiB</title>", first)
        legend = re.findall(r"<span title=\"([^\"]*)\"><svg class=key.*?</svg> ([^<]*)</span>", first)
        self.assertEqual(legend, [("mixkv", "mixkv"), ("mixkv:keys=q4:values=q4", "mixkv keys=q4 values=q4"),
                                  ("mixkv:ratio_of=bytes", "mixkv ratio_of=bytes"),
                                  ("snapkv:ratio_of=bytes:window=9", "snapkv window=9"),
                                  ("none:keys=q4:values=q4", "none keys=q4 values=q4")])
        for words in ("98 % removed, 2 % of the bytes kept", "90 % removed, 3 to 10 % of the bytes kept"):
            self.assertIn(f"<h4>{words}</h4>", text)
        self.assertIn("<th scope=row>Bytes kept, %</th><td>100.0<small>2.44 MiB</small></td><td>50.0<small>1.22 MiB</small>",
                      text)
        # Nothing that cannot be drawn: no bytes at all, more than the full cache has.
        for share in (0, 1000):
            odd = [{**r, "kv_bytes": r["kv_bytes"] * share if r["press"] == "mixkv" else r["kv_bytes"]} for r in rows]
            self.curdkv("report", write("odd.jsonl", "".join(json.dumps(r) + "\n" for r in odd)), "-o", path("page.html"))
            self.assertNotRegex(content("page.html").decode(), r"\b(nan|inf)\b")

    def test_figures(self):
        document = write("document.txt", "The thing in the north is an ant & more. " * 40)
        out = path("figures.json")
        asked = ("analyze", "-m", MODEL, "-f", document, "--press", "none,random,adacurdkv,kvzip", "--compression-ratio",
                 "0.5,0.9", "--figure", "document,heads,reconstruction,attention-vs-loss", "--sampled-layers", "2",
                 "--sampled-heads", "3")
        self.curdkv(*asked, "-t", "2", "-o", out)
        document, heads, reconstruction, keys = lines("figures.json")
        n = heads["n_tokens"]
        self.assertEqual([k["compression_ratio"] for k in document["kept"]], [0.5, 0.9] * 3)
        presses = heads["presses"]
        self.assertEqual([p["press"] for p in presses], ["random", "random", "adacurdkv", "adacurdkv", "kvzip", "kvzip"])
        for i, p in enumerate(presses):
            total = sum(sum(layer) for layer in p["n_kept"])
            n_heads = heads["n_layer"] * heads["n_head_kv"]
            self.assertEqual(total, n_heads * int(n * (1 - p["compression_ratio"])))
            self.assertEqual(p["jaccard"][i], 1)
            self.assertEqual([j is None for j in p["jaccard"]], [i % 2 != j % 2 for j in range(6)])
        self.assertGreater(presses[0]["jaccard"][2], 0.2)  # half of all: a third in common by chance
        for p in reconstruction["presses"]:
            self.assertLess(0, p["output_relative"])
            self.assertLess(p["output"], p["bound"])
            self.assertLessEqual(p["most_of_bound"], 1)
            self.assertEqual(len(p["output_relative_by_layer"]), heads["n_layer"])
        losses = {(p["press"], p["compression_ratio"]): p["output_relative"] for p in reconstruction["presses"]}
        self.assertLess(losses["random", 0.5], losses["random", 0.9])
        self.assertEqual([row["rank"] for row in reconstruction["low_rank"]], sorted(
            (row["rank"] for row in reconstruction["low_rank"]), reverse=True))
        layers = {h["layer"] for h in keys["heads"]}
        self.assertEqual((min(layers), max(layers), len(keys["heads"])), (0, heads["n_layer"] - 1, 6))
        for h in keys["heads"]:
            self.assertEqual((len(h["attention"]), len(h["loss"])), (n, n))
            self.assertGreaterEqual(h["spearman"], -1)
        self.curdkv(*asked, "-t", "1", "-o", path("one thread.json"))
        self.assertEqual(content("figures.json"), content("one thread.json"))
        self.curdkv("report", out, "-o", path("figures.html"))
        page = Page(content("figures.html").decode())
        for words in ("Attention against loss, tiny.gguf", "Reconstruction of attention", "90 % removed", "Jaccard",
                      "lemma 3.1", "adacurdkv:", "Keys and values of low rank"):
            self.assertIn(words, page.data)
        for index, field in ((1, "n_kept"), (2, "output_relative"), (3, "spearman")):
            broken = lines("figures.json")[index]
            for item in broken.get("presses", broken.get("heads")):
                item[field] = "much"
            self.fails(1, field, "report", write("broken", json.dumps(broken)), "-o", path("x.html"))

    def test_figures_that_others_measure(self):
        document = write("document.txt", "The thing in the north is an ant. " * 20)
        for name, command in (("ablation", "eval --press ablation"), ("runtime", "curdkv bench")):
            self.fails(2, command, "analyze", "-m", MODEL, "-f", document, "--figure", name, "-o", path("x.json"))
        self.fails(2, "needs a press", "analyze", "-m", MODEL, "-f", document, "--press", "none", "-o", path("x.json"))
        for out in (path("no such folder/x.json"), BUILD):  # said before the work is done
            self.fails(1, "cannot write", "analyze", "-m", path("no model"), "-f", document, "-o", out)
        self.fails(2, "nonsense", "analyze", "-m", MODEL, "-f", document, "--figure", "nonsense", "-o", path("x.json"))

    def test_ablation(self):
        self.curdkv("eval", "-m", MODEL, "-t", "1", "--task", "niah_single_1", "--samples", "1", "--context-tokens", "700",
                    "-n", "2", "--press", "ablation", "--compression-ratio", "0.5", "-o", path("ablation.jsonl"))
        presses = [r["press"] for r in lines("ablation.jsonl")]
        self.assertEqual((len(presses), len(set(presses))), (20, 20))
        self.assertIn("curdkv:leverage=value:local=false:projection=true", presses)
        self.curdkv("report", path("ablation.jsonl"), "-o", path("ablation.html"))
        page = Page(content("ablation.html").decode())
        for words in ("What CurDKV's scores are made of", "key-value product, projected", "exact leverage"):
            self.assertIn(words, page.data)

    def test_figure_counts(self):
        document = write("document.txt", "The thing in the north is an ant. " * 20)
        self.curdkv("analyze", "-m", MODEL, "-t", "1", "-f", document, "--press", "streamingllm",
                    "--compression-ratio", "0.9", "-o", path("figure.json"))
        with open(path("figure.json")) as f:
            figure = json.load(f)
        bits = base64.b64decode(figure["kept"][0]["bits"])
        n = len(figure["tokens"])
        per_head = (n + 7) // 8
        self.assertEqual(len(bits), figure["n_layer"] * figure["n_head_kv"] * per_head)
        n_kept = int(n * (1 - 0.9))
        kept = [i for i in range(n) if bits[i // 8] >> i % 8 & 1]
        self.assertEqual(kept, [0, 1, 2, 3] + list(range(n - n_kept + 4, n)))

    def test_bad_input(self):
        self.fails(1, "No such file", "report", path("missing"), "-o", path("x.html"))
        self.fails(1, "not a JSON object", "report", write("junk", "junk"), "-o", path("x.html"))
        self.fails(1, "holds no predictions", "report", write("empty", ""), "-o", path("x.html"))
        self.fails(1, "line 1: field 'task' is missing", "report", write("other", "{}"), "-o", path("x.html"))
        self.fails(1, "no figure 'x'", "report", write("other", '{"figure": "x"}'), "-o", path("x.html"))
        self.fails(1, "'tokens' is missing", "report", write("other", '{"figure": "document", "model": ""}'), "-o",
                   path("x.html"))
        figure = {"figure": "document", "model": "", "tokens": ["a"], "n_layer": 1, "n_head_kv": 1}
        for kept in (None, [], [{"press": "x", "bits": "AA=="}]):
            self.fails(1, "field 'kept'", "report", write("other", json.dumps({**figure, "kept": kept})), "-o",
                       path("x.html"))
        self.assertFalse(os.path.exists(path("x.html")))


if __name__ == "__main__":
    unittest.main()
