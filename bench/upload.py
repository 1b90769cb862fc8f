"""
Uploads: `modelkeep data push` against `aws s3 sync`, to one emulated bucket: 10,000 small files, and one of 2 GB.

Both run as whole commands, in turn, and each starts with nothing at its destination. Writes bench/results/upload.md
and .json. The files end in .bin: rows of text, which only the push reads through, are measured apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.harness import environments, machine, report
from bench.harness.bars import Bar
from bench.harness.paths import RESULTS, ROOT, SCRATCH
from bench.harness.results import Entrant, Results
from local.emulators import Emulators
from model_image.errors import Interrupted
from model_image.places import interruptible

AWSCLI = environments.Environment("awscli", (("awscli>=1.44,<2",),), ("awscli",))
SMALL, LARGE, ROWS = "small files", "one large file", "small files of rows, read through and scanned"
SMALL_BYTES, BLOCK = 2048, 1 << 20
COMMAND_SECONDS = 1800


@dataclass(frozen=True)
class Place:
    """An emulated bucket and how a child process reaches it."""

    client: Any
    bucket: str
    environment: dict[str, str]


def make_files(directory: Path, *, small: int, large_mb: int) -> dict[str, Path]:
    """What is uploaded, by scenario."""
    luck = random.Random(7)
    folders = {name: directory / name.split(",")[0].replace(" ", "-") for name in (SMALL, LARGE, ROWS)}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for number in range(small):
        (folders[SMALL] / f"{number:05d}.bin").write_bytes(luck.randbytes(SMALL_BYTES))
        line = " ".join(luck.choice(("river", "stone", "call 2026", "over", "the hill")) for _ in range(200))
        (folders[ROWS] / f"{number:05d}.txt").write_text(line + "\n")
    with (folders[LARGE] / "large.bin").open("wb") as file:
        for _ in range(large_mb):
            file.write(luck.randbytes(BLOCK))
    return folders


def bucket_of(emulators: Emulators) -> Place:
    client, bucket = emulators.client("s3"), f"upload-{uuid.uuid4()}"
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": emulators.region})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    client.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    environment = {**os.environ, **emulators.environment()}
    return Place(client=client, bucket=bucket, environment=environment)


def timed(command: Sequence[str], place: Place, *, files: int, size: int) -> dict[str, float]:
    """Seconds of one upload to an empty prefix; what arrived is counted, then taken away."""
    prefix = uuid.uuid4().hex
    began, before = time.monotonic(), os.times()
    subprocess.run(
        [part.replace("DESTINATION", f"s3://{place.bucket}/{prefix}") for part in command],
        env={**place.environment, "MODELKEEP_HOME": str(SCRATCH / "upload-home")},
        check=True, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=COMMAND_SECONDS,
    )  # fmt: skip
    seconds, after = time.monotonic() - began, os.times()
    pages = place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=f"{prefix}/")
    there = [each for page in pages for each in page.get("Contents", [])]
    assert (len(there), sum(each["Size"] for each in there)) == (files, size), f"{len(there)} objects arrived"
    for each in there:
        place.client.delete_object(Bucket=place.bucket, Key=each["Key"])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": seconds, "cpu_seconds": cpu, "mb_per_second": size / 1e6 / seconds}


def measure(options: argparse.Namespace, python: Path) -> list[Entrant]:
    ours = Entrant("ours", "modelkeep data push", "", "")
    theirs = Entrant("awscli", "aws s3 sync", "", "")
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        folders = make_files(Path(scratch) / "files", small=options.files, large_mb=options.large_mb)
        with Emulators(region="eu-west-1", log_dir=Path(scratch) / "log") as emulators:
            place = bucket_of(emulators)
            for number in range(options.rounds):
                for scenario, folder in folders.items():
                    sizes = [path.stat().st_size for path in folder.iterdir()]
                    push = [str(Path(sys.executable).parent / "modelkeep"), "data", "push", str(folder), "DESTINATION"]
                    sync = [str(python.parent / "aws"), "s3", "sync", str(folder), "DESTINATION", "--only-show-errors"]
                    for entrant, command in ((ours, push), (theirs, sync))[:: 1 if number % 2 else -1]:
                        print(f"round {number + 1}: {scenario}: {entrant.label}", file=sys.stderr)
                        entrant.add(scenario, timed(command, place, files=len(sizes), size=sum(sizes)))
    return [ours, theirs]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures uploads against the AWS CLI; some minutes.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--large-mb", type=int, default=2048)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    SCRATCH.mkdir(exist_ok=True)
    with interruptible():
        python = environments.ensure(AWSCLI)
        entrants = measure(options, python)
    results = Results("upload", {each.name: each for each in entrants})
    bars = [
        Bar(f"{scenario}: seconds against aws s3 sync", 1.3,
            entrants[0].get(scenario, "seconds") / entrants[1].get(scenario, "seconds"), at_most=True)
        for scenario in (SMALL, LARGE)
    ]  # fmt: skip
    head = ["command", *(f"{scenario}: seconds (CPU)" for scenario in (SMALL, LARGE, ROWS))]

    def shown(entrant: Entrant, scenario: str) -> str:
        seconds, cpu = (report.number(entrant.get(scenario, name), 1) for name in ("seconds", "cpu_seconds"))
        return f"{seconds} ({cpu})"

    rows = [[each.label, *(shown(each, scenario) for scenario in (SMALL, LARGE, ROWS))] for each in entrants]
    described = machine.describe()
    described["awscli"] = json.dumps(AWSCLI.versions())
    text = "\n\n".join(
        [
            f"# Uploads: {options.files:,} files of {SMALL_BYTES} bytes, and one of {options.large_mb} MiB",
            report.bars_table(bars),
            report.table(head, rows),
            report.facts_section("Machine", described),
        ]
    )
    report.write(options.out, "upload", text, {"machine": described, "bars": report.verdicts(bars), "results": results})


if __name__ == "__main__":
    try:
        main()
    except Interrupted as error:
        sys.exit(error.exit_code)
