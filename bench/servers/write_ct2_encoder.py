"""Writes a BERT encoder for CTranslate2, and a classifier's last layer beside it. Arguments: model, task, directory."""

import shutil
import sys
import tempfile
from pathlib import Path

import ctranslate2
import numpy as np
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer


def write(model: Path, task: str, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as bare:
        if task == "classification":
            loaded = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32)
            head, encoder = loaded.classifier, loaded.bert
        else:
            encoder = AutoModel.from_pretrained(model, dtype=torch.float32)
        encoder.config.position_embedding_type = "absolute"  # the converter reads what transformers 5 left out
        encoder.save_pretrained(bare)
        AutoTokenizer.from_pretrained(model).save_pretrained(bare)
        ctranslate2.converters.TransformersConverter(bare).convert(directory, force=True)
    if task == "classification":
        np.savez(directory / "head.npz", weight=head.weight.detach().numpy(), bias=head.bias.detach().numpy())
    shutil.copy(model / "tokenizer.json", directory)


write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
