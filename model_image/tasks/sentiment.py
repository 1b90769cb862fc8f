"""POST /v1/sentiment."""

from model_image.answers import SentimentAnswer, SentimentEntry
from model_image.batching.encoder_loop import EncoderInput
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import SentimentRequest
from model_image.tasks.texts import compute, count, encode_texts, tokenise, usage


async def classify(model: ServedModel, request: SentimentRequest, meter: Meter) -> SentimentAnswer:
    """One label per text, with the probability of every label. Raises ApiError."""
    inputs = [EncoderInput(ids) for ids in await tokenise(meter, encode_texts, model, request.texts)]
    await count(meter, inputs)
    results = await compute(model.classification_loop, inputs, meter)
    data = [_entry(index, dict(zip(model.labels, scores, strict=True))) for index, scores in enumerate(results)]
    return {"data": data, "model": model.name, "usage": usage(meter)}


def _entry(index: int, scores: dict[str, float]) -> SentimentEntry:
    label = max(scores, key=lambda name: scores[name])
    return {"index": index, "label": label, "score": scores[label], "scores": scores}
