"""From one load to its figures."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

from bench.harness.loops import Run
from bench.harness.processes import Server
from bench.harness.results import Figures
from bench.harness.statistics import percentile

PROCESS = "process"


@dataclass(frozen=True)
class Measured:
    """One contender's figures of one round by scenario, and its answer to a request that all were asked."""

    figures: dict[str, Figures]
    sample: str | list[float]


def watched(server: Server, load: Callable[[], Run]) -> Figures:
    """The figures of a load, with the server's own processor time. Raises ServerError if the server died of it."""
    before = server.usage()
    run = load()
    server.check()
    for failure in sorted(set(run.failures)):
        print(f"    {run.failures.count(failure)} x {failure}", file=sys.stderr)
    return figures_of(run, server_cpu=server.usage().cpu_seconds - before.cpu_seconds)


def process_figures(server: Server) -> Figures:
    """Start and memory."""
    return {"first_answer_seconds": server.first_answer_seconds, "peak_mib": server.usage().peak_mib}


def figures_of(run: Run, *, server_cpu: float) -> Figures:
    """What is reported of one load; answers that are not whole count for nothing but `failures`."""
    tokens = sum(answer.tokens for answer in run.good)
    firsts = [answer.first_token for answer in run.good]
    gaps = [gap for answer in run.good for gap in answer.gaps]
    return {
        "tokens_per_second": tokens / run.seconds,
        "tokens_per_cpu_second": tokens / server_cpu if server_cpu else math.nan,
        "requests_per_second": len(run.good) / run.seconds,
        "requests_per_cpu_second": len(run.good) / server_cpu if server_cpu else math.nan,
        "first_token_p50": percentile(firsts, 0.5),
        "first_token_p99": percentile(firsts, 0.99),
        "inter_token_p99": percentile(gaps, 0.99),
        "seconds": run.seconds,
        "client_cpu_share": run.client_cpu / run.seconds,
        "requests": float(len(run.good)),
        "failures": float(len(run.failures)),
    }
