"""POST /v1/augment: other ways to say a text, for training data and tests."""

import asyncio
import random
import secrets
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from model_image.answers import AugmentAnswer, AugmentEntry
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import Candidates, EncoderInput
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import AugmentRequest
from model_image.tasks.chat import chat_ids
from model_image.tasks.completions import usage as generation_usage
from model_image.tasks.generation import Ask, generate
from model_image.tasks.keywords import WORD
from model_image.tasks.texts import check_length, compute, count, encode_texts, tokenise, usage

_ROUNDS = 4
_MASKED_PART = 0.15
_CHOICES_PER_MASK = 12


@dataclass(frozen=True)
class Masked:
    """A text with some words taken out: their places in it, and the input whose masks stand for them."""

    spans: tuple[tuple[int, int], ...]
    item: EncoderInput


async def augment_by_masks(model: ServedModel, request: AugmentRequest, meter: Meter) -> AugmentAnswer:
    """
    Variants of each text with some words replaced by likely others (Kobayashi 2018). Raises ApiError.

    Words that touch a preserved term stay. The same seed gives the same variants. There are fewer than asked for where
    four rounds of draws find no more distinct ones.
    """
    seed = secrets.randbits(63) if request.seed is None else request.seed
    data: list[AugmentEntry] = []
    # One round of every text; most need no second one, and who has no budget for it is refused before any is computed.
    await meter.reserve(request.n * sum(map(len, await tokenise(meter, encode_texts, model, request.texts))))
    for index, text in enumerate(request.texts):
        draw = random.Random(f"{seed}:{index}")
        spans = await asyncio.to_thread(replaceable, text, request.preserve)
        variants: dict[str, None] = {}
        for _ in range(_ROUNDS if spans else 1):
            wanted = request.n - len(variants)
            if wanted == 0:
                break
            masked = await asyncio.to_thread(_mask_some, model, text, spans, index=index, count=wanted, draw=draw)
            inputs = [entry.item for entry in masked]
            await count(meter, inputs)
            results = await compute(model.mask_loop, inputs, meter)
            for variant in await asyncio.to_thread(_replace_all, model, text, masked, results, draw):
                if variant != text:
                    variants.setdefault(variant)
        data.append({"index": index, "variants": list(variants)})
    return {"data": data, "model": model.name, "usage": usage(meter)}


def replaceable(text: str, preserve: Sequence[str]) -> list[tuple[int, int]]:
    """Where the words are that may be replaced: letters only, and not touching a preserved term."""
    kept = bytearray(len(text))  # 1 for each character of a preserved term: words x terms would be far too many pairs
    whole = _folded(text)
    for term in {_folded(term) for term in preserve}:
        start = whole.find(term)
        while start >= 0:
            end = start + len(term)
            kept[start:end] = bytes([1]) * len(term)
            start = whole.find(term, end)
    words = (match.span() for match in WORD.finditer(text) if match.group().isalpha())
    return [(start, end) for start, end in words if kept.find(1, start, end) < 0]


def _folded(text: str) -> str:
    """A text without regard to case, character by character, so that places in it are places in the text."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


def _folded_character(character: str) -> str:
    return next((form for form in (character.casefold(), character.lower()) if len(form) == 1), character)


def _mask_some(
    model: ServedModel, text: str, spans: list[tuple[int, int]], *, index: int, count: int, draw: random.Random
) -> list[Masked]:
    """`count` times a random part of the words masked: at least one, and about one in seven."""
    masked = []
    for _ in range(count if spans else 0):
        chosen = tuple(sorted(draw.sample(spans, max(1, round(len(spans) * _MASKED_PART)))))
        edges = [0, *(edge for span in chosen for edge in span), len(text)]
        ids = model.tokenizer.encode_masked([text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)])
        check_length(model, ids, index=index)
        places = tuple(place for place, token in enumerate(ids) if token == model.tokenizer.mask_token_id)
        masked.append(Masked(chosen, EncoderInput(ids, places)))
    return masked


def _replace_all(
    model: ServedModel, text: str, masked: list[Masked], results: list[list[Candidates]], draw: random.Random
) -> list[str]:
    pairs = zip(masked, results, strict=True)
    return [_replace(model, text, entry.spans, candidates, draw) for entry, candidates in pairs]


def _replace(
    model: ServedModel, text: str, spans: Sequence[tuple[int, int]], candidates: list[Candidates], draw: random.Random
) -> str:
    """Draws a word for every mask by its probability; a word without a fitting candidate stays."""
    words = []
    for (start, end), options in zip(spans, candidates, strict=True):
        old = text[start:end]
        fitting: dict[str, float] = {}
        for token, probability in zip(options.tokens, options.probabilities, strict=True):
            word = model.tokenizer.whole_word(token)
            if word is not None and word.casefold() != old.casefold() and len(fitting) < _CHOICES_PER_MASK:
                fitting[_in_case_of(old, word)] = probability
        words.append(draw.choices(list(fitting), list(fitting.values()))[0] if fitting else old)
    return _with_words(text, spans, words)


def _with_words(text: str, spans: Sequence[tuple[int, int]], words: Sequence[str]) -> str:
    """Puts words into the places of a text, in order; all else stays as it is."""
    pieces, last = [], 0
    for (start, end), word in zip(spans, words, strict=True):
        pieces += [text[last:start], word]
        last = end
    return "".join([*pieces, text[last:]])


def _in_case_of(old: str, word: str) -> str:
    if old.isupper() and len(old) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if old[:1].isupper() else word


async def augment_by_generation(model: ServedModel, request: AugmentRequest, meter: Meter) -> AugmentAnswer:
    """
    Variants written by a causal model. Raises ApiError.

    A chat model is asked to say the text in other words, and what lacks a preserved term is thrown away; a model that
    only completes goes on from the text, which stays as it is. There are fewer than asked for where four rounds of
    draws find no more distinct ones.
    """
    chats = "chat" in model.tasks
    seed = secrets.randbits(62) if request.seed is None else request.seed
    data: list[AugmentEntry] = []
    prompts = await tokenise(meter, _prompts, model, request, chats=chats)
    await meter.reserve(sum(len(prompt) + request.n * room for prompt, room in prompts))  # one round of every text
    for index, (text, (prompt, room)) in enumerate(zip(request.texts, prompts, strict=True)):
        variants: dict[str, None] = {}
        for turn in range(_ROUNDS):
            wanted = request.n - len(variants)
            if wanted == 0:
                break
            ask = Ask(
                prompts=[prompt],
                n=wanted,
                max_new_tokens=[room],
                temperature=0.9,
                top_p=0.95,
                seed=(seed + (index * _ROUNDS + turn) * request.n) % 2**63,
                stops=("\n\n",) if chats else ("\n",),
            )
            meter.charge(ask.tokens)
            await meter.reserve(ask.counted_tokens)
            for written in await _texts(model, ask, meter):
                variant = _tidy(written) if chats else (text.rstrip() + " " + written.strip()).rstrip()
                if variant and variant != text and keeps(text, variant, request.preserve):
                    variants.setdefault(variant)
        data.append({"index": index, "variants": list(variants)[: request.n]})
    return {"data": data, "model": model.name, "usage": generation_usage(meter)}


def keeps(text: str, variant: str, preserve: Sequence[str]) -> bool:
    """Whether every preserved term stands in the variant as often as in the text, to the letter."""
    return all(variant.count(term) >= text.count(term) for term in preserve)


def _prompts(model: ServedModel, request: AugmentRequest, *, chats: bool) -> list[tuple[list[int], int]]:
    """For every text its prompt and the room for a variant. Raises ApiError."""
    prompts = [_prompt(model, text, request.preserve, chats=chats) for text in request.texts]
    pairs = zip(prompts, request.texts, strict=True)
    return [(prompt, _room(model, prompt, text, index)) for index, (prompt, text) in enumerate(pairs)]


def _prompt(model: ServedModel, text: str, preserve: Sequence[str], *, chats: bool) -> list[int]:
    if not chats:
        return model.tokenizer.encode_plain(text).ids
    terms = [term for term in preserve if term in text]
    keep = f" Keep these terms exactly as they are: {', '.join(terms)}." if terms else ""
    order = f"Rewrite the following text in other words with the same meaning.{keep} Answer with the new text only."
    return chat_ids(model, [("user", f"{order}\n\n{text}")])


def _room(model: ServedModel, prompt: list[int], text: str, index: int) -> int:
    """Room for a text half as long again. Raises ApiError if it does not fit behind the prompt."""
    wanted = len(model.tokenizer.encode_plain(text).ids) * 3 // 2 + 16
    if len(prompt) + wanted > model.context_length:
        counts = f"input {index} needs {len(prompt) + wanted} tokens, model {model.name} takes {model.context_length}"
        raise ApiError("context_length_exceeded", f"{counts}; shorten it or split it", param="input")
    if not prompt:
        raise ApiError("invalid_value", f"input {index} has no tokens; send some text", param="input")
    return wanted


async def _texts(model: ServedModel, ask: Ask, meter: Meter) -> list[str]:
    texts = [""] * ask.n
    async with aclosing(generate(model, ask, meter)) as steps:
        async for step in steps:
            for part in step:
                texts[part.choice] += part.text
    return texts


def _tidy(written: str) -> str:
    """Without the quotation marks that chat models like to set around an answer."""
    written = written.strip()
    if len(written) > 1 and written[0] == written[-1] == '"':
        written = written[1:-1].strip()
    return written
