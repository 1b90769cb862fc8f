"""`modelkeep local provider`: the local providers for the real Pulumi CLI."""

from __future__ import annotations

import time

import typer

from local.errors import LocalError
from local.layout import Layout
from local.plugin import PluginServers, packages
from local.plugin.backing import Backing, backing
from local.project import load_project
from ops.console import Reporter

CHECK_SECONDS = 0.5


def serve_provider(layout: Layout, *, stack: str, port: int, report: Reporter) -> None:
    """Serves the stack's packages until a signal ends it. Raises LocalError."""
    project = load_project(root=layout.root, stack=stack)
    region = project.config.get("aws:region")
    if not region:
        raise LocalError(f"aws:region is not set; add it to Pulumi.{stack}.yaml")
    with backing(layout, stack=stack, region=region) as behind:
        served = packages(client=behind.client, region=region, program=project.program)
        with PluginServers(served, program=project.program, port=port) as servers:
            _say(servers, behind, report)
            while True:
                time.sleep(CHECK_SECONDS)
                behind.check()


def _say(servers: PluginServers, behind: Backing, report: Reporter) -> None:
    if behind.is_own:
        report.line("emulators started, empty; what is deployed to them ends with this command")
    else:
        report.line(f"stack {behind.stack} is up: its emulators are used, with what it has deployed there already")
    report.line(f"logs in {behind.log_dir}")
    report.line("in another terminal:")
    typer.echo(f"PULUMI_DEBUG_PROVIDERS={servers.debug_providers} pulumi up --stack {behind.stack}")
