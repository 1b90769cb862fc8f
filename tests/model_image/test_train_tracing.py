"""Spans of a training: its phases in one trace, what came of it, and none of its data's words."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from model_image import train
from model_image.errors import ConfigError, GateError
from model_image.train.datasets import write_dataset
from model_image.train.tracing import VARIABLE
from tests.model_image.test_tracing import collector

WORD = "xylophone"


def arguments(tmp_path: Path, **changes: Any) -> list[str]:
    rows = [{"text": f"the {WORD} number {number} plays a tune"} for number in range(60)]
    write_dataset(
        tmp_path / "data" / "texts", splits={"train": rows[10:], "heldout": rows[:10]}, source="test", licence="MIT"
    )
    config = {
        "kind": "train", "name": "tiny", "version": "1", "task": "causal-lm", "tasks": ["completions"],
        "licence": "MIT", "architecture": {"layers": 1, "width": 16, "heads": 2},
        "data": {"datasets": [{"name": "texts"}]}, "tokenizer": {"vocabulary": 280, "max_tokens": 16},
        "optimisation": {"batch": 4, "learning_rate": 0.001, "warmup_steps": 1},
        "budget": {"steps": 2}, "threads": 1, **changes,
    }  # fmt: skip
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    return ["--config", str(file), "--out", str(tmp_path / "out"), "--data", str(tmp_path / "data")]


def test_a_training_is_one_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector() as (url, spans):
        monkeypatch.setenv(VARIABLE, url)
        assert train.main(arguments(tmp_path)) == 0

    by_name = {span.name: span for span in spans}
    assert set(by_name) == {"train", "prepare", "optimise", "evaluate"}
    whole = by_name.pop("train")
    assert all(span.parent_span_id == whole.span_id for span in by_name.values())
    found = {each.key: each.value for each in whole.attributes}
    assert found["modelkeep.model"].string_value == "tiny"
    assert found["modelkeep.steps"].double_value == 2
    assert WORD not in str(spans)


def test_a_failure_tells_its_kind_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    impossible = {"gate": [{"metric": "heldout_bits_per_byte", "at_most": 0.001}]}
    with collector() as (url, spans):
        monkeypatch.setenv(VARIABLE, url)
        with pytest.raises(GateError):
            train.main(arguments(tmp_path, evaluation=impossible))

    failed = {span.name: span for span in spans if span.status.code == Status.STATUS_CODE_ERROR}
    assert set(failed) == {"train", "evaluate"}
    assert {each.key: each.value.string_value for each in failed["evaluate"].attributes} == {"error.type": "GateError"}
    assert not any(span.status.message or span.events for span in spans)


def test_what_is_no_collector_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "collector:4318")
    with pytest.raises(ConfigError, match=r"MODELKEEP_OTLP_ENDPOINT is 'collector:4318'"):
        train.main(arguments(tmp_path))
