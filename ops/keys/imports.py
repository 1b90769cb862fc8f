"""Consumers from a file: all are checked before any is made."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml

from lambdas.oidc import CONSUMER_PREFIX
from ops.errors import OpsError
from ops.key_summaries import Names
from ops.keys.consumers import create
from ops.keys.stack import Clients, Outputs, output, scan
from ops.keys.tokens import CreatedToken
from ops.keys.wanted import Wanted

FIELDS = ("name", "plan", "models", "tasks", "source_cidrs", "contact", "expires")
_NEEDED = ("name", "plan")
_SHOWN = 20  # problems told at once


def read_consumers(path: Path) -> list[Wanted]:
    """The consumers of a CSV file with a header, or of a YAML list; raises OpsError with a line for each problem.

    Fields are those of FIELDS; lists in a CSV file are separated by blanks. What is left out is `*`, every address,
    nobody, never.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OpsError(f"{path} cannot be read as text: {error}") from None
    if path.suffix == ".csv":
        rows = _csv_rows(path, text)
    elif path.suffix in (".yaml", ".yml"):
        rows = _yaml_rows(path, text)
    else:
        raise OpsError(f"{path} is neither .csv nor .yaml; write the consumers into one of them")
    if not rows:
        raise OpsError(f"{path} names no consumer; write one a row, with the fields {', '.join(FIELDS)}")
    found, problems = [], []
    for number, row in enumerate(rows, 1):
        try:
            found.append(_wanted(row))
        except ValueError as error:
            problems.append(f"{path}: consumer {number}: {error}")
    _refuse(problems)
    return found


def import_consumers(
    clients: Clients, outputs: Outputs, wanted: Sequence[Wanted], *, hand_out: Callable[[CreatedToken], None]
) -> int:
    """Make them all, and give each token away as soon as its consumer is made; returns how many those are.

    Raises OpsError: before anything is made for whatever can be known before, and with what was made already for a
    failure of AWS's on the way.
    """
    _check(clients, outputs, wanted)
    for number, each in enumerate(wanted):
        try:
            created = create(clients, outputs, each)
        except OpsError as error:
            made = ", ".join(before.name for before in wanted[:number]) or "none"
            raise OpsError(f"{error}; made before it: {made}. Take those out of the file and import the rest") from None
        hand_out(created)
    return len(wanted)


def _check(clients: Clients, outputs: Outputs, wanted: Sequence[Wanted]) -> None:
    names = [each.name for each in wanted]
    there = {item["id"]["S"] for item in scan(clients, table=output(outputs, "consumers_table"))}
    problems = [f"consumer {each.name}: {problem}" for each in wanted for problem in each.problems(outputs)]
    problems += [f"consumer {name} is there more than once; keep one" for name in sorted(_repeated(names))]
    problems += [f"consumer {name} exists already; take it out" for name in sorted(there & set(names))]
    problems += [
        f"consumer {name} would be one of those who sign in, which keys create --oidc makes; take it out"
        for name in names
        if name.startswith(CONSUMER_PREFIX)
    ]
    _refuse(problems)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise OpsError("\n".join([*problems[:_SHOWN], *more, "nothing was made"]))


def _repeated(names: Sequence[str]) -> set[str]:
    return {name for name in names if names.count(name) > 1}


def _csv_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    try:
        return list(csv.DictReader(text.splitlines(), restkey="more", strict=True))
    except csv.Error as error:
        raise OpsError(f"{path} is not CSV: {error}") from None


def _yaml_rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise OpsError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
        raise OpsError(f"{path} is no list of consumers; write one a list item, with the fields {', '.join(FIELDS)}")
    return content


def _wanted(row: Mapping[str, Any]) -> Wanted:
    """A row as a consumer; raises ValueError with what is wrong."""
    unknown = [str(each) for each in row if each not in FIELDS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no field; use {', '.join(FIELDS)}")
    given = {name: value for name, value in row.items() if value not in (None, "")}
    missing = [name for name in _NEEDED if not isinstance(given.get(name), str)]
    if missing:
        raise ValueError(f"{' and '.join(missing)} is missing; write it as text")
    contact = given.get("contact")
    if contact is not None and not isinstance(contact, str):
        raise ValueError(f"contact {contact!r} is no text; write an e-mail address")
    return Wanted(
        name=given["name"],
        plan=given["plan"],
        models=_names(given.get("models", "*"), what="models"),
        tasks=_names(given.get("tasks", "*"), what="tasks"),
        source_cidrs=tuple(_list(given.get("source_cidrs", []), what="source_cidrs")),
        contact=contact,
        expires=_moment(given.get("expires")),
    )


def _names(value: Any, *, what: str) -> Names:
    return "*" if value in ("*", ["*"]) else tuple(_list(value, what=what))


def _list(value: Any, *, what: str) -> Iterable[str]:
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ValueError(f"{what} {value!r} is no list of texts; write names separated by blanks, or a list")
    return found


def _moment(value: Any) -> datetime | None:
    """A day is its first moment in UTC."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError(f"expires {value!r} is no date; write one such as 2027-06-30") from None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    if not isinstance(moment, datetime):
        raise ValueError(f"expires {value!r} is no date; write one such as 2027-06-30")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
