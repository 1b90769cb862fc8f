"""Tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.harness import encoding
from bench.harness.bars import Bar
from bench.harness.encoding import clients_name
from bench.harness.generation import MIXED, OPEN, equal_name
from bench.harness.measuring import PROCESS
from bench.harness.results import Entrant, Results, dump

Column = tuple[str, Callable[[Entrant], str]]


def number(value: float, digits: int = 0, scale: float = 1.0) -> str:
    """A figure, or a dash where there is none."""
    return "-" if math.isnan(value) else f"{value * scale:.{digits}f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _measure(scenario: str, name: str, *, digits: int = 0, scale: float = 1.0) -> Callable[[Entrant], str]:
    return lambda entrant: number(entrant.get(scenario, name), digits, scale)


def _rate(scenario: str, measure: str = "requests_per_second") -> Callable[[Entrant], str]:
    """The median, and half the distance between the rounds that lie farthest apart."""

    def cell(entrant: Entrant) -> str:
        value, apart = entrant.get(scenario, measure), entrant.spread(scenario, measure)
        return number(value, 1) + (f" ±{apart * 50:.0f}%" if apart > 0 else "")

    return cell


def _speed(scenario: str) -> Callable[[Entrant], str]:
    return _rate(scenario, "tokens_per_second")


GENERATION_SPEED: tuple[Column, ...] = (
    *((equal_name(clients), _speed(equal_name(clients))) for clients in (1, 8, 32)),
    ("mixed, 8 streams", _speed(MIXED)),
    ("mixed, per CPU second", _measure(MIXED, "tokens_per_cpu_second", digits=1)),
    ("peak MiB", _measure(PROCESS, "peak_mib")),
    ("first answer s", _measure(PROCESS, "first_answer_seconds", digits=1)),
)


def _latency(scenario: str) -> tuple[Column, ...]:
    return (
        ("requests/s", _measure(scenario, "requests_per_second", digits=2)),
        ("first token p50 ms", _measure(scenario, "first_token_p50", scale=1e3)),
        ("first token p99 ms", _measure(scenario, "first_token_p99", scale=1e3)),
        ("inter-token p99 ms", _measure(scenario, "inter_token_p99", scale=1e3)),
        ("failed", _measure(scenario, "failures")),
    )


def _agreement(results: Results) -> Column:
    word = {True: "yes", False: "no", None: "-"}
    return "same answer", lambda entrant: word[results.agreement(entrant.name)]


def entrants_table(results: Results, columns: Sequence[Column]) -> str:
    """One row per contender; those that did not take part say why."""
    rows = []
    for entrant in results.entrants.values():
        if entrant.reason and not entrant.scenarios:
            rows.append([entrant.label, entrant.reason, *[""] * (len(columns) - 1)])
        else:
            note = f" ({entrant.reason})" if entrant.reason else ""
            rows.append([entrant.label + note, *(cell(entrant) for _, cell in columns)])
    return table(["server", *(head for head, _ in columns)], rows)


def bars_table(bars: Sequence[Bar]) -> str:
    """The bars, what was measured, and whether they hold."""
    verdict = {True: "yes", False: "**no**", None: "not measured"}
    rows = [
        [bar.text + (f" ({bar.against})" if bar.against else ""), f"{'≤' if bar.at_most else '≥'} {bar.bar:g}",
         number(bar.measured, 2), verdict[bar.holds], number(bar.by_cpu, 2)]
        for bar in bars
    ]  # fmt: skip
    return table(["ratio", "bar", "measured", "holds", "by CPU time"], rows)


def verdicts(bars: Sequence[Bar]) -> list[dict[str, object]]:
    """The bars as JSON values."""
    return [{**vars(bar), "holds": bar.holds} for bar in bars]


def write(out: Path, name: str, text: str, value: object) -> None:
    """A report as `name`.md and `name`.json, and on standard output."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text + "\n")
    dump(out / f"{name}.json", value)
    print(text)


def generation_section(results: Results) -> str:
    """The tables of one model's generation."""
    parts = [
        f"## {results.title}",
        "Tokens per second:",
        entrants_table(results, (*GENERATION_SPEED, _agreement(results))),
    ]
    parts += ["Mixed lengths, 8 clients that stream:", entrants_table(results, _latency(MIXED))]
    if any(OPEN in entrant.scenarios for entrant in results.entrants.values()):
        parts += ["Open loop at 80 % of the rate above:", entrants_table(results, _latency(OPEN))]
    return "\n\n".join(parts)


def encoder_section(results: Results) -> str:
    """The tables of one encoder: requests per second and latency."""
    columns: list[Column] = []
    names = [clients_name(clients) for clients in encoding.FULL]
    columns += [(f"{name}, requests/s", _rate(name)) for name in names]
    columns += [(f"{name}, p50 ms", _measure(name, "first_token_p50", scale=1e3)) for name in names[1:]]
    columns += [(f"{name}, p99 ms", _measure(name, "first_token_p99", scale=1e3)) for name in names[1:]]
    columns += [
        (f"{names[1]}, per CPU second", _measure(names[1], "requests_per_cpu_second", digits=1)),
        ("peak MiB", _measure(PROCESS, "peak_mib")),
        ("first answer s", _measure(PROCESS, "first_answer_seconds", digits=1)),
        _agreement(results),
    ]
    return f"## {results.title}\n\n{entrants_table(results, columns)}"


def client_line(all_results: Sequence[Results]) -> str:
    """How busy the load client was at most: a client near 100 % would measure itself."""
    shares = [
        figures["client_cpu_share"]
        for results in all_results
        for entrant in results.entrants.values()
        for rounds in entrant.scenarios.values()
        for figures in rounds
        if "client_cpu_share" in figures
    ]
    return f"The load client used at most {max(shares, default=0):.1%} of its core in any of these loads."


def facts_section(title: str, facts: dict[str, str]) -> str:
    """A list of facts under a heading."""
    return "\n".join([f"## {title}", "", *(f"- {key}: {value}" for key, value in facts.items())])
