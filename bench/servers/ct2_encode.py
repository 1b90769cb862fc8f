"""CTranslate2 behind the batching server. Arguments: directory of the model, task, port, compute type."""

import sys

import ctranslate2
import numpy as np
from batcher import mean_vectors, pad, run, softmax

directory, task, port, compute_type = sys.argv[1:]
encoder = ctranslate2.Encoder(directory, compute_type=compute_type, inter_threads=1, intra_threads=1)
head = np.load(f"{directory}/head.npz") if task == "classification" else None


def encode(batch: list[list[int]]) -> np.ndarray:
    output = encoder.forward_batch(batch)
    if head is None:
        return mean_vectors(np.asarray(output.last_hidden_state), pad(batch)[1])
    return softmax(np.asarray(output.pooler_output) @ head["weight"].T + head["bias"])


run(encode, tokenizer_file=f"{directory}/tokenizer.json", port=int(port))
