"""
What HTTP costs: the same texts with mixed lengths over HTTP, and straight through the engine in a process without it.

Both have one core and one computing thread, in turn, several times. Writes bench/results/offline.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine, models, report
from bench.harness.bars import Bar
from bench.harness.contenders import GENERATION, Contender, Launch
from bench.harness.generation import MIXED_CLIENTS
from bench.harness.loops import closed_loop
from bench.harness.measuring import watched
from bench.harness.paths import RESULTS, ROOT
from bench.harness.processes import ONE_THREAD, client_core, free_port, pinned, serve
from bench.harness.prompts import prompts_of
from bench.harness.results import Entrant, Figures, Results
from bench.harness.workload import Prompt
from model_image.errors import Interrupted
from model_image.places import interruptible

CORE = 0
CHILD_SECONDS = 900
OFFLINE, HTTP = "offline", "over HTTP"


def offline(launch: Launch, prompts: list[Prompt]) -> Figures:
    """Tokens per second of the engine alone. Raises CalledProcessError."""
    work = {"clients": MIXED_CLIENTS, "texts": [[list(prompt.ids), prompt.new_tokens] for prompt in prompts]}
    done = subprocess.run(
        ["taskset", "--cpu-list", str(CORE), sys.executable, "-m", "bench.harness.offline_child"],
        input=json.dumps(work), capture_output=True, text=True, cwd=ROOT, timeout=CHILD_SECONDS, check=True,
        env={**os.environ, **ONE_THREAD, **launch.environment, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "tokens_per_second": found["tokens"] / found["seconds"],
        "tokens_per_cpu_second": found["tokens"] / found["cpu_seconds"],
    }


def over_http(contender: Contender, directory: Path, launch: Launch, port: int, prompts: list[Prompt]) -> Figures:
    """The same with a server and streaming clients."""
    asks = [contender.ask(directory, prompt, streams=True) for prompt in prompts]
    with (
        serve("offline-http", launch.command, port=port, core=CORE, environment=launch.environment) as server,
        pinned(client_core(CORE)),
    ):
        server.wait_until_answers(asks[0], seconds=contender.start_seconds)
        closed_loop(port, asks[:8], clients=8)
        return watched(server, partial(closed_loop, port, asks, clients=MIXED_CLIENTS))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what HTTP costs; some minutes.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    bars = []
    entrants = []
    with interruptible():
        directory = models.gpt2()
        prompts = prompts_of(directory).mixed(options.requests, seed="offline")
        for contender in GENERATION[:2]:  # ours
            entrant = Entrant(contender.name, contender.label, contender.batching, contender.weights)
            entrants.append(entrant)
            for number in range(options.rounds):
                print(f"{contender.label}, round {number + 1}", file=sys.stderr)
                port = free_port()
                launch = contender.launch(directory, port, CORE)
                entrant.add(OFFLINE, offline(launch, prompts))
                entrant.add(HTTP, over_http(contender, directory, launch, port, prompts))
            speed, by_cpu = (
                entrant.get(HTTP, measure) / entrant.get(OFFLINE, measure)
                for measure in ("tokens_per_second", "tokens_per_cpu_second")
            )
            bars.append(
                Bar(f"{contender.weights}: tokens/s over HTTP against the engine alone", 0.9, speed, by_cpu=by_cpu)
            )
    rows = [
        [each.label, *(report.number(each.get(scenario, measure), 1) for scenario in (OFFLINE, HTTP)
         for measure in ("tokens_per_second", "tokens_per_cpu_second"))]
        for each in entrants
    ]  # fmt: skip
    head = ["server", *(f"{scenario}, tokens per {unit}" for scenario in (OFFLINE, HTTP) for unit in ("s", "CPU s"))]
    described = machine.describe()
    text = "\n\n".join(
        ["# What HTTP costs: mixed lengths, 8 at a time, GPT-2 124M", report.bars_table(bars),
         report.table(head, rows), report.facts_section("Machine", described)]
    )  # fmt: skip
    results = Results("offline", {each.name: each for each in entrants})
    report.write(
        options.out, "offline", text, {"machine": described, "bars": report.verdicts(bars), "results": results}
    )


if __name__ == "__main__":
    try:
        main()
    except Interrupted as error:
        sys.exit(error.exit_code)
