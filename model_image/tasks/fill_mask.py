"""POST /v1/fill-mask."""

import asyncio

from model_image.answers import FillMaskAnswer, MaskEntry
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import Candidates, EncoderInput
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import FillMaskRequest
from model_image.tasks.texts import check_length, compute, count, tokenise, usage

_MASKS = 16
_MOST_CHARACTERS = 8_000_000
_MOST_CANDIDATES = 50_000


async def fill(model: ServedModel, request: FillMaskRequest, meter: Meter) -> FillMaskAnswer:
    """Candidates for every mask, each put into the text with the other masks left as they are. Raises ApiError."""
    texts = request.texts
    inputs = await tokenise(meter, lambda: [masked_input(model, text, index) for index, text in enumerate(texts)])
    _check_size(texts, inputs, request.top_k)
    await count(meter, inputs)
    results = await compute(model.mask_loop, inputs, meter)
    data = await asyncio.to_thread(_entries, model, texts, results, request.top_k)
    return {"data": data, "model": model.name, "usage": usage(meter)}


def masked_input(model: ServedModel, text: str, index: int) -> EncoderInput:
    """A text as ids with the places of its masks. Raises ApiError if it has none, too many, or is too long."""
    masks = text.count(model.tokenizer.mask_token or "\0")
    if not 0 < masks <= _MASKS:
        found = f"input {index} has {masks} mask tokens"
        message = f"{found}; write {model.tokenizer.mask_token} for each of 1 to {_MASKS} words to be found"
        raise ApiError("invalid_value", message, param="input")
    ids = model.tokenizer.encode_masked(text.split(model.tokenizer.mask_token))
    check_length(model, ids, index=index)
    return EncoderInput(ids, tuple(place for place, token in enumerate(ids) if token == model.tokenizer.mask_token_id))


def _check_size(texts: list[str], inputs: list[EncoderInput], top_k: int) -> None:
    """Raises ApiError where the answer, which holds a text once for each candidate, would be very large."""
    if top_k * sum(len(item.places) for item in inputs) > _MOST_CANDIDATES:
        limit = f"the answer would hold over {_MOST_CANDIDATES:,} candidates"
        raise ApiError("invalid_value", f"{limit}; lower 'top_k' or send fewer texts or masks", param="top_k")
    characters = top_k * sum(len(text) * len(item.places) for text, item in zip(texts, inputs, strict=True))
    if characters > _MOST_CHARACTERS:
        limit = f"the answer would hold over {_MOST_CHARACTERS // 1_000_000} million characters"
        raise ApiError("invalid_value", f"{limit}; lower 'top_k' or send fewer or shorter texts", param="top_k")


def _entries(model: ServedModel, texts: list[str], results: list[list[Candidates]], top_k: int) -> list[MaskEntry]:
    """One entry for each mask; to be called off the event loop, since thousands of candidates take long."""
    return [
        _entry(model, texts[index], index=index, mask=mask, candidates=candidates, top_k=top_k)
        for index, masks in enumerate(results)
        for mask, candidates in enumerate(masks)
    ]


def _entry(model: ServedModel, text: str, *, index: int, mask: int, candidates: Candidates, top_k: int) -> MaskEntry:
    mask_token = model.tokenizer.mask_token or ""
    before = mask_token.join(text.split(mask_token)[: mask + 1])
    after = text[len(before) + len(mask_token) :]
    found: MaskEntry = {"index": index, "mask": mask, "candidates": []}
    pairs = list(zip(candidates.tokens, candidates.probabilities, strict=True))[:top_k]
    for token, probability in pairs:
        word = model.tokenizer.decode([token], keep_special=True).strip()
        found["candidates"].append({"token": word, "score": probability, "text": before + word + after})
    return found
