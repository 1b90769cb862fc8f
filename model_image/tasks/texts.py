"""What the encoder routes share: texts to token ids within the context, and a batch's results awaited."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from model_image.answers import Usage
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import BatchFailed, EncoderInput, EncoderLoop
from model_image.metrics import Meter
from model_image.registry import ServedModel

Result = TypeVar("Result")


def check_length(model: ServedModel, ids: Sequence[int], *, index: int) -> None:
    """Raises ApiError if a text has more tokens than the model takes, or none."""
    if len(ids) > model.context_length:
        counts = f"input {index} has {len(ids)} tokens, model {model.name} takes {model.context_length}"
        raise ApiError("context_length_exceeded", f"{counts}; shorten it or split it", param="input")
    if not ids:
        raise ApiError("invalid_value", f"input {index} has no tokens; send some text", param="input")


def encode_texts(model: ServedModel, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, all within the context. Raises ApiError."""
    encoded = [model.tokenizer.encode(text).ids for text in texts]
    for index, ids in enumerate(encoded):
        check_length(model, ids, index=index)
    return encoded


async def compute(loop: EncoderLoop[Result], inputs: Sequence[EncoderInput]) -> list[Result]:
    """Results in the order of the inputs; a cancelled request takes out what is still queued. Raises ApiError."""
    try:
        return await asyncio.gather(*(asyncio.wrap_future(future) for future in loop.submit(inputs)))
    except BatchFailed:
        raise ApiError("internal_error", "the model failed on this request; send it again") from None


def usage(meter: Meter) -> Usage:
    """What a request that generates nothing has cost."""
    return {"prompt_tokens": meter.prompt_tokens, "total_tokens": meter.prompt_tokens}
