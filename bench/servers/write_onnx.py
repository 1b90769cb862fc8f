"""Writes an encoder as ONNX with its usual fusions. Arguments: model, task, directory to write to, float32 or int8."""

import shutil
import sys
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from transformers import AutoModel, AutoModelForSequenceClassification


class Plain(torch.nn.Module):
    """The model with tensors in and one tensor out."""

    def __init__(self, model: torch.nn.Module, task: str) -> None:
        super().__init__()
        self.model = model
        self.output = "logits" if task == "classification" else "last_hidden_state"

    def forward(self, input_ids, attention_mask, token_type_ids):
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return getattr(output, self.output)


def write(model: Path, task: str, directory: Path, weights: str) -> None:
    kind = AutoModelForSequenceClassification if task == "classification" else AutoModel
    loaded = kind.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    ids = torch.randint(5, 1000, (2, 16))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    exported, fused = directory / "exported.onnx", directory / "model.onnx"
    torch.onnx.export(
        Plain(loaded, task), (ids, torch.ones_like(ids), torch.zeros_like(ids)), exported, input_names=names,
        output_names=["output"], dynamic_axes={name: {0: "texts", 1: "tokens"} for name in names}, opset_version=17,
        dynamo=False,
    )  # fmt: skip
    config = loaded.config
    optimised = optimizer.optimize_model(
        str(exported), model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    print(optimised.get_fused_operator_statistics())
    optimised.save_model_to_file(str(fused))
    exported.unlink()
    if weights == "int8":
        quantised = directory / "quantised.onnx"
        quantize_dynamic(
            fused, quantised, weight_type=QuantType.QInt8, per_channel=True,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # fused operators have no inferred types
        )  # fmt: skip
        quantised.replace(fused)
    shutil.copy(model / "tokenizer.json", directory)


write(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4])
