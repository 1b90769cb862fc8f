"""
Ten minutes at 120 % of what the server can do: memory must stay flat, and every request must get an answer.

Completions, chat and embeddings, with clients that go away in mid-stream. Writes bench/results/soak.md and .json, and
ends with 1 if a request was lost or hung, if memory grew, or if the server did not end well.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine, models, report
from bench.harness.client import Ask, json_body
from bench.harness.contenders import ours
from bench.harness.loops import closed_loop
from bench.harness.paths import RESULTS
from bench.harness.processes import Server, ServerError, client_core, free_port, get_text, pinned, serve
from bench.harness.prompts import prompts_of
from bench.harness.results import Figures
from bench.harness.soaking import Soak, soak
from bench.harness.statistics import percentile
from bench.harness.workload import Prompts
from model_image.errors import Interrupted
from model_image.places import interruptible

CORE = 0
OVERLOAD = 1.2
CAPACITY_CLIENTS, CAPACITY_REQUESTS = 48, 336
MOST_GROWTH = 0.03  # between the middle and the end
_KINDS = {"completions": 45, "chat": 20, "embeddings": 25, "leaving": 10}  # of a hundred requests


class Work:
    """Requests without end, of all kinds, from a seed."""

    def __init__(self, texts: Prompts, chats: Prompts, sentences: Prompts, *, seed: str) -> None:
        self._texts = texts
        self._chats = chats
        self._sentences = sentences
        self._rng = random.Random(f"soak work {seed}")

    def __iter__(self) -> Iterator[Ask]:
        while True:
            kind = self._rng.choices(list(_KINDS), list(_KINDS.values()))[0]
            yield getattr(self, f"_{kind}")()

    def _completions(self, *, leave_after: int | None = None) -> Ask:
        prompt = self._texts.cut(self._rng.randint(8, 96), self._rng.randint(8, 96), self._rng)
        streams = leave_after is not None or self._rng.random() < 0.7
        body = {"model": models.GPT2, "prompt": list(prompt.ids), "max_tokens": prompt.new_tokens, "temperature": 0}
        return _generating("/v1/completions", body, streams, prompt.new_tokens, leave_after)

    def _leaving(self) -> Ask:
        return self._completions(leave_after=self._rng.randint(1, 6))

    def _chat(self) -> Ask:
        prompt = self._chats.cut(self._rng.randint(8, 64), self._rng.randint(8, 48), self._rng)
        messages = [{"role": "user", "content": prompt.text}]
        body = {"model": models.SMOLLM2, "messages": messages, "max_tokens": prompt.new_tokens, "temperature": 0}
        return _generating("/v1/chat/completions", body, self._rng.random() < 0.5, prompt.new_tokens, None)

    def _embeddings(self) -> Ask:
        text = self._sentences.cut(self._rng.randint(8, 120), 0, self._rng).text
        return Ask("/v1/embeddings", json_body({"model": "minilm-l6", "input": text}), streams=False)


def _generating(path: str, body: dict[str, object], streams: bool, tokens: int, leave_after: int | None) -> Ask:
    if streams:
        body = {**body, "stream": True, "stream_options": {"include_usage": True}}
    return Ask(path, json_body(body), streams, tokens=tokens, leave_after=leave_after)


def capacity(port: int, work: Work) -> float:
    """Requests per second that the server answers when there are always enough; it also warms the server up."""
    run = closed_loop(port, list(islice(work, CAPACITY_REQUESTS)), clients=CAPACITY_CLIENTS)
    if run.failures:
        raise SystemExit(f"{len(run.failures)} requests failed while nothing was overloaded: {run.failures[0]}")
    return run.steady_rate(CAPACITY_CLIENTS)


def left_inside(server: Server) -> float:
    """Requests that the server's own metrics say are running or waiting."""
    total = 0.0
    for line in get_text(server.port, "/metrics").splitlines():
        if line.startswith(("modelkeep_num_requests_running", "modelkeep_num_requests_waiting")):
            total += float(line.rpartition(" ")[2])
    return total


def figures_of(found: Soak, *, rate: float, left: float, exit_code: int | None) -> Figures:
    """The numbers of the report."""
    middle, end = found.memory_between(0.45, 0.55), found.memory_between(0.9, 1)
    names = ("answered", "refused", "left", "lost", "hanging")
    return {
        **{name: float(found.outcomes[name]) for name in names},
        "seconds": found.seconds,
        "capacity_requests_per_second": rate / OVERLOAD,
        "offered_requests_per_second": rate,
        "first_token_p50": percentile(found.first_tokens, 0.5),
        "first_token_p99": percentile(found.first_tokens, 0.99),
        "memory_start_mib": found.memory_between(0, 0.05),
        "memory_middle_mib": middle,
        "memory_end_mib": end,
        "memory_growth": end / middle - 1,
        "left_inside": left,
        "exit_code": float("nan") if exit_code is None else float(exit_code),
        "client_cpu_share": found.client_cpu / found.seconds,
    }


def problems(figures: Figures) -> list[str]:
    """What does not hold, in words."""
    found = []
    if figures["lost"] or figures["hanging"]:
        found.append(f"{figures['lost']:.0f} requests were lost and {figures['hanging']:.0f} hung")
    if figures["memory_growth"] > MOST_GROWTH:
        found.append(f"memory grew by {figures['memory_growth']:.1%} between the middle and the end")
    if figures["left_inside"]:
        found.append(f"{figures['left_inside']:.0f} requests are still inside after the end")
    if figures["exit_code"] != 0:
        found.append("the server did not end with 0 when it was told to stop")
    if not figures["refused"]:
        found.append("nothing was refused: this was no overload")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Soaks the server at 120 %% of its capacity.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--weights", choices=("float32", "int8"), default="float32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with interruptible():
        directories = [models.gpt2(), models.smollm2(), models.fetched("minilm-l6")]
        work = Work(*(prompts_of(directory) for directory in directories), seed="0")
        port = free_port()
        launch = ours(directories, port, weights=options.weights)
        with (
            serve("soak", launch.command, port=port, core=CORE, environment=launch.environment) as server,
            pinned(client_core(CORE)),
        ):
            server.wait_until_ready("/ready", seconds=180)
            rate = OVERLOAD * capacity(port, work)
            print(f"{rate:.1f} requests/s for {options.seconds:.0f} s", file=sys.stderr)
            found = soak(
                port, iter(work), rate=rate, seconds=options.seconds, resident_mib=server.resident_mib, seed="0"
            )
            server.check()
            left = left_inside(server)
            exit_code = server.stop()
    figures = figures_of(found, rate=rate, left=left, exit_code=exit_code)
    wrong = problems(figures)
    described = machine.describe()
    rows = [[name.replace("_", " "), report.number(value, 0 if value > 100 else 3)] for name, value in figures.items()]
    verdict = "Everything holds." if not wrong else "Does not hold: " + "; ".join(wrong) + "."
    reasons = {reason: str(count) for reason, count in found.reasons.items()}
    text = "\n\n".join(
        [f"# Soak at {OVERLOAD:.0%} of capacity, weights {options.weights}", verdict,
         report.table(["figure", "value"], rows),
         *([report.facts_section("Lost", reasons)] if reasons else []), report.facts_section("Machine", described)]
    )  # fmt: skip
    report.write(
        options.out, "soak", text,
        {"machine": described, "figures": figures, "problems": wrong, "reasons": reasons,
         "memory_mib": [[round(at), round(mib)] for at, mib in found.memory[::5]], "mix": json.dumps(_KINDS)},
    )  # fmt: skip
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    try:
        main()
    except ServerError as error:
        sys.exit(f"the server {error}")
    except Interrupted as error:
        sys.exit(error.exit_code)
