"""What the commands about consumers are given: files of them, and lengths of time."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from ops import keys_command
from ops.errors import OpsError
from ops.keys import read_consumers
from ops.keys.imports import FIELDS
from tests.ops.emulated_keys import CSV, written

YAML = """\
- {name: alice, plan: demo, tasks: [chat, completions], source_cidrs: [203.0.113.0/24, "2001:db8::/32"],
   contact: alice@example.com, expires: 2999-01-31}
- {name: bob, plan: trickle, models: "*"}
"""


def read(directory: Path, text: str, *, name: str = "consumers.csv") -> Any:
    return read_consumers(written(directory, text, name=name))


def test_both_kinds_of_file_say_the_same(tmp_path: Path) -> None:
    from_csv = read(tmp_path, "\ufeff" + CSV)
    from_yaml = read(tmp_path, YAML, name="consumers.yaml")
    assert from_csv == from_yaml
    alice, bob = from_csv
    assert (alice.tasks, alice.models, alice.expires) == (
        ("chat", "completions"), "*", datetime(2999, 1, 31, tzinfo=UTC),
    )  # fmt: skip
    assert (bob.tasks, bob.source_cidrs, bob.contact, bob.expires) == ("*", (), None, None)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "name,plan\n", "names no consumer"),
        ("a.csv", "name,plan,colour\na,demo,red\n", "consumer 1: colour is no field; use name, plan"),
        ("a.csv", "name,plan\na,demo,red\n", "more is no field"),
        ("a.csv", "name\na\n", "plan is missing"),
        ("a.csv", "name,plan,expires\na,demo,soon\n", "expires 'soon' is no date"),
        ("a.csv", 'name,plan\n"a,demo\n', "is not CSV|plan is missing"),
        ("a.yaml", "a: [", "is not YAML"),
        ("a.yaml", "a: 1", "is no list of consumers"),
        ("a.yaml", "- 7", "is no list of consumers"),
        ("a.yaml", "- {name: 7, plan: demo}", "name is missing; write it as text"),
        ("a.yaml", "- {name: a, plan: demo, tasks: {chat: 1}}", "tasks .* is no list of texts"),
        ("a.yaml", "- {name: a, plan: demo, contact: 7}", "contact 7 is no text"),
        ("a.yaml", "- {name: a, plan: demo, expires: 7}", "expires 7 is no date"),
        ("a.txt", "alice", "neither .csv nor .yaml"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(OpsError, match=message):
        read(tmp_path, text, name=name)


@given(text=st.text(max_size=80) | st.lists(st.sampled_from([*FIELDS, ",", "\n", '"', "demo", "-"])).map("".join))
@settings(deadline=None)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    directory = tmp_path_factory.getbasetemp()
    for name in ("any.csv", "any.yaml"):
        try:
            assert read(directory, text, name=name)
        except OpsError as refusal:
            assert str(refusal)  # noqa: PT017 - it may also be read


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("90d", 7_776_000), ("30m", 1800), ("5s", 5), ("0", 0), ("0h", 0)]
)
def test_lengths_of_time(text: str, seconds: int) -> None:
    assert keys_command.duration(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "24", "-1h", "1w", "h", "1.5h", "9999999d"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no length of time; write one such as 24h"):
        keys_command.duration(text)
