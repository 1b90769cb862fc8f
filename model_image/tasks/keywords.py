"""POST /v1/keywords: the phrases of a text that mean most like the whole of it."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from model_image.answers import Keyword, KeywordAnswer, KeywordEntry
from model_image.batching.encoder_loop import EncoderInput, Vector
from model_image.metrics import Meter
from model_image.registry import ServedModel
from model_image.schemas import KeywordRequest
from model_image.tasks.texts import compute, count, encode_texts, tokenise, usage

WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")
_BREAK = re.compile(r"[.,;:!?()\[\]{}\"\n]")
_MOST_CANDIDATES = 256
_STOP_WORD_LIST = (
    "a about above after again against all also am an and any are as at be because been before being below "
    "between both but by can could did do does doing down during each even ever every few for from further get "
    "gets got had has have having he her here hers him his how i if in into is it its itself just let like made "
    "make many may me might more most much must my neither no nor not now of off often on once one only onto or "
    "other our ours out over own per quite rather really s same shall she should since so some still such t than "
    "that the their theirs them then there these they this those through thus to too two under until up upon us "
    "use used using very was we were what when where whether which while who whom whose why will with within "
    "without would yet you your yours "
)
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())


@dataclass(frozen=True)
class Candidate:
    """A phrase of a text at its first place: `text[start:end]`."""

    text: str
    start: int
    end: int


async def extract(model: ServedModel, request: KeywordRequest, meter: Meter) -> KeywordAnswer:
    """
    The keywords of every text, best first. Raises ApiError.

    KeyBERT's way (Grootendorst 2020): candidate phrases and the text go through one encoder, candidates are ranked by
    the cosine of their vectors, and maximal marginal relevance (Carbonell and Goldstein 1998) keeps them apart.
    """
    texts = request.texts
    shortest, longest = request.ngram_range
    documents = [EncoderInput(ids) for ids in await tokenise(meter, encode_texts, model, texts)]
    await count(meter, documents)
    # After the texts were found to fit the model: a long text has very many phrases.
    found = await asyncio.to_thread(lambda: [candidates(text, shortest, longest) for text in texts])
    data: list[KeywordEntry] = []
    for index, (document, phrases) in enumerate(zip(documents, found, strict=True)):
        encoded = await asyncio.to_thread(encode_texts, model, [phrase.text for phrase in phrases])
        meter.charge(sum(len(ids) for ids in encoded))
        inputs = [document, *(EncoderInput(ids) for ids in encoded)]
        vectors = await compute(model.embedding_loop, inputs, meter)
        picked = await asyncio.to_thread(
            most_relevant, vectors[0], vectors[1:], top_k=request.top_k, diversity=request.diversity
        )
        keywords = [_keyword(phrases[place], score) for place, score in picked]
        data.append({"index": index, "keywords": keywords})
    return {"data": data, "model": model.name, "usage": usage(meter)}


def candidates(text: str, shortest: int, longest: int) -> list[Candidate]:
    """
    Phrases of `shortest` to `longest` words that stay within a clause and do not begin or end with a stop word.

    Each once, at its first place; the most frequent ones where there are very many.
    """
    words = list(WORD.finditer(text))
    first: dict[str, Candidate] = {}
    counts: Counter[str] = Counter()
    for place in range(len(words)):
        for size in range(shortest, min(longest, len(words) - place) + 1):
            start, end = words[place].start(), words[place + size - 1].end()
            if _BREAK.search(text, start, end):
                break
            if not (_bears_meaning(words[place].group()) and _bears_meaning(words[place + size - 1].group())):
                continue
            key = text[start:end].casefold()
            counts[key] += 1
            first.setdefault(key, Candidate(text[start:end], start, end))
    return [first[key] for key, _ in counts.most_common(_MOST_CANDIDATES)]


def most_relevant(document: Vector, phrases: list[Vector], *, top_k: int, diversity: float) -> list[tuple[int, float]]:
    """Places and cosines of up to `top_k` phrases, best first; `diversity` 0 to 1 weighs how unlike they are."""
    if not phrases:
        return []
    matrix = np.stack([vector / np.linalg.norm(vector) for vector in phrases])
    relevance = matrix @ (document / np.linalg.norm(document))
    likeness = matrix @ matrix.T
    picked = [int(relevance.argmax())]
    while len(picked) < min(top_k, len(phrases)):
        marginal = (1 - diversity) * relevance - diversity * likeness[:, picked].max(axis=1)
        marginal[picked] = -np.inf
        picked.append(int(marginal.argmax()))
    return sorted(((place, float(relevance[place])) for place in picked), key=lambda pair: -pair[1])


def _bears_meaning(word: str) -> bool:
    return len(word) > 1 and not word.isdigit() and word.casefold() not in STOP_WORDS


def _keyword(phrase: Candidate, score: float) -> Keyword:
    return {"text": phrase.text, "score": score, "start": phrase.start, "end": phrase.end}
