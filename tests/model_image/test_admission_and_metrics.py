"""Who is let in as whom, and what is measured under which name."""

import json
import time

import boto3
import httpx
import pytest

from model_image.batching.caller import Caller
from model_image.cloudwatch import metric_line
from model_image.metrics import Metrics
from model_image.scopes import Scopes, caller_of
from tests.model_image.server_process import metric

NAMES = (
    "num_requests_running",
    "num_requests_waiting",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_stage_seconds",
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


def test_scopes_are_names_or_everything() -> None:
    assert Scopes.of({}) == Scopes.of({"x-modelkeep-models": "*", "x-modelkeep-tasks": " * "}) == Scopes(None, None)
    assert Scopes.of({"x-modelkeep-models": "a, b,"}).models == frozenset({"a", "b"})
    assert not Scopes.of({"x-modelkeep-models": ""}).allow_model("a")


def test_a_caller_is_who_the_gateway_says() -> None:
    assert caller_of({}) == Caller("", background=False)
    assert caller_of({"x-modelkeep-consumer": "acme"}) == Caller("acme", background=False)
    assert caller_of({"x-modelkeep-consumer": "acme", "x-modelkeep-priority": "Background"}) == Caller("acme", True)
    assert not caller_of({"x-modelkeep-priority": "urgent"}).background


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
    assert {metric["Name"]: metric["StorageResolution"] for metric in directive["Metrics"]} == dict.fromkeys(values, 1)
    assert (line["Stack"], line["AutoScalingGroupName"], line["TokensPerSecond"]) == ("prod", "fleet", 12.5)
    assert {name: line[name] for name in values} == values
    units = {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}
    assert set(units) == set(values)
    allowed = boto3.client("cloudwatch", region_name="eu-west-1").meta.service_model.shape_for("StandardUnit").enum
    assert set(units.values()) <= set(allowed)


def test_every_stage_is_timed(client: httpx.Client) -> None:
    url = str(client.base_url)
    expected = {
        ("tiny-gpt2", "completions"): ("parse", "tokenise", "queue", "prefill", "decode", "write"),
        ("tiny-embed", "embeddings"): ("parse", "tokenise", "encode", "write"),
    }

    def counts() -> list[float]:
        return [
            metric(url, "request_stage_seconds_count", model_name=model, task=task, stage=stage)
            for (model, task), stages in expected.items()
            for stage in stages
        ]

    before = counts()
    body = {"model": "tiny-gpt2", "prompt": "The quick", "max_tokens": 5, "temperature": 0}
    assert client.post("/v1/completions", json=body).status_code == 200
    assert client.post("/v1/embeddings", json={"model": "tiny-embed", "input": "The quick"}).status_code == 200

    grown: list[float] = []
    while 0 in grown or not grown:  # what is counted last is counted just after the answer
        grown = [after - early for after, early in zip(counts(), before, strict=True)]
    assert grown == [1] * len(grown)


def test_a_step_of_several_choices_is_counted_once_for_each() -> None:
    metrics = Metrics()
    meter = metrics.meter(model="m", task="completions")

    meter.made([0, 1])
    meter.made([1])

    assert meter.generation_tokens == metrics.take_tokens_made() == 3
    assert metrics.take_tokens_made() == 0
    text = metrics.render().decode()
    assert 'modelkeep_generation_tokens_total{model_name="m",task="completions"} 3.0' in text
    assert 'modelkeep_inter_token_latency_seconds_count{model_name="m",task="completions"} 1.0' in text
    assert 'modelkeep_time_to_first_token_seconds_count{model_name="m",task="completions"} 1.0' in text


def test_tokens_that_come_together_share_the_time_since_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    meter = metrics.meter(model="m", task="completions", started=0.0)
    labels = {"model_name": "m", "task": "completions"}
    buckets = "modelkeep_inter_token_latency_seconds_bucket"

    for now, choices in ((10.0, [0, 0]), (12.0, [0, 0, 1, 0, 0])):  # steps that waited while a client was slow to read
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        assert meter.made(choices) == now

    assert metrics.registry.get_sample_value("modelkeep_inter_token_latency_seconds_count", labels) == 4
    assert metrics.registry.get_sample_value("modelkeep_inter_token_latency_seconds_sum", labels) == 2.0
    assert metrics.registry.get_sample_value(buckets, labels | {"le": "0.25"}) == 0
    assert metrics.registry.get_sample_value(buckets, labels | {"le": "0.5"}) == 4
    assert meter.generation_tokens == 7


def test_requests_wait_for_as_long_as_they_say() -> None:
    metrics = Metrics()
    waiting = {"a": True, "b": True}

    with metrics.queued(lambda: waiting["a"]):
        with metrics.queued(lambda: waiting["b"]):
            assert metrics.queued_requests == 2
            waiting["a"] = False
            assert metrics.queued_requests == 1
        assert metrics.queued_requests == 0
