"""The local engine: runs the stack's own Pulumi program in this process, as a preview or against the emulators.

One run at a time per process: the program's working directory, import path and Pulumi's settings are the process's own
while it runs. Pulumi keeps its settings in context variables, so a run in a copied context leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import runpy
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from pulumi.runtime import Settings, configure, set_all_config
from pulumi.runtime.stack import run_in_stack

from local.aliases import STACK
from local.calls import Caller
from local.errors import LocalError
from local.journal import Journal, recover
from local.monitor import EngineLog, Monitor
from local.project import Project, load_project
from local.records import Deployment, NotEmulated, Progress, ResourceRecord, plan_json, to_json
from local.run import Run
from local.state import load_state, write_state

__all__ = [
    "Deployment",
    "NotEmulated",
    "Progress",
    "ResourceRecord",
    "deployed",
    "plan",
    "plan_json",
    "preview",
    "to_json",
    "up",
]

THREADS = 16  # API calls at a time; Pulumi's own default is four per core and waits far longer on each
_one_run = threading.Lock()


class HasClient(Protocol):
    """The emulators, as far as a deployment needs them."""

    def client(self, service: str, /) -> Any:
        """A boto3 client of `service`."""


def preview(*, root: Path, stack: str, config_file: Path | None = None) -> Deployment:
    """What the program would make of `stack`, with unknowns; needs neither emulators nor credentials.

    Raises LocalError, or the program's own error where it refuses its settings.
    """
    project = load_project(root=root, stack=stack, config_file=config_file)
    return execute(Run(project=project, caller=None, on_progress=None))


def plan(
    *, root: Path, stack: str, emulators: HasClient, state_file: Path, config_file: Path | None = None
) -> Deployment:
    """What `up` would do to the stack that `state_file` tells of; its `steps` say it for every resource.

    Makes nothing; the emulators are asked by data sources alone. What is not known yet counts as changed.
    """
    project = load_project(root=root, stack=stack, config_file=config_file)
    state = recover(state_file.resolve())
    return execute(Run(project=project, caller=Caller(emulators.client), on_progress=None, state=state))


def up(
    *,
    root: Path,
    stack: str,
    emulators: HasClient,
    state_file: Path,
    config_file: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Deployment:
    """Make `stack` in the emulators what the program says, concurrently and in the order of dependence.

    What `state_file` has already stays, is changed in place, replaced or deleted. It is written whether or not this
    succeeds, so that another run goes on from there. After a first failure nothing more is done and LocalError names
    the resource, the API call and AWS's own message; `on_progress` is called from several threads.
    """
    project = load_project(root=root, stack=stack, config_file=config_file)
    state_file = state_file.resolve()
    state, journal = recover(state_file), Journal(state_file)
    run = Run(project=project, caller=Caller(emulators.client), on_progress=on_progress, state=state, journal=journal)
    try:
        return execute(run)
    finally:
        write_state(run.deployment(), state_file, state=run.existing())
        journal.close()


def deployed(*, stack: str, state_file: Path) -> Deployment:
    """The deployment that a state file tells of; raises LocalError when it cannot be read."""
    records = [record for record in load_state(state_file).resources if not record.delete_pending]
    own = next((record for record in records if record.type == STACK), None)
    return Deployment(
        stack=stack,
        resources=records,
        outputs={} if own is None else dict(own.outputs),
        not_emulated=[],
        secret_outputs=frozenset() if own is None else own.secret_outputs,
    )


def execute(run: Run) -> Deployment:
    """What came of running the program as `run` says; raises as `preview` and `up` do."""
    with _one_run, _surroundings(run.project), _without_collector():
        contextvars.copy_context().run(_run_program, run)
    return run.deployment()


def _run_program(run: Run) -> None:
    """Run the program to its end; raises the first failure of a resource, else the program's own error."""
    project = run.project
    set_all_config(dict(project.config), [])
    configure(
        Settings(
            project=project.name,
            stack=project.stack,
            monitor=Monitor(run),
            engine=EngineLog(),
            dry_run=run.is_preview,
            organization="organization",
            root_directory=str(project.root),
        )
    )
    try:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="engine"))
            # A failed registration fails every future that depends on it; the first failure is reported below.
            loop.set_exception_handler(lambda _loop, _context: None)
            runner.run(_main(run))
    except Exception as error:
        if run.failure is not None:
            raise run.failure from None
        raise _program_error(error, project=project) from error


async def _main(run: Run) -> None:
    own = asyncio.current_task()
    try:
        await run_in_stack(lambda: _program(run))
        run.finish()
    except Exception:
        # What an interruption keeps from being made fails, and would be told in its place.
        if own is not None and own.cancelling():
            raise asyncio.CancelledError from None
        raise
    finally:
        run.close()  # whatever comes next, a Ctrl-C too: nothing more is made


async def _program(run: Run) -> None:
    runpy.run_path(str(run.project.program), run_name="__main__")
    try:
        await _quiescence()
    except asyncio.CancelledError:
        run.close()  # before Pulumi waits for what is under way, which would go on to the end
        raise


async def _quiescence() -> None:
    """Wait for all that the program has set going, or for the first failure, which Pulumi itself then meets and tells.

    Pulumi would wait as well, but it asks every open output again whenever one is done: quadratic in their number, and
    half of the time of a preview of some hundred resources.
    """
    own = asyncio.current_task()
    while others := asyncio.all_tasks() - {own}:
        done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_EXCEPTION)
        if any(task.cancelled() or task.exception() is not None for task in done):
            return


def _program_error(error: Exception, *, project: Project) -> Exception:
    """An error class of the program's own says what it has to say; anything else is told in one line with its place."""
    if type(error).__module__.partition(".")[0] == project.program.name or isinstance(error, LocalError):
        return error
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(project.program):
            place = f" ({file.relative_to(project.root)}:{trace.tb_lineno})"
        trace = trace.tb_next
    text = " ".join(str(error).split())
    return LocalError(f"the program of stack {project.stack} failed: {type(error).__name__}: {text}{place}")


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside: nearly all that a run makes stays to its end, and looking through it all again and
    again is a third of a preview's time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def _surroundings(project: Project) -> Iterator[None]:
    """The working directory and import path that the Pulumi CLI gives a program, and no modules of another checkout."""
    package = project.program.name
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    foreign = {name: module for name, module in loaded.items() if not _lies_in(module, project.root)}
    path = list(sys.path)
    with contextlib.chdir(project.program):
        for name in foreign:
            del sys.modules[name]
        sys.path.insert(0, str(project.root))
        try:
            yield
        finally:
            sys.path[:] = path
            if foreign:
                for name in [name for name in sys.modules if name.partition(".")[0] == package]:
                    del sys.modules[name]
                sys.modules.update(loaded)


def _lies_in(module: Any, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or Path(file).resolve().is_relative_to(root)
