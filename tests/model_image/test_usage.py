"""Usage records: one for each request that came to a model, whole, exact, and never in anybody's way."""

import asyncio
import io
import json
import threading
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from infra.usage_schema import COLUMNS
from model_image import cloudwatch
from model_image.admission import Admission, AdmissionLimits
from model_image.metrics import Metrics
from model_image.request_log import JsonLog
from model_image.usage import UsageRecords
from tests.model_image.in_process import BODY, MARKER, ONE_TOKEN, WHOLE, InProcess, run

PYTHON_TYPES = {"string": str, "timestamp": str, "int": int, "bigint": int, "double": float, "boolean": bool}


class Firehose:
    """Fails the first calls, as many as `fails`, then refuses one record of each of the next, as many as `refuses`."""

    def __init__(self, *, refuses: int = 0, fails: int = 0) -> None:
        self.lines: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.refuses = refuses
        self.fails = fails
        self.gate = threading.Event()
        self.gate.set()

    def put_record_batch(self, *, DeliveryStreamName: str, Records: list[dict[str, bytes]]) -> Any:  # noqa: N803
        assert DeliveryStreamName == "u"
        assert len(Records) <= 500
        self.gate.wait(timeout=30)
        self.batches.append(len(Records))
        if self.fails:
            self.fails -= 1
            if self.fails % 2:
                raise ConnectTimeoutError(endpoint_url="https://firehose")
            raise ClientError({"Error": {"Code": "ServiceUnavailableException"}}, "PutRecordBatch")
        answers: list[dict[str, str]] = [{"RecordId": "r"} for _ in Records]
        if self.refuses:
            self.refuses -= 1
            answers[len(Records) // 2] = {"ErrorCode": "ServiceUnavailableException"}
        for record, answer in zip(Records, answers, strict=True):
            if "RecordId" in answer:
                assert record["Data"].endswith(b"}\n")
                self.lines.append(json.loads(record["Data"]))
        return {"FailedPutCount": sum("ErrorCode" in each for each in answers), "RequestResponses": answers}


def records(firehose: Firehose, **named: Any) -> tuple[UsageRecords, Metrics]:
    metrics = Metrics()
    return UsageRecords(firehose, stream="u", metrics=metrics, log=JsonLog(io.StringIO()), **named), metrics


def lost(metrics: Metrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("modelkeep_usage_records_lost_total", {"reason": reason})


def test_a_record_has_the_tables_columns_in_order_and_of_their_types() -> None:
    firehose = Firehose()
    server = InProcess(WHOLE, firehose=firehose)

    async def talk(client: httpx.AsyncClient) -> None:
        for stream in (False, True):
            headers = {
                "x-modelkeep-consumer": "acme", "x-modelkeep-plan": "team", "x-modelkeep-request-id": f"id-{stream}"
            }  # fmt: skip
            await client.post("/v1/completions", json=BODY | {"stream": stream}, headers=headers)
        await client.post("/v1/completions", json=BODY | {"prompt": MARKER})
        await client.post("/v1/completions", json=BODY | {"model": "none"})  # came to no model
        await client.get("/v1/models")

    run(server, talk)
    assert server.usage is not None
    server.usage.close(seconds=30)
    assert [list(line) for line in firehose.lines] == [list(COLUMNS)] * 3
    for line in firehose.lines:
        for name, kind in COLUMNS.items():
            assert line[name] is None or type(line[name]) is PYTHON_TYPES[kind], (name, line[name])
    whole, streamed, failed = firehose.lines
    assert whole | {"time": "", "first_token_ms": 0, "latency_ms": 0} == {
        "time": "", "request_id": "id-False", "consumer": "acme", "plan": "team", "model": "m", "version": "1",
        "task": "completions", "status": 200, "code": None, "prompt_tokens": 1, "completion_tokens": 2,
        "first_token_ms": 0, "latency_ms": 0, "streamed": False,
    }  # fmt: skip
    assert (streamed["request_id"], streamed["streamed"]) == ("id-True", True)
    assert (failed["status"], failed["code"], failed["completion_tokens"]) == (500, "internal_error", 0)
    assert failed["first_token_ms"] is None
    assert MARKER not in json.dumps(firehose.lines)
    assert whole["time"][4] == "-"
    assert whole["time"][10] == " "
    assert len(whole["time"]) == len("2026-11-24 20:15:01.123")


def test_what_firehose_refuses_is_sent_again_until_all_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_image.usage._FIRST_PAUSE", 0.001)
    monkeypatch.setattr("model_image.usage._GATHER_SECONDS", 0.001)
    firehose = Firehose(refuses=5, fails=4)
    sending, metrics = records(firehose)
    for number in range(1200):
        sending.add({"number": number})
    sending.close(seconds=30)
    assert sorted(line["number"] for line in firehose.lines) == list(range(1200))
    assert metrics.registry.get_sample_value("modelkeep_usage_records_total") == 1200
    assert lost(metrics, "closed") is None


def test_beyond_the_bound_records_are_dropped_and_counted_and_nobody_waits() -> None:
    firehose = Firehose()
    firehose.gate.clear()
    sending, metrics = records(firehose, waiting=10)
    for number in range(1000):
        sending.add({"number": number})
    firehose.gate.set()
    sending.close(seconds=30)
    dropped = lost(metrics, "too_many")
    assert dropped is not None
    assert dropped >= 1000 - 10 - 500
    assert len(firehose.lines) + dropped == 1000


def test_what_cannot_be_sent_in_time_is_lost_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model_image.usage._FIRST_PAUSE", 0.01)
    firehose = Firehose(fails=10**6)
    sending, metrics = records(firehose)
    for number in range(7):
        sending.add({"number": number})
    sending.close(seconds=0.1)
    assert lost(metrics, "closed") == 7
    sending.add({"number": 8})
    assert lost(metrics, "too_many") == 1


def test_records_add_up_to_the_servers_own_counters() -> None:
    firehose = Firehose(refuses=3)
    server = InProcess(ONE_TOKEN, limit=64, tokens=10_000, timeout_seconds=0.3, firehose=firehose)

    async def talk(client: httpx.AsyncClient) -> None:
        bodies = [BODY | {"prompt": "abc"[: 1 + n % 3], "n": 1 + n % 4, "stream": n % 2 == 0} for n in range(40)]
        asked = [asyncio.create_task(client.post("/v1/completions", json=body)) for body in bodies]
        await server.loop.has_submitted(1)
        for task in asked[::5]:
            task.cancel()
        await asyncio.wait(asked)

    run(server, talk)
    assert server.usage is not None
    server.usage.close(seconds=30)
    labels = {"model_name": "m", "task": "completions"}
    for column, counter in (("prompt_tokens", "prompt_tokens"), ("completion_tokens", "generation_tokens")):
        counted = server.metrics.registry.get_sample_value(f"modelkeep_{counter}_total", labels)
        assert counted
        assert sum(line[column] for line in firehose.lines) == counted


def test_cloudwatch_is_told_of_what_failed_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudwatch, "PERIOD_SECONDS", 0.01)
    metrics, output = Metrics(), io.StringIO()

    async def talk() -> None:
        reporting = asyncio.create_task(
            cloudwatch.report(
                stack="s", autoscaling_group="g", metrics=metrics, log=JsonLog(output),
                admission=Admission(AdmissionLimits(requests=1, tokens=1)),
                ready_seconds=asyncio.get_running_loop().create_future(),
            )
        )  # fmt: skip
        await asyncio.sleep(0)  # it has begun
        metrics.budget_failures.labels("reserve", "closed").inc()
        metrics.usage_records_lost.labels("too_many").inc(3)
        await asyncio.sleep(0.2)
        reporting.cancel()

    asyncio.run(talk())
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    told = [(line["BudgetFailures"], line["UsageRecordsLost"]) for line in lines if "BudgetFailures" in line]
    assert told == [(1.0, 3.0)]
    assert len(lines) > 1
