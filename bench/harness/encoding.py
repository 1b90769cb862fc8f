"""Measures one server that classifies or embeds: closed loops of one text per request."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.harness.encoders import EncoderContender
from bench.harness.loops import closed_loop
from bench.harness.measuring import PROCESS, Measured, process_figures, watched
from bench.harness.processes import client_core, free_port, pinned, serve
from bench.harness.workload import Prompts

FULL = {1: 16, 16: 128, 64: 192}
QUICK = {1: 8, 16: 48, 64: 96}


def clients_name(clients: int) -> str:
    """The name of the scenario with so many clients."""
    return f"{clients} client{'s' if clients > 1 else ''}"


@dataclass(frozen=True)
class EncoderBench:
    """One model and its texts; `sizes` are requests by the number of clients."""

    directory: Path
    prompts: Prompts
    sizes: dict[int, int]
    core: int

    def measure(self, contender: EncoderContender, *, round_number: int) -> Measured:
        """Starts the contender, measures all scenarios and stops it; raises as `generation.Bench.measure`."""
        port = free_port()
        launch = contender.launch(self.directory, port, self.core)
        name = f"{self.directory.parent.name}-{contender.name}"
        with (
            serve(name, launch.command, port=port, core=self.core, environment=launch.environment) as server,
            pinned(client_core(self.core)),
        ):
            first = contender.ask(self.directory, self.prompts.equal(1, seed="first", tokens=32)[0])
            server.wait_until_answers(first, seconds=contender.start_seconds)
            sample = contender.numbers(server.ask(first))
            figures = {}
            for clients, count in self.sizes.items():
                texts = self.prompts.log_uniform(count, seed=f"{clients} round {round_number}", high=254)
                asks = [contender.ask(self.directory, text) for text in texts]
                figures[clients_name(clients)] = watched(server, partial(closed_loop, port, asks, clients=clients))
            figures[PROCESS] = process_figures(server)
        return Measured(figures, sample)
