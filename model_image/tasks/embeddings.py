"""POST /v1/embeddings."""

import base64

from model_image.answers import EmbeddingList
from model_image.batching.encoder_loop import EncoderInput, Vector
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import EmbeddingRequest
from model_image.tasks.generation import prompt_ids
from model_image.tasks.texts import check_length, compute, count, tokenise, usage


async def embed(model: ServedModel, request: EmbeddingRequest, meter: Meter) -> EmbeddingList:
    """One vector per input. Raises ApiError."""
    inputs = await tokenise(meter, _encode, model, request)
    await count(meter, inputs)
    vectors = await compute(model.embedding_loop, inputs, meter)
    as_base64 = request.encoding_format == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _base64(vector) if as_base64 else vector.tolist()}
            for index, vector in enumerate(vectors)
        ],
        "model": model.name,
        "usage": usage(meter),
    }


def _encode(model: ServedModel, request: EmbeddingRequest) -> list[EncoderInput]:
    encoded = [
        model.tokenizer.encode_plain(given).ids if isinstance(given, str) else prompt_ids(model, given, param="input")
        for given in request.inputs
    ]
    for index, ids in enumerate(encoded):
        check_length(model, ids, index=index)
    return [EncoderInput(ids) for ids in encoded]


def _base64(vector: Vector) -> str:
    """OpenAI's form: little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
