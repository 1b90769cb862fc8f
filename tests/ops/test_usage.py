"""Sums of usage records: each record once, in the month that its request ended in, at the prices of its plan."""

import csv
import io
import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ops.cli import app
from ops.errors import OpsError
from ops.targets import Target
from ops.usage import COLUMNS, UsageReport, plan_prices, summarize, total
from ops.usage_month import Month
from ops.usage_page import to_html
from ops.usage_plot import nice_top, short
from ops.usage_records import Records, read_records
from tests.ops.usage_files import BUCKET, Bucket, record

NOVEMBER = Month.parse("2026-11")
PRICES = {"gold": (Decimal("0.5"), Decimal("1.5"))}


def records(bucket: Bucket, month: Month = NOVEMBER) -> Records:
    return read_records(bucket, bucket=BUCKET, month=month)


def report(bucket: Bucket, **options: Any) -> UsageReport:
    return summarize(records(bucket), prices=PRICES, **options)


@pytest.fixture
def bucket() -> Bucket:
    """Two days of two consumers; one record came twice, and one file has what came after midnight."""
    made = Bucket()
    twice = record(prompt_tokens=1_000_000, completion_tokens=0)
    made.add(
        "2026-11-24", [twice, record(consumer="bob", plan="free", status=429, prompt_tokens=0, completion_tokens=0)]
    )
    made.add("2026-11-24", [twice, record(model="bert", task="embeddings", completion_tokens=0)])
    made.add("2026-11-25", [record("2026-11-24 23:59:59.999", status=500), record("2026-11-25 00:00:00.000")])
    return made


def test_each_record_is_counted_once_under_the_day_that_its_request_ended_on(bucket: Bucket) -> None:
    rows = [
        (row.consumer, row.day[-2:], row.model, row.use.requests, row.use.failures, row.use.tokens)
        for row in report(bucket).rows
    ]
    assert rows == [
        ("alice", "24", "bert", 1, 0, 10),
        ("alice", "24", "gpt2", 2, 1, 1_000_015),
        ("alice", "25", "gpt2", 1, 0, 15),
        ("bob", "24", "gpt2", 1, 1, 0),
    ]


def test_the_price_is_exact_and_missing_where_a_plan_has_none(bucket: Bucket) -> None:
    found = report(bucket)
    alice, everybody = total(found.of("alice")), total(found.rows)
    assert alice.usd == (Decimal(1_000_030) * Decimal("0.5") + 10 * Decimal("1.5")) / 1_000_000
    assert alice.public()["usd"] == "0.500030"
    assert everybody.usd is None
    assert everybody.requests == 5


def test_one_consumer_alone(bucket: Bucket) -> None:
    assert report(bucket, consumer="bob").consumers == ["bob"]
    assert report(bucket, consumer="nobody").rows == ()


def test_the_months_ends_are_the_records_own(bucket: Bucket) -> None:
    made = Bucket()
    made.add("2026-10-31", [record("2026-10-31 23:59:59.999"), record("2026-11-01 00:00:00.000")])
    made.add("2026-12-01", [record("2026-11-30 23:59:59.999"), record("2026-12-01 00:00:00.000")])
    made.add("2026-12-02", [record("2026-11-30 12:00:00.000")])  # S3 did not answer for a day
    assert [row.day for row in report(made).rows] == ["2026-11-01", "2026-11-30"]
    assert total(report(made).rows).requests == 3


def test_an_empty_month_is_empty() -> None:
    found = report(Bucket())
    assert (found.rows, found.csv()) == ((), ",".join(COLUMNS) + "\n")
    assert total(found.rows).usd == 0


def test_csv_and_json_have_the_same_numbers(bucket: Bucket) -> None:
    found = report(bucket)
    lines = list(csv.DictReader(io.StringIO(found.csv())))
    assert [line["consumer"] for line in lines] == ["alice", "alice", "alice", "bob"]
    told = json.loads(json.dumps(found.public()))
    rows = [row | {"consumer": each["consumer"]} for each in told["consumers"] for row in each["rows"]]
    shown = [{name: "" if row[name] is None else str(row[name]) for name in COLUMNS} for row in rows]
    assert shown == lines
    assert told["total"]["requests"] == 5


def test_what_is_no_record_is_named() -> None:
    made = Bucket()
    made.objects["usage/day=2026-11-24/readme.txt"] = b"hello"
    with pytest.raises(OpsError, match=r"s3://results/usage/day=2026-11-24/readme\.txt is no file of usage records"):
        records(made)


def test_a_bucket_that_cannot_be_read_is_named() -> None:
    with pytest.raises(OpsError, match="s3://other cannot be read: S3 answered NoSuchBucket"):
        read_records(Bucket(), bucket="other", month=NOVEMBER)


def test_files_of_what_could_not_be_converted_are_counted_by_month(bucket: Bucket) -> None:
    for day in ("2026-11-24", "2026-10-31"):
        bucket.objects[f"usage-errors/format-conversion-failed/day={day}/stream"] = b"{}"
    assert records(bucket).unreadable == 1


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "november", "2026-11-24", ""])
def test_a_month_is_a_year_and_a_month(text: str) -> None:
    with pytest.raises(OpsError, match="write it like 2026-11"):
        Month.parse(text)


def test_a_month_knows_its_days_and_when_it_is_over() -> None:
    assert len(Month.parse("2028-02").days()) == 29
    assert Month.parse("2026-12").end == date(2027, 1, 1)
    assert not NOVEMBER.is_over(datetime(2026, 12, 1, 0, 10, tzinfo=UTC))
    assert NOVEMBER.is_over(datetime(2026, 12, 1, 1, 0, tzinfo=UTC))


def test_prices_come_from_the_stacks_outputs() -> None:
    outputs = {"plan_prices": {"gold": {"prompt": "0.15", "completion": "0.6"}}}
    target = Target(outputs=outputs, endpoints={}, environment={})
    assert plan_prices(target) == {"gold": (Decimal("0.15"), Decimal("0.6"))}
    with pytest.raises(OpsError, match="no output plan_prices"):
        plan_prices(Target(outputs={}, endpoints={}, environment={}))


class TestPage:
    def test_it_needs_nothing_else_and_fits_a_phone(self, bucket: Bucket, tmp_path: Path) -> None:
        page = to_html(report(bucket), stack="prod")
        assert '<meta name="viewport" content="width=device-width' in page
        for outside in ("<script", "http-equiv", "@import", "url(", "src="):
            assert outside not in page
        assert set(re.findall(r'(?:href|xmlns)="([^"]*)"', page)) == {"http://www.w3.org/2000/svg"}
        assert "max-width: 720px" in page

    def test_each_consumer_has_a_plot_of_every_day(self, bucket: Bucket) -> None:
        page = to_html(report(bucket), stack="prod")
        assert page.count("<svg") == 4  # two consumers, wide and narrow
        assert "2026-11-24: 1,000,020 prompt and 5 completion tokens, 1 failures" in page
        assert page.count('class="failed" cx=') == 4

    def test_names_are_text(self) -> None:
        made = Bucket()
        made.add("2026-11-24", [record(consumer="<b>x</b>", model="<i>m</i>")])
        page = to_html(report(made), stack="<s>")
        assert not re.search(r"<(b>x|i>m|s>)", page)

    def test_an_empty_month_has_a_page(self) -> None:
        assert "Nobody has used anything" in to_html(report(Bucket()), stack="prod")

    @given(most=st.integers(0, 10**15))
    def test_the_axis_is_round_and_not_much_above_the_highest_day(self, most: int) -> None:
        top = nice_top(most)
        assert most <= top <= max(4, 4 * most)
        assert top % 4 == 0
        assert float(short(top // 4).rstrip("kMG")) * {"k": 1e3, "M": 1e6, "G": 1e9}.get(
            short(top // 4)[-1], 1
        ) == pytest.approx(top // 4)


amounts = st.integers(0, 10**9)
uses = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("gold", "free")), st.integers(1, 30), amounts, amounts),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(uses=uses, copies=st.integers(1, 3))
def test_sums_are_those_of_the_records_however_often_each_is_delivered(
    uses: list[tuple[str, str, int, int, int]], copies: int
) -> None:
    made, all_records = Bucket(), []
    for index, (consumer, plan, day, prompt, completion) in enumerate(uses):
        all_records.append(
            record(
                f"2026-11-{day:02} 12:00:00.{index:03}",
                request_id=str(index),
                consumer=consumer,
                plan=plan,
                prompt_tokens=prompt,
                completion_tokens=completion,
            )
        )
    for _ in range(copies):
        made.add("2026-11-24", all_records)
    # Everything lies in one day's prefix here: which it is does not matter, only the time does.
    found = report(made)
    assert total(found.rows).requests == len(uses)
    assert total(found.rows).tokens == sum(prompt + completion for *_, prompt, completion in uses)
    for name in found.consumers:
        assert total(found.of(name)).requests == sum(each[0] == name for each in uses)


class TestCommand:
    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (["--month", "11/2026"], "month '11/2026' is none; write it like 2026-11"),
            (["--month", "2026-11", "--csv", "--json"], "standard output takes one form"),
            ([], "Missing option"),
        ],
    )
    def test_wrong_usage_ends_with_2_before_anything_is_asked(self, arguments: list[str], problem: str) -> None:
        done = CliRunner().invoke(app, ["keys", "usage", *arguments], env={"COLUMNS": "200"})
        assert done.exit_code == 2
        assert problem in done.stderr
