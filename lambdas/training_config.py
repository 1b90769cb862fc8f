"""How many machines a training configuration asks for, read without a YAML library, which Lambda's runtime lacks.

Of the whole file one key counts here, `distribution`. It is read in the forms that people write it in, and whatever
else it may be in YAML (an alias, a quoted key, a list over several lines) is refused: a number that was misread would
be paid for. Everything else in the file is for the job to check.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lambdas.errors import TrainingError

KEY = "distribution"
_ENTRY = re.compile(r"(?P<key>[a-z_]+):[ ]+(?P<value>[A-Za-z0-9_.-]+)[ ]*")
_COMMENT = re.compile(r"[ ]+#.*")
_NUMBER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True)
class Distribution:
    """Machines, and processes on each: one for each GPU."""

    nodes: int = 1
    processes_per_node: int = 1


def read_distribution(text: str) -> Distribution:
    """What a configuration (YAML) says of its machines; raises TrainingError where that cannot be told for sure."""
    lines = text.removeprefix("\ufeff").splitlines()
    named = [number for number, line in enumerate(lines) if KEY in line and not line.lstrip(" ").startswith("#")]
    if not named:
        return Distribution()
    first = named[0]
    if len(named) > 1 or re.fullmatch(rf"{KEY}:([ ].*)?", lines[first]) is None:
        raise _unclear(lines[named[-1]])
    rest = _without_comment(lines[first].removeprefix(f"{KEY}:"))
    entries = list(_flow(rest) if rest else _block(lines[first + 1 :]))
    found: dict[str, int] = {}
    for line, key, value in entries:
        if key not in ("nodes", "processes_per_node"):
            continue
        if key in found or _NUMBER.fullmatch(value) is None:
            raise _unclear(line)
        found[key] = int(value)
    return Distribution(**found)


def _flow(text: str) -> Iterator[tuple[str, str, str]]:
    """The entries of `{nodes: 2, sharding: full}`."""
    if not (text.startswith("{") and text.endswith("}")):
        raise _unclear(text)
    inner = text[1:-1].strip(" ")
    for part in inner.split(",") if inner else []:
        yield _entry(part.strip(" "))


def _block(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    """The entries of the lines below the key, up to the next key of the file; each is indented like the first."""
    indent = None
    for line in lines:
        content = _without_comment(line)
        if not content:
            continue
        if not line.startswith(" "):
            break
        depth = len(line) - len(line.lstrip(" "))
        if indent not in (None, depth):
            raise _unclear(line)
        indent = depth
        yield _entry(content)
    if indent is None:
        raise TrainingError(f"{KEY} is empty; write it like distribution: {{nodes: 2}}, or remove it")


def _entry(text: str) -> tuple[str, str, str]:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise _unclear(text)
    return text, match["key"], match["value"]


def _without_comment(text: str) -> str:
    """The text without blanks around it and the comment behind it; nothing where it is a comment as a whole."""
    return "" if text.lstrip(" ").startswith("#") else _COMMENT.sub("", text).strip(" ")


def _unclear(line: str) -> TrainingError:
    return TrainingError(
        f"{KEY} is not understood in the line {line.strip()[:80]!r}; write it once, like distribution: "
        "{nodes: 2, processes_per_node: 8}, with plain numbers, and name it nowhere else"
    )
