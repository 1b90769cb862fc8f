"""From the logits of the next token to a token: greedy or drawn, with its log probability."""

import torch

from model_image.batching.sequence import Sampling, ScoredToken


def sample(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> ScoredToken:
    """
    Picks a token from `logits` (shape [vocabulary]).

    Log probabilities are those of the model itself, before temperature and nucleus, as OpenAI and vLLM report them.
    The draw depends on `generator` alone, never on what else is computed in the same step.
    """
    logits = logits.float().cpu()
    token = int(logits.argmax()) if sampling.temperature == 0 else _draw(logits, sampling, generator)
    return score(logits, token, sampling.logprobs)


def score(logits: torch.Tensor, token: int, alternatives: int | None) -> ScoredToken:
    """The log probability of `token` under `logits` (shape [vocabulary]) and of the likeliest `alternatives`."""
    if alternatives is None:
        return ScoredToken(token)
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = logprobs.topk(min(alternatives, len(logprobs)))
    return ScoredToken(token, float(logprobs[token]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    # The largest logit is subtracted first: a tiny temperature must not overflow to infinity.
    probabilities = torch.softmax((logits - logits.max()) / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, ids = probabilities.sort(descending=True)
        before = ordered.cumsum(dim=-1) - ordered
        ordered[before >= sampling.top_p] = 0  # the first token always stays: nothing comes before it
        return int(ids[torch.multinomial(ordered, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))
