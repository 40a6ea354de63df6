"""Takes what the tests compare with out of full golden files made by kvpress: tests/goldens/layerXX.gguf.

usage: extract.py FULL.gguf OUT.gguf

The full files hold one attention layer each of SmolLM2-135M-Instruct (Q4_1, dequantised to F32) on 203 tokens of
English prose, with scores and selections computed by NVIDIA kvpress 0.5.5. Needs the gguf package.
"""
import sys

import gguf

source, target = sys.argv[1:]
reader = gguf.GGUFReader(source)
writer = gguf.GGUFWriter(target, "curdkv-golden")
writer.add_string("source", "NVIDIA kvpress 0.5.5 on SmolLM2-135M-Instruct Q4_1")
writer.add_float32("rope_theta", float(reader.get_field("rope_theta").contents()))
for tensor in reader.tensors:
    if tensor.name != "queries_prerope":  # the engine takes RoPE back itself
        writer.add_tensor(tensor.name, tensor.data.copy())
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
