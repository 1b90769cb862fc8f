"""From a model as transformers loads it to one that computes packed texts, compared with itself on the way."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from model_image.batching.encoder_loop import EncoderInput
from model_image.batching.regions import Region
from model_image.batching.scheduler import Chunk, Plan
from model_image.batching.sequence import Sampling
from model_image.batching.sequence import Sequence as Text
from model_image.engines.forward import Forward, PackedForward, PaddedForward
from model_image.engines.generation import GenerationEngine
from model_image.engines.linear import Weights, pack, unpack_projections
from model_image.errors import ArtefactError

# Plain English of no particular field; a model is compared with itself on it, so that any text would do.
SAMPLE = (
    "A harbour town wakes early. Before the sun is over the roofs the boats come in, the gulls behind them, and "
    "the men on the quay call out what each has caught. By seven the ice is stacked, the lorries are gone, and "
    "only the smell of salt and diesel is left. Then the bakery opens, the first children pass on their way to "
    "school, and somebody sweeps the square as though nothing had happened there at all. In the afternoon the "
    "wind turns; the old people bring their chairs outside and talk about the weather, which is never what it was "
    "when they were young, and about the new bridge, which will be finished next year, or the year after that."
)
_PROBE = 12
_JUDGED = 128
# The sums are made in another order, which in float32 moves the seventh digit, in bfloat16 the third.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}
_UNFIT = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)

Quality = dict[str, float]


@torch.inference_mode()
def fit_generation(
    model: Any, *, name: str, weights: Weights, cache_tokens: int, sample: Sequence[int]
) -> tuple[GenerationEngine, Quality]:
    """
    The engine of a causal model, and with int8 weights the perplexity of the sample's beginning before and after.

    Raises ArtefactError for a model whose logits are not the same in packed form.
    """
    device = next(model.parameters()).device
    probe = list(sample[:_PROBE])
    expected = model(input_ids=torch.tensor([probe], device=device), use_cache=False).logits[0, -1].float()
    unpack_projections(model)
    engine = GenerationEngine(model, cache_tokens=cache_tokens)
    try:
        same = _alike([_by_chunks(engine, probe)], [expected], model.dtype)
    except _UNFIT as error:
        raise ArtefactError(f"{name} cannot be computed in batches here ({type(error).__name__}: {error})") from error
    if not same:
        raise ArtefactError(f"{name} computes something else in batches than alone; serve it with an image of its own")
    quality = {"perplexity_float32": _perplexity(engine, sample[:_JUDGED])} if weights == "int8" else {}
    _pack(model, weights)
    if weights == "int8":
        quality["perplexity_int8"] = _perplexity(engine, sample[:_JUDGED])
    return engine, quality


@torch.inference_mode()
def fit_encoder(
    model: Any, *, kinds: Iterable[str], weights: Weights, pad: int, sample: Sequence[int]
) -> tuple[Forward, Quality]:
    """
    The forward pass of an encoder for `kinds` of results, and with int8 weights how alike they stay.

    Packed where the model computes the same in that form, padded otherwise.
    """
    places = (1, len(sample) // 2)
    texts = [EncoderInput(list(sample), places), EncoderInput([*sample[:3], sample[-1]], (1,))]
    padded = PaddedForward(model, pad=pad)
    kinds = tuple(kinds)
    expected = _results(padded, kinds, texts)
    forward = _packed(model, kinds, texts, expected, pad) or padded
    _pack(model, weights)
    if weights == "int8":
        cosines = [
            torch.nn.functional.cosine_similarity(exact, rounded, dim=-1).min()
            for exact, rounded in zip(expected, _results(forward, kinds, texts), strict=True)
        ]
        return forward, {"least_cosine_int8": round(float(torch.stack(cosines).min()), 5)}
    return forward, {}


def _pack(model: Any, weights: Weights) -> None:
    if next(model.parameters()).device.type == "cpu":
        pack(model, weights=weights)
    elif weights == "int8":
        raise ArtefactError("weights int8 is for CPUs; take float32 on an instance with GPUs")


def _packed(
    model: Any, kinds: Sequence[str], texts: Sequence[EncoderInput], expected: Sequence[torch.Tensor], pad: int
) -> PackedForward | None:
    attention = model.config._attn_implementation
    for first_position in (0, pad + 1):
        try:
            forward = PackedForward(model, first_position=first_position)
            if _alike(_results(forward, kinds, texts), expected, model.dtype):
                return forward
        except _UNFIT:
            continue
    model.set_attn_implementation(attention)
    return None


def _results(forward: Forward, kinds: Sequence[str], texts: Sequence[EncoderInput]) -> list[torch.Tensor]:
    results: list[torch.Tensor] = []
    for kind in kinds:
        if kind == "embeddings":
            results += forward.hidden(texts)
        elif kind == "classification":
            results.append(forward.classify(texts))
        else:
            results += forward.at_places(texts)
    return results


def _alike(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    return all(
        float((one - other).norm()) <= _TOLERANCE[dtype] * float(other.norm())
        for one, other in zip(found, expected, strict=True)
    )


def _by_chunks(engine: GenerationEngine, ids: list[int]) -> torch.Tensor:
    """The logits behind the last token, with another text in the batch, by pieces of which the last is one token."""
    text, other = _text(ids, Region(0, len(ids))), _text(ids[::-1], Region(len(ids), len(ids)))
    cut = len(ids) // 2
    engine.logits([Chunk(text, 0, cut, samples=False), Chunk(other, 0, cut + 1, samples=False)])
    engine.logits([Chunk(other, cut + 1, 1, samples=False), Chunk(text, cut, len(ids) - cut - 1, samples=False)])
    return engine.logits([Chunk(text, len(ids) - 1, 1, samples=True)])[-1].float()


def _perplexity(engine: GenerationEngine, ids: Sequence[int]) -> float:
    text = _text(list(ids), Region(0, len(ids)))
    (progress,) = engine.step(Plan(chunks=[Chunk(text, 0, len(ids), samples=False)]))
    scored = [token.logprob for token in progress.prompt_scores if token.logprob is not None]
    return round(math.exp(-sum(scored) / len(scored)), 4)


def _text(ids: list[int], region: Region) -> Text:
    return Text(
        prompt=ids,
        max_new_tokens=1,
        sampling=Sampling(temperature=0, logprobs=0),
        stop_tokens=frozenset(),
        score_prompt=True,
        on_progress=lambda _: None,
        region=region,
    )
