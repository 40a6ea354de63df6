"""curdkv calibrate, and --heads, which takes what it wrote."""
import json
import os
import subprocess
import unittest

from harness import BUILD, Case, path, write

MODEL = path("tiny.gguf")
subprocess.run([os.path.join(BUILD, "make_tiny_model"), MODEL, "4096"], check=True)
CALIBRATE = ("calibrate", "-m", MODEL, "--samples", "2", "--context-tokens", "128")
DOCUMENT = write("document.txt", "The thing in the north is an ant. " * 60)


def content(name):
    with open(path(name)) as file:
        return file.read()


class Calibrate(Case):
    def test_a_weight_for_every_head(self):
        out = self.curdkv(*CALIBRATE, "-t", "2", "-o", path("heads.json"))[0]
        heads = json.loads(content("heads.json"))
        model = self.json("inspect", MODEL, "--json")
        for what in ("weight", "loss", "worth"):
            self.assertEqual([len(layer) for layer in heads[what]], [model["n_head_kv"]] * model["n_layer"], what)
        weights = sorted(w for layer in heads["weight"] for w in layer)
        self.assertGreater(weights[0], 0)
        self.assertAlmostEqual(weights[len(weights) // 2], 1, places=5)
        self.assertAlmostEqual(sum(x for layer in heads["loss"] for x in layer), 1, places=5)
        most = max((x, il, h) for il, layer in enumerate(heads["loss"]) for h, x in enumerate(layer))
        self.assertIn(f"\n  layer {most[1]}, head {most[2]}: {100 * most[0]:.1f} % of all\n", out)
        self.curdkv(*CALIBRATE, "-t", "1", "-b", "64", "-o", path("again.json"))
        self.assertEqual(content("again.json"), content("heads.json"), "whatever the threads and chunks")
        other = self.curdkv(*CALIBRATE, "-t", "1", "-f", DOCUMENT, "-o", "-")[0]
        self.assertNotEqual(json.loads(other)["loss"], heads["loss"])

    def test_what_it_wrote_is_taken(self):
        self.curdkv(*CALIBRATE, "-t", "1", "-o", path("heads.json"))
        ask = ("run", "-m", MODEL, "-t", "1", "-f", DOCUMENT, "-q", "What?", "-n", "1", "--json", "--byte-ratio", "0.9")
        out = self.json(*ask, "--heads", path("heads.json"))
        self.assertEqual((out["press"], out["press_params"]["heads"]), ("recommended", path("heads.json")))
        self.assertLessEqual(out["kv_bytes"], 0.1 * out["kv_bytes_full"])
        self.fails(1, "missing.json", *ask, "--heads", path("missing.json"))
        self.fails(1, "'curdkv calibrate' makes such files", *ask, "--heads", write("bad.json", "{}"))
        self.fails(1, "bad.json", *ask, "--press", "recommended:heads=" + write("bad.json", '{"weight": [[1], [0]]}'))
        few = write("few.json", '{"weight": [[1, 1]]}')
        self.fails(2, "few.json is of a model of 1 layers, this one has", *ask, "--heads", few)
        self.fails(2, "has no parameter 'heads'", *ask, "--press", "snapkv", "--heads", path("heads.json"))

    def test_bad_orders(self):
        self.fails(2, "--output is required", *CALIBRATE)
        self.fails(2, "--samples", *CALIBRATE, "--samples", "1", "-o", path("x.json"))
        self.fails(1, "missing.txt: No such file", "calibrate", "-m", MODEL, "-f", path("missing.txt"), "-o", path("x.json"))
        self.fails(1, "it is an input too", "calibrate", "-m", MODEL, "-f", DOCUMENT, "-o", DOCUMENT)
        self.fails(1, "cannot write", *CALIBRATE, "-o", path("no folder/x.json"))
        self.assertFalse(os.path.exists(path("x.json")))


if __name__ == "__main__":
    unittest.main()
