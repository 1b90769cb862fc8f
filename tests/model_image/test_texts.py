"""What the encoder routes do around their batches: bounds, the thread that builds an answer, a batch that failed."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from model_image.api_errors import ApiError
from model_image.batching.caller import Caller
from model_image.batching.encoder_loop import BatchFailed, Candidates, EncoderInput
from model_image.metrics import Meter, Metrics
from model_image.schemas import FillMaskRequest
from model_image.tasks.fill_mask import fill
from model_image.tasks.texts import compute

MASK = 2


class Words:
    """A vocabulary with a mask; notes which threads it decodes on."""

    mask_token = "[MASK]"
    mask_token_id = MASK

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def encode_masked(self, pieces: Sequence[str]) -> list[int]:
        return [MASK] * (len(pieces) - 1)

    def decode(self, ids: Sequence[int], *, keep_special: bool = False) -> str:
        self.threads.add(threading.get_ident())
        return f"w{ids[0]}"


class Futures:
    """A loop that computes nothing: its futures, which the test completes."""

    def __init__(self, *results: Any) -> None:
        self.results = results
        self.futures: list[Future[Any]] = []

    def submit(self, items: Sequence[EncoderInput], caller: Caller | None = None) -> list[Future[Any]]:
        self.futures = [Future() for _ in items]
        for future, result in zip(self.futures, self.results, strict=False):
            future.set_running_or_notify_cancel()
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)
        return self.futures


def meter() -> Meter:
    return Metrics().meter(model="m", task="fill-mask")


def masked_model(loop: Futures) -> Any:
    return SimpleNamespace(name="m", context_length=100, tokenizer=Words(), mask_loop=loop)


def test_candidates_are_put_into_the_text_off_the_event_loop() -> None:
    model = masked_model(Futures([Candidates([7, 8, 9], [0.5, 0.3, 0.2])]))

    answer = asyncio.run(fill(model, FillMaskRequest(input="a [MASK] b", top_k=2), meter()))

    (entry,) = answer["data"]
    assert [candidate["text"] for candidate in entry["candidates"]] == ["a w7 b", "a w8 b"]
    assert threading.get_ident() not in model.tokenizer.threads


def test_an_answer_of_very_many_candidates_is_refused_before_anything_is_computed() -> None:
    loop = Futures(*[BatchFailed()] * 256)
    request = FillMaskRequest(input=["[MASK] " * 6] * 256, top_k=100)

    with pytest.raises(ApiError, match="the answer would hold over 50,000 candidates; lower 'top_k'") as refused:
        asyncio.run(fill(masked_model(loop), request, meter()))

    assert (refused.value.status, refused.value.param) == (400, "top_k")
    assert loop.futures == []


@pytest.mark.parametrize("of_a_request", [True, False])
def test_where_a_batch_failed_the_other_texts_of_the_request_leave_the_queue(of_a_request: bool) -> None:
    loop: Any = Futures("done", BatchFailed())

    with pytest.raises(ApiError, match="the model failed on this request"):
        asyncio.run(compute(loop, [EncoderInput([5])] * 4, meter() if of_a_request else None))

    assert [future.cancelled() for future in loop.futures] == [False, False, True, True]
