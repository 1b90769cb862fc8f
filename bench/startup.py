"""
From start to ready: our server with GPT-2 124M against a process that only imports torch and reads the weights.

Both have one core and one thread and are started in turn, several times, with the files in memory. Writes
bench/results/startup.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import machine, models, report
from bench.harness.bars import Bar
from bench.harness.contenders import GENERATION, Contender
from bench.harness.paths import LOGS, RESULTS, ROOT
from bench.harness.processes import ONE_THREAD, free_port, serve
from bench.harness.results import Entrant, Results
from model_image.errors import Interrupted
from model_image.places import interruptible

CORE = 0
START_SECONDS = 120
READY, FLOOR = "ready", "import torch and read the weights"
_FLOOR_PROGRAM = """
import sys, pathlib, torch, safetensors.torch
weights = safetensors.torch.load(pathlib.Path(sys.argv[1]).read_bytes())
print(torch.__version__, len(weights))
"""


def floor(weights: Path) -> float:
    """Seconds of a process that imports torch and reads a file of weights."""
    command = ["taskset", "--cpu-list", str(CORE), sys.executable, "-c", _FLOOR_PROGRAM, str(weights)]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env={**os.environ, **ONE_THREAD})
    return time.monotonic() - began


def start(contender: Contender, directory: Path) -> dict[str, float]:
    """Seconds until the server says it is ready, and those of its own log: until it says so, and of loading."""
    port = free_port()
    launch = contender.launch(directory, port, CORE)
    with serve("startup", launch.command, port=port, core=CORE, environment=launch.environment) as server:
        found = {"seconds": server.wait_until_ready("/ready", seconds=START_SECONDS)}
    for line in (LOGS / "startup.log").read_text().splitlines():
        event = json.loads(line)
        if event["event"] in {"model_loaded", "ready"}:
            found[f"{event['event']}_seconds"] = event["seconds"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the time from start to ready; some minutes.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    with interruptible():
        directory = models.gpt2()
        weights = directory / "model.safetensors"
        floor(weights)  # brings the files into memory
        least = Entrant("floor", FLOOR, "none", "float32")
        entrants = [Entrant(each.name, each.label, each.batching, each.weights) for each in GENERATION[:2]]  # ours
        for number in range(options.rounds):
            print(f"round {number + 1}", file=sys.stderr)
            least.add(READY, {"seconds": floor(weights)})
            for contender, entrant in zip(GENERATION[:2], entrants, strict=True):
                entrant.add(READY, start(contender, directory))
    base = least.get(READY, "seconds")
    bars = [
        Bar(f"{each.label}: start to ready against importing torch and reading the weights", 1.5,
            each.get(READY, "seconds") / base, at_most=True)
        for each in entrants
    ]  # fmt: skip
    measures = ("seconds", "ready_seconds", "model_loaded_seconds")
    rows = [
        [each.label, *(report.number(each.get(READY, name), 2) for name in measures)] for each in (least, *entrants)
    ]
    head = ["process", "seconds", "of which by its log: until ready", "of which loading the model"]
    described = machine.describe()
    text = "\n\n".join(
        ["# Start to ready, GPT-2 124M", report.bars_table(bars), report.table(head, rows),
         report.facts_section("Machine", described)]
    )  # fmt: skip
    results = Results("startup", {each.name: each for each in (least, *entrants)})
    report.write(
        options.out, "startup", text, {"machine": described, "bars": report.verdicts(bars), "results": results}
    )


if __name__ == "__main__":
    try:
        main()
    except Interrupted as error:
        sys.exit(error.exit_code)
