"""Takes the CURPress vectors out of full golden files made by kvpress, for tests/goldens/cur_layerXX.gguf.

usage: extract.py FULL.gguf OUT.gguf

The full files hold one attention layer each of SmolLM2-135M-Instruct (Q4_1, dequantised) on 203 tokens of English
prose, with scores and selections computed by NVIDIA kvpress 0.5.5 (CURPress, AdaKVPress). Needs the gguf package.
"""
import sys

import gguf

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, "curdkv-golden")
writer.add_string("source", "NVIDIA kvpress 0.5.5, CURPress and AdaKVPress, on SmolLM2-135M-Instruct Q4_1")
wanted = ("keys", "values", "gaussian", "score.cur.", "kept.cur.", "mask.ada_cur")
for tensor in reader.tensors:
    if tensor.name.startswith(wanted):
        writer.add_tensor(tensor.name, tensor.data.copy())
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
