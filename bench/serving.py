"""
Measures the model server against others: same weights, same prompts, over HTTP, one computing thread each.

`python bench/serving.py --help` lists the options; bench/README.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import encoders, encoding, environments, generation, machine, models, plot, report
from bench.harness.bars import Bar, encoder_bars, generation_bars
from bench.harness.contenders import CHAT, GENERATION, Contender, UnavailableError
from bench.harness.conversions import ConversionError
from bench.harness.encoders import EncoderContender
from bench.harness.environments import NotInstallableError
from bench.harness.paths import RESULTS, SCRATCH
from bench.harness.processes import ServerError
from bench.harness.prompts import prompts_of
from bench.harness.results import Entrant, Results
from model_image.errors import Interrupted
from model_image.places import interruptible

PARTS = ("generation", "chat", "classification", "embeddings")
DEFAULT_PARTS = "generation,classification,embeddings"
NAMES = sorted({each.name for each in GENERATION} | {each.name for each in encoders.contenders("embeddings")})


@dataclass
class Outcome:
    """What has been measured so far."""

    results: list[Results] = field(default_factory=list)
    sections: list[Callable[[], str]] = field(default_factory=list)
    bars: list[Callable[[], list[Bar]]] = field(default_factory=list)

    def add(self, results: Results, section: Callable[[Results], str], bars: Callable[[Results], list[Bar]]) -> Results:
        """A part that is about to be measured; its tables are made at the end."""
        self.results.append(results)
        self.sections.append(lambda: section(results))
        self.bars.append(lambda: bars(results))
        return results


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures the model server against others; minutes to an hour.")
    parser.add_argument("--quick", action="store_true", help="one round of fewer requests, written to .bench/quick")
    parser.add_argument("--parts", metavar="PARTS", help=f"of {','.join(PARTS)} (default {DEFAULT_PARTS})")
    parser.add_argument("--only", metavar="NAMES", help=f"servers, of {','.join(NAMES)} (default all)")
    parser.add_argument("--rounds", type=int, help="how often all are measured in turn (default 2, quick 1)")
    parser.add_argument("--out", type=Path, help="where the report goes (default bench/results, quick .bench/quick)")
    parser.add_argument("--server-core", type=int, default=0, help="the servers' core; the client takes the other")
    options = parser.parse_args()
    options.parts = _chosen(
        parser, "--parts", options.parts or ("generation" if options.quick else DEFAULT_PARTS), PARTS
    )
    options.only = _chosen(parser, "--only", options.only or ",".join(NAMES), NAMES)
    options.rounds = options.rounds or (1 if options.quick else 2)
    options.out = options.out or (SCRATCH / "quick" if options.quick else RESULTS)
    return options


def _chosen(parser: argparse.ArgumentParser, name: str, given: str, known: Sequence[str]) -> list[str]:
    chosen = given.split(",")
    for each in chosen:
        if each not in known:
            parser.error(f"{name}: {each} is none of {','.join(known)}")
    return chosen


def measure(bench: Any, contenders: Sequence[Contender | EncoderContender], *, rounds: int, results: Results) -> None:
    """All contenders in turn, `rounds` times; what is known at any time is in `results`."""
    for contender in contenders:
        entrant = Entrant(contender.name, contender.label, contender.batching, contender.weights)
        results.entrants[contender.name] = entrant
    for number in range(rounds):
        for contender in contenders:
            entrant = results.entrants[contender.name]
            if entrant.reason:
                continue
            print(f"{results.title}, round {number + 1}: {contender.label}", file=sys.stderr)
            try:
                measured = bench.measure(contender, round_number=number)
            except NotInstallableError as error:
                entrant.reason = f"not installable here: {error}"
            except (UnavailableError, ServerError, ConversionError, TimeoutError) as error:
                entrant.reason = f"not measured: {error}"
            else:
                entrant.sample = entrant.sample or measured.sample
                for scenario, values in measured.figures.items():
                    entrant.add(scenario, values)
            _say(entrant)


def _say(entrant: Entrant) -> None:
    figures = []
    for scenario, rounds in entrant.scenarios.items():
        last = rounds[-1]
        if last.get("tokens_per_second"):
            figures.append(f"{scenario} {last['tokens_per_second']:.1f} tokens/s")
        elif "requests_per_second" in last:
            figures.append(f"{scenario} {last['requests_per_second']:.1f} requests/s")
    print("  " + (entrant.reason or "; ".join(figures)), file=sys.stderr)


def run(options: argparse.Namespace, outcome: Outcome) -> None:
    """Measures all parts that are wanted."""
    for part in options.parts:
        if part in {"generation", "chat"}:
            directory = models.gpt2() if part == "generation" else models.smollm2()
            sizes = generation.QUICK if options.quick else generation.FULL
            bench: Any = generation.Bench(directory, prompts_of(directory), sizes, options.server_core)
            contenders: Sequence[Any] = GENERATION if part == "generation" else CHAT
            title = "Generation, GPT-2 124M" if part == "generation" else "Generation, SmolLM2-135M (Llama)"
            bars = generation_bars if part == "generation" else (lambda _results: [])
            results = outcome.add(Results(title), report.generation_section, bars)
        else:
            directory = models.bert() if part == "classification" else models.fetched("minilm-l6")
            encoder_sizes = encoding.QUICK if options.quick else encoding.FULL
            bench = encoding.EncoderBench(directory, prompts_of(directory), encoder_sizes, options.server_core)
            contenders = encoders.contenders(part)
            title = "Classification, BERT-base" if part == "classification" else "Embeddings, MiniLM-L6"
            results = outcome.add(Results(title), report.encoder_section, partial(encoder_bars, what=part))
        wanted = [each for each in contenders if each.name in options.only]
        measure(bench, wanted, rounds=options.rounds, results=results)


def write(out: Path, outcome: Outcome) -> None:
    """The report as Markdown, JSON and a plot."""
    described, peers = machine.describe(), environments.described()
    when = datetime.now(UTC).date().isoformat()
    bars = [bar for part in outcome.bars for bar in part()]
    text = "\n\n".join(
        [
            f"# Serving, measured on {when}",
            *([report.bars_table(bars)] if bars else []),
            *(section() for section in outcome.sections),
            report.client_line(outcome.results),
            report.facts_section("Machine", described),
            report.facts_section("Versions of the others", peers),
        ]
    )
    value = {"date": when, "machine": described, "peers": peers, "bars": report.verdicts(bars)}
    report.write(out, "serving", text, {**value, "results": outcome.results})
    plot.draw(outcome.results, out / "serving.svg")


def main() -> None:
    options = arguments()
    outcome = Outcome()
    stopped: Interrupted | None = None
    with interruptible():
        try:
            run(options, outcome)
        except Interrupted as error:
            stopped = error
    write(options.out if stopped is None else SCRATCH / "stopped", outcome)
    if stopped is not None:
        sys.exit(stopped.exit_code)


if __name__ == "__main__":
    main()
