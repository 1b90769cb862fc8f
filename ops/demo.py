"""The whole story on one machine, in seven steps, with the time that each one took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from infra.settings import Settings
from local.stack import LocalStack
from ops import bring_up
from ops.console import Reporter
from ops.demo_calls import CALLS, Consumer, model_for
from ops.demo_guard import CHECKS, Guarded
from ops.errors import OpsError
from ops.job_models import target_of, trained_by_jobs
from ops.place import Place


@dataclass
class Story:
    """What has been told so far: seconds and result of every step, call and check."""

    report: Reporter
    rows: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def part(self, kind: str, title: str) -> Iterator[dict[str, Any]]:
        """Times a part; what it found goes into the row's `result`."""
        row: dict[str, Any] = {"kind": kind, "title": title, "seconds": 0.0, "result": ""}
        started = time.monotonic()
        yield row
        row["seconds"] = round(time.monotonic() - started, 2)
        self.rows.append(row)


def run_demo(*, place: Place, report: Reporter) -> dict[str, Any]:
    """Tells the story and returns its summary. Raises OpsError when the guard lets through what it must refuse."""
    story = Story(report=report)
    started = time.monotonic()
    settings = place.settings()
    with bring_up.open_stack(place) as stack:
        _make(stack, place, settings, story)
        _call(stack, settings, story)
        _guard(stack, settings, story)
        report.heading("Ending everything")
    seconds = round(time.monotonic() - started, 1)
    _show(story, seconds)
    return {"stack": place.stack, "seconds": seconds, "parts": story.rows}


def _make(stack: LocalStack, place: Place, settings: Settings, story: Story) -> None:
    report = story.report
    report.heading("1. Environment: emulators, and the Pulumi program deployed into them")
    with story.part("step", "environment") as row:
        deployment = bring_up.deploy(stack, report)
        bring_up.issue_tokens(stack, settings)
        row["result"] = f"{len(deployment.resources)} resources"
    report.heading("2. Data: pushed to the encrypted data bucket")
    with story.part("step", "data") as row:
        files = bring_up.push_data(stack, place, settings, report)
        row["result"] = f"{files} files"
    report.heading("3. Configuration: one file for each model")
    with story.part("step", "configuration") as row:
        descriptions = bring_up.describe_recipes(place, settings)
        for description in descriptions:
            report.line(description)
        row["result"] = f"{len(descriptions)} recipes"
    report.heading("4. Training: each configuration starts a job; what is unchanged is kept")
    with story.part("step", "training") as row:
        train = trained_by_jobs(target_of(stack), home=place.layout.home)
        directories = bring_up.build_models(place, settings, report, train=train)
        row["result"] = f"{len(directories)} artefacts"
    report.heading("5. Published: digests in a manifest, the manifest last")
    with story.part("step", "publishing") as row:
        bring_up.publish_models(stack, directories, report)
        row["result"] = f"s3://{stack.deployment.outputs['model_bucket']}"
    report.heading("6. Fleet: real server processes, ready when each model has answered once")
    with story.part("step", "fleet") as row:
        bring_up.launch(stack, report)
        row["result"] = f"{len(stack.fleet.instances())} instances"


def _call(stack: LocalStack, settings: Settings, story: Story) -> None:
    story.report.heading("7. Calls through the gateway, with the openai package")
    consumer = Consumer(
        api_url=stack.api_url,
        token=stack.tokens[next(iter(settings.plans))],
        say=lambda text: story.report.console.print(text, end="", markup=False, style="cyan", soft_wrap=True),
    )
    for call in CALLS:
        model = model_for(settings, call.task)
        story.report.line(f"{call.title} ({model})")
        with story.part("call", call.title) as row:
            row["result"] = call.make(consumer, model)


def _guard(stack: LocalStack, settings: Settings, story: Story) -> None:
    story.report.heading("What the guard refuses")
    api = Guarded(api_url=stack.api_url, tokens=stack.tokens, model=model_for(settings, "completions"))
    for check in CHECKS:
        with story.part("refusal", check.title) as row:
            answer = check.make(api)
            if answer != check.expected:
                raise OpsError(
                    f"{check.title}: the guard answered {answer.status} {answer.code}, it must answer "
                    f"{check.expected.status} {check.expected.code}"
                )
            row["result"] = f"{answer.status} {answer.code}"
        story.report.line(f"{check.title}: {row['result']}")


def _show(story: Story, seconds: float) -> None:
    table = Table(title=f"modelkeep demo: {seconds} s")
    for name in ("", "what", "result", "seconds"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for row in story.rows:
        table.add_row(row["kind"], row["title"], row["result"], f"{row['seconds']:.2f}")
    story.report.console.print(table)
    story.report.line("nothing of it runs any more; 'make up' leaves it running instead")
