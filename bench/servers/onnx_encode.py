"""ONNX Runtime behind the batching server. Arguments: directory of model.onnx, task, port."""

import sys

import numpy as np
import onnxruntime
from batcher import mean_vectors, pad, run, softmax

directory, task, port = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(f"{directory}/model.onnx", options, providers=["CPUExecutionProvider"])
wanted = {node.name for node in session.get_inputs()}


def encode(batch: list[list[int]]) -> np.ndarray:
    ids, mask = pad(batch)
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    output = session.run(None, {name: value for name, value in inputs.items() if name in wanted})[0]
    return softmax(output) if task == "classification" else mean_vectors(output, mask)


run(encode, tokenizer_file=f"{directory}/tokenizer.json", port=int(port))
