"""Work grows with the size of a request and not faster: lines run and errors made are counted, never seconds."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from model_image.schemas import AugmentRequest, ChatRequest, CompletionRequest, Request
from model_image.tasks.augmentation import replaceable
from model_image.tasks.keywords import candidates
from model_image.tasks.text_stream import StopMatcher

TERMS = ["a" * size for size in range(1, 65)]
NEAR = ["a" * 255 + "b", "a" * 254 + "c", "ab" * 128, "b" * 256]


def lines_run(function: Callable[[], object]) -> int:
    """How many lines of Python a call runs, those of comprehensions as often as they come round."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def stopped_at(size: int) -> None:
    matcher = StopMatcher(NEAR)
    for _ in range(size):
        matcher.push("a")


@pytest.mark.parametrize(
    "work",
    [
        lambda size: replaceable("a " * size, TERMS),
        lambda size: replaceable("a" * size, TERMS),
        lambda size: replaceable("é " * size, ["É", "é é"]),
        lambda size: replaceable("dog " * size, []),
        lambda size: candidates("dog " * size, 1, 5),
        lambda size: candidates(" ".join(f"dog{number}" for number in range(size)), 1, 5),
        lambda size: candidates("a-" * size, 1, 5),
        stopped_at,
    ],
    ids=["words", "nested terms", "unicode", "no terms", "one phrase", "many phrases", "one word", "stop strings"],
)
def test_four_times_the_text_is_four_times_the_work(work: Callable[[int], object]) -> None:
    assert lines_run(lambda: work(4000)) < 5 * lines_run(lambda: work(1000))


def test_a_counter_that_counted_nothing_would_be_noticed() -> None:
    def square(size: int) -> int:
        return sum(1 for _ in range(size) for _ in range(size))

    assert lines_run(lambda: square(200)) > 10 * lines_run(lambda: square(50))


@pytest.mark.parametrize(
    ("schema", "body"),
    [
        (CompletionRequest, {"prompt": [1.5] * 50_000}),
        (CompletionRequest, {"prompt": [[1.5] * 10] * 5_000}),
        (CompletionRequest, {"prompt": [[]] * 50_000}),
        (CompletionRequest, {"prompt": [None] * 50_000, "stop": [None] * 50_000}),
        (CompletionRequest, {"prompt": "a"} | {f"field{number}": 1 for number in range(20_000)}),
        (ChatRequest, {"messages": [{}] * 1024}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 50_000}] * 10}),
        (ChatRequest, {"messages": [{f"field{number}": 1 for number in range(20_000)}] * 10}),
        (AugmentRequest, {"input": [1] * 50_000, "preserve": [1] * 50_000}),
    ],
)
def test_a_wrong_body_is_a_few_errors_however_much_of_it_is_wrong(schema: type[Request], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate({"model": "m"} | body)

    assert caught.value.error_count() <= 8


@given(st.text("aAbé ß\u0130-", max_size=30), st.lists(st.text("aAbé ß", min_size=1, max_size=3), max_size=3))
def test_a_word_is_replaceable_unless_it_touches_a_preserved_term(text: str, preserve: list[str]) -> None:
    spans = replaceable(text, preserve)

    everything = replaceable(text, [])
    assert set(spans) <= set(everything)
    for start, end in everything:
        touched = any(
            text[place : place + len(term)].lower() == term.lower()
            for term in preserve
            for place in range(max(0, start - len(term) + 1), end)
        )
        # Occurrences that overlap one another count once, so that of two only the first may be kept.
        if not touched:
            assert (start, end) in spans
    for term in preserve:
        first = text.lower().find(term.lower()) if len(text.lower()) == len(text) else -1
        assert not [span for span in spans if first >= 0 and span[0] < first + len(term) and first < span[1]]
