"""Measures one server that generates text: the scenarios, and the figures of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from bench.harness.client import Ask
from bench.harness.contenders import Contender
from bench.harness.loops import closed_loop, open_loop
from bench.harness.measuring import PROCESS, Measured, process_figures, watched
from bench.harness.processes import Server, client_core, free_port, pinned, serve
from bench.harness.results import Figures
from bench.harness.workload import Prompt, Prompts, poisson_arrivals

MIXED, OPEN = "mixed", "open loop"
MIXED_CLIENTS = 8
OPEN_SHARE = 0.8


@dataclass(frozen=True)
class Sizes:
    """
    How many requests each scenario has: `equal` by the number of clients.

    `sequential` are those of a server that answers one request after the other: how many there are does not change
    its rate, only the time it takes to measure.
    """

    equal: dict[int, int]
    mixed: int
    open: int
    sequential: Sizes | None = None


FULL = Sizes(
    {1: 4, 8: 16, 32: 64}, mixed=48, open=24, sequential=Sizes({1: 2, 8: 8, 32: 32}, mixed=16, open=8)
)  # fmt: skip
QUICK = Sizes(
    {1: 2, 8: 8, 32: 32}, mixed=24, open=0, sequential=Sizes({1: 2, 8: 8}, mixed=16, open=0)
)  # fmt: skip


def equal_name(clients: int) -> str:
    """The name of the scenario of equal lengths at so many clients."""
    return f"equal, {clients} client{'s' if clients > 1 else ''}"


@dataclass(frozen=True)
class Bench:
    """One model, its prompts and the sizes; `core` is the server's."""

    directory: Path
    prompts: Prompts
    sizes: Sizes
    core: int

    def measure(self, contender: Contender, *, round_number: int) -> Measured:
        """
        Starts the contender, measures all scenarios and stops it.

        Raises ServerError, UnavailableError, NotInstallableError, ConversionError.
        """
        port = free_port()
        launch = contender.launch(self.directory, port, self.core)
        with (
            serve(contender.name, launch.command, port=port, core=self.core, environment=launch.environment) as server,
            pinned(client_core(self.core)),
        ):
            first = self.prompts.equal(1, seed="first", tokens=8, new_tokens=1)
            server.wait_until_answers(self._asks(contender, first, streams=False)[0], seconds=contender.start_seconds)
            sample = self.prompts.equal(1, seed="sample", tokens=32, new_tokens=32)
            answer = server.ask(self._asks(contender, sample, streams=False)[0])
            figures = self._scenarios(contender, server, round_number)
            figures[PROCESS] = process_figures(server)
        return Measured(figures, orjson.loads(answer.body)["choices"][0]["text"])

    def _asks(self, contender: Contender, prompts: Sequence[Prompt], *, streams: bool) -> list[Ask]:
        return [contender.ask(self.directory, prompt, streams=streams) for prompt in prompts]

    def _scenarios(self, contender: Contender, server: Server, number: int) -> dict[str, Figures]:
        seed = f"round {number}"
        warm = self.prompts.mixed(8, seed="warm-up", high=16)
        closed_loop(server.port, self._asks(contender, warm, streams=True), clients=8)
        found: dict[str, Figures] = {}
        sizes = (self.sizes.sequential or self.sizes) if contender.batching == "none" else self.sizes
        for clients, count in sizes.equal.items():
            prompts = self.prompts.equal(count, seed=f"{clients} {seed}")
            asks = self._asks(contender, prompts, streams=False)
            found[equal_name(clients)] = watched(server, partial(closed_loop, server.port, asks, clients=clients))
        asks = self._asks(contender, self.prompts.mixed(sizes.mixed, seed=seed), streams=True)
        found[MIXED] = watched(server, partial(closed_loop, server.port, asks, clients=MIXED_CLIENTS))
        rate = OPEN_SHARE * found[MIXED]["requests_per_second"]
        if sizes.open and rate > 0:
            asks = self._asks(contender, self.prompts.mixed(sizes.open, seed=f"open {seed}"), streams=True)
            arrivals = poisson_arrivals(sizes.open, rate=rate, seed=seed)
            found[OPEN] = watched(server, partial(open_loop, server.port, asks, arrivals))
            found[OPEN]["offered_requests_per_second"] = rate
        return found
