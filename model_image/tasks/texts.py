"""What the encoder routes share: texts to token ids within the context, and a batch's results awaited."""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from model_image.answers import Usage
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import BatchFailed, EncoderInput, EncoderLoop
from model_image.metrics import Meter
from model_image.registry import ServedModel

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


def check_length(model: ServedModel, ids: Sequence[int], *, index: int) -> None:
    """Raises ApiError if a text has more tokens than the model takes, or none."""
    if len(ids) > model.context_length:
        counts = f"input {index} has {len(ids)} tokens, model {model.name} takes {model.context_length}"
        raise ApiError("context_length_exceeded", f"{counts}; shorten it or split it", param="input")
    if not ids:
        raise ApiError("invalid_value", f"input {index} has no tokens; send some text", param="input")


def encode_texts(model: ServedModel, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, all within the context. Raises ApiError."""
    encoded = [model.tokenizer.encode_plain(text).ids for text in texts]
    for index, ids in enumerate(encoded):
        check_length(model, ids, index=index)
    return encoded


async def tokenise(
    meter: Meter, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Runs a function of the tokenizer on another thread, since a long text takes long, and notes the stage."""
    began = time.monotonic()
    result = await asyncio.to_thread(function, *args, **kwargs)
    meter.stage("tokenise", began, time.monotonic())
    return result


async def count(meter: Meter, inputs: Sequence[EncoderInput]) -> None:
    """Charges, reserves and counts the tokens of texts about to be computed. Raises ApiError where there is no room."""
    tokens = sum(len(item.tokens) for item in inputs)
    meter.charge(tokens)
    await meter.reserve(tokens)
    meter.read(tokens)


async def compute(
    loop: EncoderLoop[Result], inputs: Sequence[EncoderInput], meter: Meter | None = None
) -> list[Result]:
    """
    Results in the order of the inputs; a request that is cancelled or fails takes out what is still queued.

    Raises ApiError.

    `meter` is that of the request, whose caller decides whose turn it is; None for the server's own.
    """
    if meter is None:
        return await _gather(loop.submit(inputs))
    began = time.monotonic()
    futures = loop.submit(inputs, caller=meter.caller)
    with meter.queued(lambda: not any(future.running() or future.done() for future in futures)):
        results = await _gather(futures)
    meter.stage("encode", began, time.monotonic())
    return results


async def _gather(futures: Sequence[Future[Result]]) -> list[Result]:
    """All results, or at the first batch that failed ApiError; the texts of the others are not computed then."""
    try:
        return await asyncio.gather(*map(asyncio.wrap_future, futures))
    except BatchFailed:
        for future in futures:
            future.cancel()
        raise ApiError("internal_error", "the model failed on this request; send it again") from None


def usage(meter: Meter) -> Usage:
    """What a request that generates nothing has cost."""
    return {"prompt_tokens": meter.prompt_tokens, "total_tokens": meter.prompt_tokens}
