"""POST /v1/fill-mask."""

import asyncio

from model_image.answers import FillMaskAnswer, MaskEntry
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import Candidates, EncoderInput
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import FillMaskRequest
from model_image.tasks.texts import check_length, compute, usage

_MASKS = 16


async def fill(model: ServedModel, request: FillMaskRequest, meter: Meter) -> FillMaskAnswer:
    """Candidates for every mask, each put into the text with the other masks left as they are. Raises ApiError."""
    texts = request.texts
    inputs = await asyncio.to_thread(lambda: [masked_input(model, text, index) for index, text in enumerate(texts)])
    meter.read(sum(len(item.tokens) for item in inputs))
    results = await compute(model.mask_loop, inputs)
    data = [
        _entry(model, texts[index], index=index, mask=mask, candidates=candidates, top_k=request.top_k)
        for index, masks in enumerate(results)
        for mask, candidates in enumerate(masks)
    ]
    return {"data": data, "model": model.name, "usage": usage(meter)}


def masked_input(model: ServedModel, text: str, index: int) -> EncoderInput:
    """A text as ids with the places of its masks. Raises ApiError if it has none, too many, or is too long."""
    ids = model.tokenizer.encode(text).ids
    check_length(model, ids, index=index)
    places = tuple(place for place, token in enumerate(ids) if token == model.tokenizer.mask_token_id)
    if not 0 < len(places) <= _MASKS:
        found = f"input {index} has {len(places)} mask tokens"
        message = f"{found}; write {model.tokenizer.mask_token} for each of 1 to {_MASKS} words to be found"
        raise ApiError("invalid_value", message, param="input")
    return EncoderInput(ids, places)


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
