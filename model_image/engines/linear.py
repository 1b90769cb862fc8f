"""Linear layers in the form that a CPU multiplies fastest: float32 laid out for oneDNN once, or int8 through FBGEMM."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

from model_image.errors import ArtefactError

Weights = Literal["float32", "int8"]

# oneDNN chooses the layout for a number of rows; a step of decoding has about this many.
_ROWS = 8
# The head of a classifier is small and decides the answer: it stays in float32.
_SMALLEST_INT8 = 1 << 16
_LEVELS = 127
_SMALLEST_SCALE = 1e-12
_DOUBLE_SCALE = 2 * math.sqrt(2 / math.pi)

# By the name of their overload, which PyTorch would have to find at every call.
_multiply: Callable[..., torch.Tensor] = torch.ops.mkldnn._linear_pointwise.default
_multiply_int8: Callable[..., torch.Tensor] = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default


class PackedLinear(nn.Module):
    """A float32 linear layer whose weights are laid out once; the same sums as nn.Linear in another order."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """`weight` of shape [outputs, inputs]."""
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS)
        self._bias = bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Rows of `outputs` numbers for rows of `inputs`."""
        return _multiply(inputs, self._weight, self._bias, "none", [], "")


@functools.cache
def _levels() -> int:
    """
    The steps of rounded activations on each side of zero: 127, or 63 where pairs of products are added in 16 bits.

    FBGEMM does so on processors without VNNI (AVX2, older AVX-512), and 2 * 255 * 127 does not fit there.
    """
    ones = torch.quantize_per_channel(
        torch.ones(16, 64), torch.full((16,), 1 / 127), torch.zeros(16, dtype=torch.long), axis=0, dtype=torch.qint8
    )
    summed = _multiply_int8(torch.ones(1, 64), 1 / 127, 128, torch.ops.quantized.linear_prepack(ones, None))
    return 127 if abs(float(summed[0, 0]) - 64) < 1 else 63


class Int8Linear(nn.Module):
    """
    A linear layer with int8 weights, one scale per output, and activations rounded to 8 bits (7 on processors without
    VNNI), one scale per row.

    The scale of a row comes from that row alone, so a token's result does not depend on what else is in the batch,
    which PyTorch's own dynamic quantisation (one scale for all rows) does not give.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """`weight` of shape [outputs, inputs]."""
        super().__init__()
        scales = weight.abs().amax(dim=1).clamp_(min=_SMALLEST_SCALE).div_(_LEVELS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of later releases; this one is pinned
            quantised = torch.quantize_per_channel(
                weight, scales, torch.zeros(len(weight), dtype=torch.long), axis=0, dtype=torch.qint8
            )
        self._weight = torch.ops.quantized.linear_prepack(quantised, None)
        self._bias = bias
        self._levels = _levels()

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Rows of `outputs` numbers for rows of `inputs`."""
        largest = inputs.abs().amax(dim=-1, keepdim=True).add_(_SMALLEST_SCALE)
        # The rows are in -1 to 1 now, so one scale and zero point fit them all.
        products = _multiply_int8(inputs / largest, 1 / self._levels, self._levels + 1, self._weight)
        return products.mul_(largest) if self._bias is None else torch.addcmul(self._bias, products, largest)


class TanhGelu(nn.Module):
    """
    GELU in its tanh form (Hendrycks and Gimpel 2016), as a sigmoid: 0.5 (1 + tanh u) is the logistic function of 2 u.

    PyTorch's own takes twice as long on a CPU.
    """

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Each number on its own."""
        doubled = torch.mul(inputs, inputs).mul_(0.044715 * _DOUBLE_SCALE).add_(_DOUBLE_SCALE).mul_(inputs)
        return doubled.sigmoid_().mul_(inputs)


def unpack_projections(model: nn.Module) -> None:
    """Turns GPT-2's transposed Conv1D layers into the linear layers that they are."""
    for parent, name, child in _children(model, Conv1D):
        linear = nn.Linear(child.nx, child.nf, device="meta")
        linear.weight = nn.Parameter(child.weight.t().contiguous(), requires_grad=False)
        linear.bias = child.bias
        setattr(parent, name, linear)


def pack(model: nn.Module, *, weights: Weights) -> None:
    """
    Replaces the linear layers of a float32 model on a CPU by faster ones, and activations by fused ones, in place.

    Raises ArtefactError where the processor has no int8 kernels.
    """
    if weights == "int8" and "fbgemm" not in torch.backends.quantized.supported_engines:
        raise ArtefactError("weights int8 needs a processor with FBGEMM's kernels (x86-64 with AVX2); take float32")
    for parent, name, linear in _children(model, nn.Linear):
        packed = _packed(linear, weights)
        if packed is not None:
            setattr(parent, name, packed)
    for parent, name, _ in _children(model, NewGELUActivation):
        setattr(parent, name, TanhGelu())


def _packed(linear: Any, weights: Weights) -> nn.Module | None:
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if weights == "int8" and weight.numel() >= _SMALLEST_INT8:
        return Int8Linear(weight, bias)
    return PackedLinear(weight, bias) if torch._C._has_mkldnn else None


def _children(model: nn.Module, kind: type[Any]) -> list[tuple[nn.Module, str, Any]]:
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is kind
    ]
