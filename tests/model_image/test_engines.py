"""The engines against transformers itself: the same tokens, the same numbers, whoever else is computed."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from model_image.batching.encoder_loop import EncoderInput
from model_image.batching.generation_loop import Deliveries, GenerationLoop
from model_image.batching.regions import Region
from model_image.batching.scheduler import Chunk, Limits, Plan, Scheduler
from model_image.batching.sequence import Progress, Sampling, Sequence
from model_image.batching.turns import Turns
from model_image.engines.load import Loaded, load
from model_image.errors import ArtefactError
from model_image.metrics import Metrics

# 64 prompts of 1 to 60 tokens, some of which begin alike.
PROMPTS = [[5 + place % 9] * (1 + place % 3) + list(range(20, 20 + place * 7 % 58)) for place in range(64)]


def loaded(artefacts: dict[str, Path], kind: str) -> Loaded:
    manifest = json.loads((artefacts[kind] / "manifest.json").read_text())
    return load(artefacts[kind], architecture=manifest["architecture"], tasks=tuple(manifest["tasks"]))


class Collector:
    """Runs sequences through a loop and keeps what it delivers."""

    def __init__(self, engine: Any, limits: Limits) -> None:
        self.tokens: dict[Sequence, list[int]] = {}
        self.finishes: dict[Sequence, str] = {}
        self._ended = threading.Condition()
        self.crashes: list[BaseException] = []
        self.failures: list[BaseException] = []
        self.loop = GenerationLoop(
            name="test",
            engine=engine,
            scheduler=Scheduler(limits),
            turns=Turns(),
            deliver=self._deliver,
            observer=Metrics().observer("test"),
            on_failure=self.failures.append,
            on_crash=self.crashes.append,
        )
        self.loop.start()

    def run(self, sequences: list[Sequence]) -> None:
        for sequence in sequences:
            self.tokens[sequence] = []
            self.loop.submit(sequence)
        with self._ended:
            assert self._ended.wait_for(lambda: len(self.finishes) == len(self.tokens), timeout=60)

    def _deliver(self, deliveries: Deliveries) -> None:
        with self._ended:
            for sequence, progress in deliveries:
                if progress.token is not None:
                    self.tokens[sequence].append(progress.token.token)
                if progress.finish is not None:
                    self.finishes[sequence] = progress.finish
            self._ended.notify_all()


def sequence(prompt: list[int], *, new: int = 24, sampling: Sampling | None = None) -> Sequence:
    return Sequence(
        prompt=prompt,
        max_new_tokens=new,
        sampling=sampling or Sampling(temperature=0),
        stop_tokens=frozenset(),
        on_progress=lambda _: None,
    )


@pytest.mark.parametrize(("kind", "architecture"), [("gpt2", "GPT2LMHeadModel"), ("llama", "LlamaForCausalLM")])
def test_greedy_tokens_are_those_of_generate(artefacts: dict[str, Path], kind: str, architecture: str) -> None:
    model: Any = getattr(transformers, architecture).from_pretrained(artefacts[kind], dtype=torch.float32)
    model.eval()
    engine = loaded(artefacts, kind).engines["generation"]
    expected = [_generated(model, prompt) for prompt in PROMPTS]
    # Mixed: prompts go in by pieces of a few tokens while others generate, and there is memory for a few texts only, so
    # that some move and some are computed twice. Alone: one after the other.
    mixed = Collector(engine, Limits(running=7, cache_tokens=448, prefill_tokens=11))
    alone = Collector(engine, Limits(running=1, cache_tokens=448, prefill_tokens=512))
    together = [sequence(prompt) for prompt in PROMPTS]
    single = [sequence(prompt) for prompt in PROMPTS]

    mixed.run(together)
    for each in single:
        alone.run([each])

    assert [mixed.tokens[each] for each in together] == expected
    assert [alone.tokens[each] for each in single] == expected
    mixed.loop.stop()
    alone.loop.stop()


def _generated(model: Any, prompt: list[int]) -> list[int]:
    ids = torch.tensor([prompt])
    whole = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    tokens: list[int] = whole[0, len(prompt) :].tolist()
    return tokens


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_seed_gives_the_same_tokens_alone_and_in_company(artefacts: dict[str, Path], kind: str) -> None:
    engine = loaded(artefacts, kind).engines["generation"]
    samplings = [
        Sampling(temperature=0.9, top_p=0.8, seed=11), Sampling(seed=3), Sampling(temperature=2.0, top_p=0.5, seed=5)
    ]  # fmt: skip
    alone = [sequence(PROMPTS[30 + place], sampling=each) for place, each in enumerate(samplings)]
    company = [sequence(PROMPTS[30 + place], sampling=each) for place, each in enumerate(samplings)]
    others = [sequence(prompt, sampling=Sampling(seed=place)) for place, prompt in enumerate(PROMPTS[:12])]

    first = Collector(engine, Limits(running=1, cache_tokens=4096, prefill_tokens=64))
    second = Collector(engine, Limits(running=9, cache_tokens=512, prefill_tokens=16))
    for each in alone:
        first.run([each])
    second.run([*others[:6], *company, *others[6:]])

    assert [first.tokens[each] for each in alone] == [second.tokens[each] for each in company]
    assert len({tuple(second.tokens[other]) for other in others}) > 6
    first.loop.stop()
    second.loop.stop()


def test_copies_of_a_prompt_are_what_separate_requests_would_be(artefacts: dict[str, Path]) -> None:
    engine = loaded(artefacts, "gpt2").engines["generation"]
    separate = [sequence(PROMPTS[50], sampling=Sampling(seed=seed)) for seed in range(4)]
    leader, *copies = [sequence(PROMPTS[50], sampling=Sampling(seed=seed)) for seed in range(4)]
    leader.copies = list(copies)
    collector = Collector(engine, Limits(running=8, cache_tokens=2048, prefill_tokens=64))

    collector.run(separate)
    for copy in copies:
        collector.tokens[copy] = []
    collector.run([leader])

    assert [collector.tokens[each] for each in (leader, *copies)] == [collector.tokens[each] for each in separate]
    collector.loop.stop()


def test_a_narrow_nucleus_is_greedy(artefacts: dict[str, Path]) -> None:
    collector = Collector(
        loaded(artefacts, "gpt2").engines["generation"], Limits(running=2, cache_tokens=256, prefill_tokens=64)
    )
    greedy, narrow = sequence([9, 8, 7]), sequence([9, 8, 7], sampling=Sampling(temperature=1.0, top_p=1e-6, seed=3))

    collector.run([greedy, narrow])

    assert collector.tokens[greedy] == collector.tokens[narrow]
    collector.loop.stop()


def test_log_probabilities_are_the_models(artefacts: dict[str, Path]) -> None:
    model: Any = transformers.GPT2LMHeadModel.from_pretrained(artefacts["gpt2"])
    model.eval()
    engine = loaded(artefacts, "gpt2").engines["generation"]
    scored = Sequence(
        prompt=[5, 6, 7, 8],
        max_new_tokens=1,
        sampling=Sampling(temperature=0, logprobs=2),
        stop_tokens=frozenset(),
        score_prompt=True,
        on_progress=lambda _: None,
        region=Region(64, 64),
    )

    parts = []
    for start, count in ((0, 3), (3, 1)):
        parts += engine.step(Plan(chunks=[Chunk(scored, start, count, samples=start == 3)]))
        scored.computed += count

    with torch.inference_mode():
        expected = torch.log_softmax(model(torch.tensor([[5, 6, 7, 8]])).logits[0], dim=-1)
    scores = [score for part in parts for score in part.prompt_scores]
    assert [score.token for score in scores] == [5, 6, 7, 8]
    assert scores[0].logprob is None
    for place in (1, 2, 3):
        assert scores[place].logprob == pytest.approx(float(expected[place - 1, 5 + place]), abs=1e-4)
    drawn = parts[-1].token
    assert drawn.token == int(expected[3].argmax())
    assert drawn.top[0] == (drawn.token, pytest.approx(float(expected[3].max()), abs=1e-4))
    assert len(drawn.top) == 2


class BrokenEngine:
    """Fails once with an error of torch's kind, then works."""

    def __init__(self) -> None:
        self.steps = 0

    def step(self, plan: Plan) -> list[Progress]:
        self.steps += 1
        if self.steps == 1:
            raise RuntimeError("out of memory")
        return [Progress(finish="length") for _ in plan.chunks]


def test_a_failed_step_fails_its_sequences_and_no_others() -> None:
    collector = Collector(BrokenEngine(), Limits(running=2, cache_tokens=64, prefill_tokens=8))
    first, second = sequence([1], new=2), sequence([1], new=2)

    collector.run([first])
    collector.run([second])

    assert collector.finishes == {first: "failed", second: "length"}
    assert [type(failure) for failure in collector.failures] == [RuntimeError]
    assert not collector.crashes
    collector.loop.stop()


@pytest.mark.parametrize("kind", ["bert_embeddings", "bert_sentiment", "bert_mlm"])
def test_an_encoders_result_does_not_depend_on_its_company(artefacts: dict[str, Path], kind: str) -> None:
    model = loaded(artefacts, kind)
    assert model.packed
    (engine,) = model.engines.values()
    inputs = [EncoderInput([2, *range(5, 5 + length), 3], (1,)) for length in (1, 3, 40, 12)]

    def numbers(result: Any) -> Any:
        return result[0].probabilities if kind == "bert_mlm" else result

    together = engine.run(inputs)
    for item, in_company in zip(inputs, together, strict=True):
        (alone,) = engine.run([item])
        assert np.allclose(numbers(alone), numbers(in_company), atol=1e-5)


def test_embeddings_are_means_of_length_one(artefacts: dict[str, Path]) -> None:
    model: Any = transformers.BertModel.from_pretrained(artefacts["bert_embeddings"])
    model.eval()
    ids = [2, 10, 11, 12, 3]

    (vector,) = loaded(artefacts, "bert_embeddings").engines["embeddings"].run([EncoderInput(ids)])

    with torch.inference_mode():
        mean = model(torch.tensor([ids])).last_hidden_state[0].mean(dim=0)
    assert np.allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_a_model_for_another_task_is_refused(artefacts: dict[str, Path]) -> None:
    with pytest.raises(ArtefactError, match="is a BertModel, but completions needs one that ends in ForCausalLM"):
        load(artefacts["bert_embeddings"], architecture="BertModel", tasks=("completions",))


def test_weights_that_are_not_there_are_never_made_up(artefacts: dict[str, Path]) -> None:
    with pytest.raises(ArtefactError, match="lacks weights of BertForMaskedLM, first cls"):
        load(artefacts["bert_embeddings"], architecture="BertForMaskedLM", tasks=("fill-mask",))


def test_a_failed_step_also_fails_whom_it_copied_keys_for() -> None:
    scheduler = Scheduler(Limits(running=4, cache_tokens=512, prefill_tokens=8))
    collector = Collector(BrokenEngine(), Limits(running=4, cache_tokens=512, prefill_tokens=8))
    collector.loop.stop()
    collector.loop._scheduler = scheduler
    first = sequence([5] * 64, new=4)
    scheduler.add(first)
    while first.computed < 64:
        for chunk in scheduler.schedule().chunks:
            chunk.sequence.computed += chunk.count
    first.generated.append(7)
    # Both begin like the first, so their keys are copied; the budget lets only one of them read on in this step.
    others = [sequence([5] * 40 + [9] * 20), sequence([5] * 40 + [8] * 20)]
    for each in others:
        scheduler.add(each)
    plan = scheduler.schedule()
    assert plan.filled == others
    assert others[1] not in [chunk.sequence for chunk in plan.chunks]

    failed = collector.loop._fail(plan)

    assert {each for each, _ in failed} == {first, *others}
    assert not scheduler.running
