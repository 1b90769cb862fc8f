"""From the logits of the next tokens to tokens: greedy or drawn, with their log probabilities."""

import random
from collections.abc import Sequence

import torch

from model_image.batching.sequence import Sampling, ScoredToken

# A nucleus is looked for among this many likeliest tokens first: sorting a whole vocabulary takes milliseconds.
_LIKELY = 256


def sample(
    logits: torch.Tensor, rows: Sequence[int], samplings: Sequence[Sampling], draws: Sequence[random.Random]
) -> list[ScoredToken]:
    """
    Picks a token for each of some rows of `logits` ([rows, vocabulary]).

    Log probabilities are those of the model itself, before temperature and nucleus, as OpenAI and vLLM report them. A
    row's draw takes one number from its own source, so it never depends on what else is computed in the same step.
    """
    # Of all rows, since picking some would copy them; and by numpy, which is ten times as quick at it on a CPU.
    likeliest = logits.numpy().argmax(axis=-1) if logits.device.type == "cpu" else logits.argmax(dim=-1).cpu().numpy()
    tokens = []
    for row, sampling, draw in zip(rows, samplings, draws, strict=True):
        drawn = sampling.temperature > 0
        token = _draw(logits[row].float().cpu(), sampling, draw.random()) if drawn else int(likeliest[row])
        tokens.append(score(logits[row], token, sampling.logprobs))
    return tokens


def score(logits: torch.Tensor, token: int, alternatives: int | None) -> ScoredToken:
    """The log probability of `token` under `logits` (shape [vocabulary]) and of the likeliest `alternatives`."""
    if alternatives is None:
        return ScoredToken(token)
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = logprobs.topk(min(alternatives, len(logprobs)))
    return ScoredToken(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def _draw(logits: torch.Tensor, sampling: Sampling, point: float) -> int:
    # The largest logit is subtracted first: a tiny temperature must not overflow to infinity.
    weights = (logits - logits.max()).double().div_(sampling.temperature).exp_()
    return _pick(weights, sampling.top_p, point)


def _pick(weights: torch.Tensor, top_p: float, point: float) -> int:
    """The token in whose share of the nucleus `point` (0 to 1) falls; `weights` need not add up to 1."""
    if top_p >= 1:
        return _at(weights.cumsum(0), point)
    total = float(weights.sum())
    ordered, ids = weights.topk(min(_LIKELY, len(weights)))
    if float(ordered.sum()) < top_p * total:
        ordered, ids = weights.sort(descending=True)
    cumulative = ordered.cumsum(0)
    # The fewest likeliest tokens that reach top_p together; the first always stays.
    size = int(torch.searchsorted(cumulative, top_p * total)) + 1
    return int(ids[_at(cumulative[:size], point)])


def _at(cumulative: torch.Tensor, point: float) -> int:
    place = int(torch.searchsorted(cumulative, point * float(cumulative[-1]), right=True))
    return min(place, len(cumulative) - 1)
