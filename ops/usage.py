"""What consumers used in a month, by day and model, and what it costs at the prices of their plans."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ops.errors import OpsError
from ops.targets import Target
from ops.usage_month import Month
from ops.usage_records import Records

Prices = Mapping[str, tuple[Decimal, Decimal]]
"""Dollars per million prompt and completion tokens, by plan."""

_MILLION = Decimal(1_000_000)
_SIX_DIGITS = Decimal("0.000001")
_FAILED = 400  # the lowest status of a request that failed
COLUMNS = ("day", "consumer", "plan", "model", "requests", "failures", "prompt_tokens", "completion_tokens", "usd")


@dataclass(frozen=True)
class Use:
    """Sums over requests; `usd` is exact, and None where some of them were on a plan without prices."""

    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    usd: Decimal | None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def public(self) -> dict[str, Any]:
        """For JSON; money is text, lest it be rounded to a float."""
        return {
            "requests": self.requests,
            "failures": self.failures,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "usd": None if self.usd is None else dollars(self.usd),
        }


@dataclass(frozen=True)
class Row:
    """The use of one consumer on one plan, of one model on one day."""

    day: str
    consumer: str
    plan: str
    model: str
    use: Use

    def public(self) -> dict[str, Any]:
        """For JSON."""
        return {"day": self.day, "plan": self.plan, "model": self.model, **self.use.public()}


@dataclass(frozen=True)
class UsageReport:
    """A month's rows by consumer, day and model; `unreadable` are files of records that are in no row."""

    month: Month
    rows: tuple[Row, ...]
    unreadable: int

    @property
    def consumers(self) -> list[str]:
        """Who used anything, by name."""
        return sorted({row.consumer for row in self.rows})

    def of(self, consumer: str) -> list[Row]:
        """The rows of one consumer."""
        return [row for row in self.rows if row.consumer == consumer]

    def public(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "month": str(self.month),
            "total": total(self.rows).public(),
            "unreadable_files": self.unreadable,
            "consumers": [
                {
                    "consumer": name,
                    **total(self.of(name)).public(),
                    "rows": [row.public() for row in self.of(name)],
                }
                for name in self.consumers
            ],
        }

    def csv(self) -> str:
        """One line for each row, below the names of the columns."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.rows:
            use = row.use.public()
            values = {"day": row.day, "consumer": row.consumer, "plan": row.plan, "model": row.model, **use}
            writer.writerow([values[name] for name in COLUMNS])
        return text.getvalue()

    def lines(self) -> Iterator[str]:
        """By consumer, plan and model for a terminal: requests, failures, prompt and completion tokens, dollars."""
        for key in sorted({(row.consumer, row.plan, row.model) for row in self.rows}):
            use = total(row for row in self.rows if (row.consumer, row.plan, row.model) == key)
            yield "\t".join((*key, *(str("-" if value is None else value) for value in use.public().values())))


def summarize(records: Records, *, prices: Prices, consumer: str | None = None) -> UsageReport:
    """Sum a month's records up, those of one consumer if one is named."""
    table = records.table
    if consumer is not None:
        table = table.filter(pc.equal(table["consumer"], consumer))
    table = _with_day_and_failure(table)
    sums = table.group_by(["consumer", "day", "plan", "model"]).aggregate(
        [("request_id", "count"), ("failed", "sum"), ("prompt_tokens", "sum"), ("completion_tokens", "sum")]
    )
    rows = [_row(each, prices=prices) for each in sums.to_pylist()]
    rows.sort(key=lambda row: (row.consumer, row.day, row.plan, row.model))
    return UsageReport(month=records.month, rows=tuple(rows), unreadable=records.unreadable)


def total(rows: Iterable[Row]) -> Use:
    """The sum of rows."""
    uses = [row.use for row in rows]
    amounts = [use.usd for use in uses if use.usd is not None]
    return Use(
        requests=sum(use.requests for use in uses),
        failures=sum(use.failures for use in uses),
        prompt_tokens=sum(use.prompt_tokens for use in uses),
        completion_tokens=sum(use.completion_tokens for use in uses),
        usd=sum(amounts, Decimal(0)) if len(amounts) == len(uses) else None,
    )


def plan_prices(target: Target) -> Prices:
    """The prices that the stack's settings give its plans; raises OpsError for a stack of an older program."""
    found = target.outputs.get("plan_prices")
    if not isinstance(found, Mapping):
        raise OpsError("the stack has no output plan_prices; deploy it with this version of the program first")
    return {plan: (Decimal(each["prompt"]), Decimal(each["completion"])) for plan, each in found.items()}


def dollars(usd: Decimal) -> str:
    """An amount with six digits behind the point."""
    return f"{usd.quantize(_SIX_DIGITS):f}"


def _with_day_and_failure(table: pa.Table) -> pa.Table:
    texts = {name: pc.fill_null(table[name], "") for name in ("consumer", "plan", "model")}
    for name, values in texts.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    days = pc.cast(pc.cast(table["time"], pa.date32()), pa.string())
    failed = pc.cast(pc.greater_equal(table["status"], _FAILED), pa.int64())
    return table.append_column("day", days).append_column("failed", failed)


def _row(sums: Mapping[str, Any], *, prices: Prices) -> Row:
    prompt, completion = int(sums["prompt_tokens_sum"] or 0), int(sums["completion_tokens_sum"] or 0)
    price = prices.get(sums["plan"])
    return Row(
        day=sums["day"],
        consumer=sums["consumer"],
        plan=sums["plan"],
        model=sums["model"],
        use=Use(
            requests=sums["request_id_count"],
            failures=int(sums["failed_sum"] or 0),
            prompt_tokens=prompt,
            completion_tokens=completion,
            usd=None if price is None else (prompt * price[0] + completion * price[1]) / _MILLION,
        ),
    )
