"""A limited consumer's requests: reserved before, settled after, whatever their end; told by headers and errors."""

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

from model_image.allowance import duration, limits_of
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import EncoderInput
from model_image.batching.sequence import Progress, ScoredToken
from model_image.budgets import Budgets
from model_image.metrics import Metrics
from model_image.standing import Limits
from model_image.tasks.texts import count
from tests.model_image.budget_stand import (
    LIFETIME,
    TABLE,
    Clock,
    Mortal,
    Serial,
    a_table,
    open_reservations,
)
from tests.model_image.in_process import BODY, MARKER, ONE_TOKEN, WHOLE, InProcess, run
from tests.model_image.test_app import SCOPE

FAILED = (Progress(token=ScoredToken(65)), Progress(finish="failed"))
LEFT = ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")


@pytest.fixture(scope="module")
def dynamodb() -> Iterator[Serial]:
    with a_table() as table:
        yield table


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_image.budgets._FIRST_PAUSE", 0.01)


@pytest.fixture
def consumer() -> str:
    return f"team-{uuid.uuid4()}"


def on(table: Any, script: Any = WHOLE, **named: Any) -> InProcess:
    return InProcess(script, budgets=Budgets(table, table=TABLE, lifetime=LIFETIME, clock=Clock()), **named)


def whose(consumer: str, *, day: int | str = "*", month: int | str = "*") -> dict[str, str]:
    return {
        "x-modelkeep-consumer": consumer,
        "x-modelkeep-plan": "team",
        "x-modelkeep-tokens-per-day": str(day),
        "x-modelkeep-tokens-per-month": str(month),
    }


def talk_to(server: InProcess, talk: Callable[[httpx.AsyncClient], Coroutine[Any, Any, None]]) -> None:
    """As `run`, until all is settled."""

    async def whole(client: httpx.AsyncClient) -> None:
        await talk(client)
        assert server.budgets is not None
        await server.budgets.close(seconds=30)

    run(server, whole)


def left(response: httpx.Response) -> list[str]:
    return [response.headers[name] for name in LEFT]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_what_is_left_and_only_what_was_used_is_counted(
    dynamodb: Serial, consumer: str, stream: bool
) -> None:
    server = on(dynamodb)

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=BODY | {"stream": stream}, headers=whose(consumer, day=50))
        assert response.status_code == 200
        # One token of the prompt and five that it may come to make; the day has another twelve hours.
        assert left(response) == ["50", "44", "12h0m0s"]

    talk_to(server, talk)
    row = dynamodb.row(consumer)
    assert (row["used_day"], row["used_month"], open_reservations(row)) == ("3", "3", [])


def test_every_choice_of_every_prompt_is_reserved_and_each_prompt_once(dynamodb: Serial, consumer: str) -> None:
    body = BODY | {"prompt": ["abc", "de"], "n": 3}

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=body, headers=whose(consumer, month=100))
        assert left(response)[:2] == ["100", str(100 - 5 - 3 * 2 * 5)]

    talk_to(on(dynamodb, tokens=10_000), talk)
    assert dynamodb.row(consumer)["used_month"] == str(5 + 3 * 2 * 2)


def test_a_request_that_does_not_fit_is_refused_before_it_is_computed(dynamodb: Serial, consumer: str) -> None:
    server = on(dynamodb)

    async def talk(client: httpx.AsyncClient) -> None:
        first = await client.post("/v1/completions", json=BODY | {"max_tokens": 15}, headers=whose(consumer, day=20))
        assert first.status_code == 200
        while server.budgets is not None and (await server.budgets.standing(consumer)).day.reserved:
            pass
        refused = await client.post("/v1/completions", json=BODY | {"max_tokens": 17}, headers=whose(consumer, day=20))
        assert refused.status_code == 429
        assert refused.json()["error"] == {
            "message": "of your limit of 20 tokens a day 3 are used or reserved, and the request may take 18; "
            "lower max_tokens, wait 12h0m0s, or ask the operator for more",
            "type": "rate_limit_error",
            "param": None,
            "code": "token_budget_exceeded",
        }
        assert refused.headers["retry-after"] == "43200"
        assert left(refused) == ["20", "17", "12h0m0s"]
        beyond = await client.post("/v1/completions", json=BODY | {"max_tokens": 20}, headers=whose(consumer, day=20))
        assert beyond.status_code == 429
        assert "may take 21 tokens, more than your limit of 20 tokens a day" in beyond.json()["error"]["message"]

    talk_to(server, talk)
    assert len(server.loop.submitted) == 1
    assert dynamodb.row(consumer)["used_day"] == "3"


def test_every_other_answer_says_what_is_left_too(dynamodb: Serial, consumer: str) -> None:
    server = on(dynamodb)

    async def talk(client: httpx.AsyncClient) -> None:
        headers = whose(consumer, day=50, month=40)
        for response in (
            await client.get("/v1/models", headers=headers),
            await client.post("/v1/completions", json=BODY | {"max_tokens": -1}, headers=headers),
            await client.post("/v1/completions", json=BODY | {"model": "other"}, headers=headers),
            await client.post("/v1/completions", json=BODY | {"max_tokens": 1000}, headers=headers),
            await client.get("/nowhere", headers=headers),
        ):
            assert left(response) == ["40", "40", "156h0m0s"], response.text

    before = dynamodb.calls
    talk_to(server, talk)
    assert dynamodb.calls - before == 1  # what the table said is good for a minute


def test_who_has_no_limits_costs_the_table_nothing(dynamodb: Serial, consumer: str) -> None:
    before = dynamodb.calls

    async def talk(client: httpx.AsyncClient) -> None:
        for headers in ({}, {"x-modelkeep-consumer": consumer}, whose(consumer), whose("", day=5)):
            response = await client.post("/v1/completions", json=BODY, headers=headers)
            assert response.status_code == 200
            assert not set(LEFT) & set(response.headers)
        usage = (await client.get("/v1/usage", headers=whose(consumer))).json()
        nothing = {"used": None, "reserved": None, "limit": None, "remaining": None, "reset_seconds": None}
        assert usage == {"object": "usage", "consumer": consumer, "plan": "team", "day": nothing, "month": nothing}

    talk_to(on(dynamodb), talk)
    assert dynamodb.calls == before


def test_limits_are_counts_or_nothing() -> None:
    assert limits_of({}) == limits_of(whose("a")) == Limits(None, None)
    assert limits_of(whose("a", day=5, month=0)) == Limits(5, 0)
    for wrong in ("-1", "1e9", "9" * 19, "none"):
        with pytest.raises(ValueError, match="neither a count nor"):
            limits_of(whose("a", day=wrong))


def test_a_limit_that_is_none_is_a_fault_and_not_a_free_ride(dynamodb: Serial, consumer: str) -> None:
    server = on(dynamodb)

    async def talk(client: httpx.AsyncClient) -> None:
        response = await client.post("/v1/completions", json=BODY, headers=whose(consumer, day="lots"))
        assert response.status_code == 500

    talk_to(server, talk)
    assert server.loop.submitted == []


def test_durations_are_written_as_openai_does() -> None:
    assert [duration(seconds) for seconds in (1, 59, 360, 3600, 90_061)] == ["1s", "59s", "6m0s", "1h0m0s", "25h1m1s"]


def test_a_consumer_sees_its_own_use(dynamodb: Serial, consumer: str) -> None:
    server = on(dynamodb, ONE_TOKEN)

    async def talk(client: httpx.AsyncClient) -> None:
        headers = whose(consumer, day=50)
        asked = asyncio.create_task(client.post("/v1/completions", json=BODY, headers=headers))
        await server.loop.has_submitted(1)
        assert (await client.get("/v1/usage", headers=headers)).json() == {
            "object": "usage",
            "consumer": consumer,
            "plan": "team",
            "day": {"used": 0, "reserved": 6, "limit": 50, "remaining": 44, "reset_seconds": 43_200},
            "month": {"used": 0, "reserved": 6, "limit": None, "remaining": None, "reset_seconds": 561_600},
        }
        asked.cancel()

    talk_to(server, talk)


@pytest.mark.parametrize("end", ["model failed", "timeout", "client left", "cut off", "our fault"])
@pytest.mark.parametrize("stream", [False, True])
def test_whatever_its_end_a_request_is_settled_for_what_was_counted(
    dynamodb: Serial, consumer: str, end: str, stream: bool
) -> None:
    script = FAILED if end == "model failed" else ONE_TOKEN
    server = on(dynamodb, script, timeout_seconds=0.2 if end == "timeout" else 60)
    body = BODY | {"stream": stream, "prompt": MARKER if end == "our fault" else "abc"}
    headers = [(name.encode(), value.encode()) for name, value in whose(consumer, day=50).items()]
    scope = SCOPE | {"headers": [*SCOPE["headers"], *headers]}

    async def talk() -> None:
        gone = asyncio.Event()
        incoming = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(_: Any) -> None:
            pass

        serving = asyncio.create_task(server.app(scope, receive, send))
        if end in {"client left", "cut off"}:
            await server.loop.has_submitted(1)
            await asyncio.sleep(0.01)
            if end == "cut off":
                serving.cancel()
            gone.set()
        await asyncio.wait([serving])
        assert server.budgets is not None
        await server.budgets.close(seconds=30)

    asyncio.run(talk())
    line = next(each for each in server.logged if each["event"] == "request")
    codes = {"model failed": "internal_error", "our fault": "internal_error", "cut off": "draining"}
    assert line["code"] == codes.get(end, end.replace(" ", "_"))
    row = dynamodb.row(consumer)
    counted = line["prompt_tokens"] + line["completion_tokens"]
    assert counted == {"our fault": 0, "model failed": 3}.get(end, 4)  # three of the prompt, and what came
    assert (int(row.get("used_day", 0)), open_reservations(row)) == (counted, [])


def test_a_table_that_does_not_answer_is_served_only_where_it_may_fail_open(dynamodb: Serial, consumer: str) -> None:
    for fails_open in (False, True):
        way = Mortal(dynamodb)
        way.dead = True
        server = on(way, fails_open=fails_open)

        async def talk(client: httpx.AsyncClient, server: InProcess = server, fails_open: bool = fails_open) -> None:
            response = await client.post("/v1/completions", json=BODY, headers=whose(consumer, day=50))
            if fails_open:
                assert (response.status_code, response.json()["usage"]["total_tokens"]) == (200, 3)
            else:
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "budget_unavailable"
                assert response.headers["retry-after"] == "2"
            assert not set(LEFT) & set(response.headers)
            assert (await client.get("/v1/usage", headers=whose(consumer, day=50))).status_code == 503

        talk_to(server, talk)
        assert len(server.loop.submitted) == int(fails_open)
        mode = "open" if fails_open else "closed"
        labels = {"operation": "reserve", "mode": mode}
        assert server.metrics.registry.get_sample_value("modelkeep_budget_failures_total", labels) == 1
        (line,) = [each for each in server.logged if each["event"] == "budgets_failed"]
        assert (line["mode"], line["level"]) == (mode, "warning")
        assert "table budgets of token budgets does not answer: ConnectTimeoutError" in line["message"]


def test_what_was_served_while_the_table_was_away_is_counted_once_it_is_back(dynamodb: Serial, consumer: str) -> None:
    way = Mortal(dynamodb)
    way.dead = True
    server = on(way, ONE_TOKEN, fails_open=True)

    async def talk(client: httpx.AsyncClient) -> None:
        asked = asyncio.create_task(client.post("/v1/completions", json=BODY, headers=whose(consumer, day=1)))
        await server.loop.has_submitted(1)
        way.dead = False
        asked.cancel()
        await asyncio.wait([asked])

    talk_to(server, talk)
    row = dynamodb.row(consumer)
    assert (row["used_day"], open_reservations(row)) == ("2", [])


def test_texts_are_reserved_before_they_are_counted() -> None:
    asked: list[int] = []

    async def reserve(tokens: int) -> None:
        asked.append(tokens)
        if tokens > 10:
            raise ApiError("token_budget_exceeded", "none left", retry_after=1)

    meter = Metrics().meter(model="m", task="embeddings", reserve=reserve)

    async def talk() -> None:
        await count(meter, [EncoderInput([1, 2, 3]), EncoderInput([4])])
        await count(meter, [EncoderInput([5, 6])])
        with pytest.raises(ApiError):
            await count(meter, [EncoderInput([7] * 5)])

    asyncio.run(talk())
    assert asked == [4, 6, 11]
    assert meter.total_tokens == 6
