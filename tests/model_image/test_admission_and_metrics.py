"""Admission's bounds, and what is measured under which name."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_image.admission import Admission
from model_image.api_errors import ApiError
from model_image.cloudwatch import metric_line
from model_image.scopes import Scopes
from tests.model_image.server_process import metric

NAMES = (
    "num_requests_running",
    "num_requests_waiting",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "prompt_tokens_total",
    "generation_tokens_total",
    "request_success_total",
    "request_failure_total",
    "batch_size",
    "batch_tokens",
    "kv_cache_usage_ratio",
    "model_load_seconds",
    "weights_digest_info",
)


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5))
def test_never_more_inside_than_the_limit(arrivals: list[bool], limit: int) -> None:
    async def scenario() -> None:
        admission = Admission(limit=limit)
        places = []
        for arrives in arrivals:
            if arrives:
                place = admission.place()
                if admission.inside == limit:
                    with pytest.raises(ApiError) as caught:
                        place.__enter__()
                    assert caught.value.status == 429
                    assert caught.value.retry_after is not None
                    assert 1 <= caught.value.retry_after <= 60
                else:
                    place.__enter__()
                    places.append(place)
            elif places:
                places.pop().__exit__(None, None, None)
            assert admission.inside == len(places) <= limit

    asyncio.run(scenario())


def test_draining_waits_for_those_inside_and_refuses_others() -> None:
    async def scenario() -> None:
        admission = Admission(limit=2)
        with admission.place():
            assert not await admission.drain(seconds=0.01)
            with pytest.raises(ApiError) as caught, admission.place():
                pass
            assert (caught.value.status, caught.value.code) == (503, "draining")
        assert await admission.drain(seconds=0.01)

    asyncio.run(scenario())


def test_scopes_are_names_or_everything() -> None:
    assert Scopes.of({}) == Scopes.of({"x-modelkeep-models": "*", "x-modelkeep-tasks": " * "}) == Scopes(None, None)
    assert Scopes.of({"x-modelkeep-models": "a, b,"}).models == frozenset({"a", "b"})
    assert not Scopes.of({"x-modelkeep-models": ""}).allow_model("a")


def test_metrics_have_their_names_and_count_what_was_done(client: httpx.Client) -> None:
    url = str(client.base_url)
    labels = {"model_name": "tiny-gpt2", "task": "completions"}
    counted = ("prompt_tokens_total", "generation_tokens_total", "time_to_first_token_seconds_count")
    before = [metric(url, name, **labels) for name in counted]

    usage = client.post(
        "/v1/completions", json={"model": "tiny-gpt2", "prompt": "The quick", "max_tokens": 5, "temperature": 0}
    ).json()["usage"]
    client.post("/v1/completions", json={"model": "tiny-gpt2", "prompt": "a", "max_tokens": 5000})

    after = [metric(url, name, **labels) for name in counted]
    grown = [new - old for new, old in zip(after, before, strict=True)]
    assert grown == [usage["prompt_tokens"], usage["completion_tokens"], 1]
    assert metric(url, "request_success_total", **labels, finished_reason="length") > 0
    assert metric(url, "request_failure_total", **labels, code="context_length_exceeded") > 0
    text = client.get("/metrics").text
    for name in NAMES:
        assert f"\nmodelkeep_{name}" in text


def test_cloudwatch_lines_are_in_the_embedded_format() -> None:
    values = {"InFlightRequests": 3.0, "QueuedRequests": 0.0, "TokensPerSecond": 12.5, "ReadySeconds": 4.0}

    line = json.loads(json.dumps(metric_line(stack="prod", autoscaling_group="fleet", values=values, at=1000.5)))

    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert line["_aws"]["Timestamp"] == 1_000_500
    assert directive["Namespace"] == "modelkeep"
    assert directive["Dimensions"] == [["Stack", "AutoScalingGroupName"]]
    assert {metric["Name"]: metric["StorageResolution"] for metric in directive["Metrics"]} == dict.fromkeys(values, 10)
    assert (line["Stack"], line["AutoScalingGroupName"], line["TokensPerSecond"]) == ("prod", "fleet", 12.5)
