"""What this machine has of what a deployment needs: the Pulumi CLI, its plugins, and a builder of images."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ops.environment.answers import Answer, Unknown
from ops.environment.finding import Finding, Level, not_known

INSTALL_PULUMI = "install the Pulumi CLI as https://www.pulumi.com/docs/install says"
_PLUGINS = {"pulumi-aws": "aws", "pulumi-docker-build": "docker-build", "pulumi-tls": "tls"}
_SDK = "pulumi"
_SECONDS = 30


@dataclass(frozen=True)
class Tools:
    """What was found: `cli` is the CLI's version, `sdks` and `plugins` are versions by name; None is not there.

    `plugins` holds every version of each resource plugin.
    """

    cli: Answer[str | None]
    plugins: Answer[Mapping[str, frozenset[str]]]
    sdks: Mapping[str, str | None]
    buildx: str | None
    docker_engine: bool
    buildah: bool


def look() -> Tools:
    """Ask the programs on PATH and the installed packages."""
    cli = shutil.which("pulumi")
    return Tools(
        cli=None if cli is None else _output(cli, "version"),
        plugins={} if cli is None else _plugins(_output(cli, "plugin", "ls", "--json")),
        sdks={name: _installed(name) for name in (_SDK, *_PLUGINS)},
        buildx=_said("docker", "buildx", "version"),
        docker_engine=_said("docker", "info") is not None,
        buildah=shutil.which("buildah") is not None,
    )


def machine_findings(tools: Tools, *, builds_image: bool) -> Iterator[Finding]:
    """`builds_image`: whether `pulumi up` has to build the container image."""
    yield cli_finding(tools.cli, sdk=tools.sdks[_SDK])
    for package, plugin in _PLUGINS.items():
        yield plugin_finding(plugin, sdk=tools.sdks[package], package=package, plugins=tools.plugins)
    if builds_image:
        yield builder_finding(tools)
    else:
        yield Finding("image builder", Level.OK, "fleet.image names a ready image: none is built")


def cli_finding(cli: Answer[str | None], *, sdk: str | None) -> Finding:
    """The CLI has to be of the SDK's major version, and is best not older than it."""
    if sdk is None:
        fact = "the Pulumi SDK is not installed beside this command"
        return Finding("pulumi", Level.FAILURE, fact, "pip install -e '.[infra]'")
    if cli is None:
        return Finding("pulumi", Level.FAILURE, "the Pulumi CLI is not on PATH", INSTALL_PULUMI)
    if isinstance(cli, Unknown) or not _numbers(cli):
        reason = cli if isinstance(cli, Unknown) else Unknown(f"'pulumi version' says {cli!r}")
        return not_known("pulumi", "version of the CLI", reason)
    found, wanted = _numbers(cli), _numbers(sdk)
    fact = f"CLI {cli.removeprefix('v')}, SDK {sdk}"
    if found[:1] != wanted[:1]:
        return Finding("pulumi", Level.FAILURE, f"{fact}: of different major versions", INSTALL_PULUMI)
    if found < wanted:
        return Finding("pulumi", Level.WARNING, f"{fact}: the CLI is older", INSTALL_PULUMI)
    return Finding("pulumi", Level.OK, fact)


def plugin_finding(
    plugin: str, *, sdk: str | None, package: str, plugins: Answer[Mapping[str, frozenset[str]]]
) -> Finding:
    """The CLI runs the plugin of exactly the SDK's version, and downloads it where it is not there."""
    if sdk is None:
        fact = f"{package} is not installed beside this command"
        return Finding("plugins", Level.FAILURE, fact, "pip install -e '.[infra]'")
    if isinstance(plugins, Unknown):
        return not_known("plugins", f"plugin {plugin}", plugins)
    there = plugins.get(plugin, frozenset())
    if sdk in there:
        return Finding("plugins", Level.OK, f"plugin {plugin} {sdk}")
    others = f"; there is {', '.join(sorted(there))}" if there else ""
    fact = f"plugin {plugin} {sdk} of {package} is not there{others}: 'pulumi up' downloads it"
    return Finding("plugins", Level.WARNING, fact, f"pulumi plugin install resource {plugin} {sdk}")


def builder_finding(tools: Tools) -> Finding:
    """`pulumi up` builds with BuildKit, by Docker's buildx; buildah serves `make image` alone."""
    if tools.buildx is not None and tools.docker_engine:
        return Finding("image builder", Level.OK, f"{tools.buildx}, and a Docker engine that answers")
    if tools.buildx is not None:
        fact = f"{tools.buildx}, and no Docker engine answers"
        return Finding("image builder", Level.WARNING, fact, "start the engine, or use a remote builder of buildx")
    if tools.buildah:
        fact = "there is buildah and no Docker buildx, which 'pulumi up' builds the image with"
        remedy = (
            "build with 'make image', push it to ECR, and name it by digest as fleet.image; or install Docker buildx"
        )
        return Finding("image builder", Level.FAILURE, fact, remedy)
    remedy = "install Docker with buildx, or name a ready image by digest as fleet.image"
    return Finding("image builder", Level.FAILURE, "there is no Docker buildx, which builds the image", remedy)


def _plugins(answer: Answer[str]) -> Answer[Mapping[str, frozenset[str]]]:
    if isinstance(answer, Unknown):
        return answer
    try:
        listed = json.loads(answer)
        resources = [each for each in listed if each["kind"] == "resource"]
        names = {each["name"] for each in resources}
        return {
            name: frozenset(str(each.get("version")) for each in resources if each["name"] == name) for name in names
        }
    except (ValueError, TypeError, KeyError):
        return Unknown("'pulumi plugin ls --json' answers in another form than this command knows")


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(*command: str) -> Answer[str]:
    done = _run(command)
    if done is None or done.returncode != 0:
        return Unknown(f"'pulumi {' '.join(command[1:])}' failed")
    return done.stdout.strip()


def _said(*command: str) -> str | None:
    """The first line of what a program says, or None where it is not there or fails."""
    done = _run(command)
    return (done.stdout.splitlines() or [""])[0].strip() if done is not None and done.returncode == 0 else None


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version such as v3.272.0; empty where it has none."""
    match = re.match(r"v?(\d+(?:\.\d+)*)", version)
    return tuple(int(each) for each in match[1].split(".")) if match else ()
