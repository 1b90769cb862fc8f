"""Where the two sides of a review come from: git revisions, checkouts, and files of previews."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.review.graph import Graph, from_local, read_file
from infra.review.model import ReviewError, WrongInputError

WORKING_TREE = "."


@dataclass(frozen=True)
class Side:
    """One side as it was found: its graph, what to call it, and where its sources lie while the review is made."""

    label: str
    graph: Graph
    sources: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tree:
    label: str
    path: Path


@contextlib.contextmanager
def both_sides(*, base: str | None, head: str, root: Path, stack: str | None) -> Iterator[tuple[Side, Side]]:
    """The two sides; the trees of revisions exist outside the checkout until the block ends, however it ends.

    `root` is the checkout. Raises WrongInputError where a side is none of what it can be, ReviewError where its program
    cannot be run.
    """
    with contextlib.ExitStack() as trees:
        places = [None if given is None else _place(given, root=root, trees=trees) for given in (base, head)]
        files = [read_file(place) if isinstance(place, Path) else None for place in places]
        ahead = files[1]
        if base is None and (ahead is None or ahead[0] is None):
            raise WrongInputError(f"{head} is one side only; name what to compare it with by --base")
        plain = any(file is not None for file in files)  # a file's values are compared with unknowns, not references
        revisions = [place for place in places if isinstance(place, _Tree)]
        found = _previewed(revisions, stack=_stack_of(revisions, stack), root=root, plain=plain)
        # A file of `pulumi preview` compared with itself is judged by what it says is in place.
        in_place = ahead[0] if ahead is not None and base in (None, head) else None
        if in_place is not None:
            before = Side(label=f"{head}, in place", graph=in_place, sources=root)
        else:
            before = _side(base or head, files[0], places[0], found, root=root)
        yield before, _side(head, files[1], places[1], found, root=root)


def _previewed(revisions: Sequence[_Tree], *, stack: str, root: Path, plain: bool) -> dict[str, Side]:
    """The sides that are revisions, by label; their programs run at the same time."""
    found = {tree.label: _without_stack(tree, stack) for tree in revisions if not _has_stack(tree, stack)}
    runs: list[tuple[_Tree, subprocess.Popen[str]]] = []
    try:
        for tree in revisions:
            if tree.label not in found:
                runs.append((tree, _start(tree, root=root, stack=stack, plain=plain)))  # noqa: PERF401  (each is ended)
        return found | {tree.label: _finish(tree, process, stack=stack) for tree, process in runs}
    finally:
        for _, process in runs:
            if process.poll() is None:
                process.kill()
            process.wait()


def _stack_of(revisions: Sequence[_Tree], stack: str | None) -> str:
    """The stack to preview; raises WrongInputError where none is given, or the newer revision has no such one."""
    if not revisions:
        return stack or ""
    newest = revisions[-1]
    if stack is None:
        raise WrongInputError(f"{newest.label} has several stacks; name one by --stack: {_stacks(newest.path)}")
    if not _has_stack(newest, stack):
        raise WrongInputError(f"stack {stack} is not in {newest.label}; stacks there are: {_stacks(newest.path)}")
    return stack


def _has_stack(tree: _Tree, stack: str) -> bool:
    return (tree.path / f"Pulumi.{stack}.yaml").is_file()


def _stacks(root: Path) -> str:
    names = sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in root.glob("Pulumi.*.yaml"))
    return ", ".join(names) or "none"


def _without_stack(tree: _Tree, stack: str) -> Side:
    """The side of a revision in which the stack did not exist yet."""
    note = f"{tree.label} has no stack {stack}: everything is new"
    empty = Graph(stack=stack, kind="references", resources={})
    return Side(label=tree.label, graph=empty, sources=tree.path, notes=(note,))


def _place(given: str, *, root: Path, trees: contextlib.ExitStack) -> _Tree | Path:
    path = Path(given)
    if given != WORKING_TREE and path.is_file():
        return path
    directory = root if given == WORKING_TREE else path
    if directory.is_dir() and (directory / "Pulumi.yaml").is_file():
        return _Tree(label="the working tree" if directory.samefile(root) else given, path=directory.resolve())
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{given}^{{commit}}")
    if commit is None:
        raise WrongInputError(
            f"{given} is neither a file, nor a checkout, nor a git revision of {root.name}; "
            "`git log --oneline` lists revisions"
        )
    return _Tree(label=given, path=trees.enter_context(_tree_of(commit, root=root)))


@contextlib.contextmanager
def _tree_of(commit: str, *, root: Path) -> Iterator[Path]:
    """The files of a commit in a temporary directory; the repository itself is only read."""
    prefix = _git(root, "rev-parse", "--show-prefix") or ""
    with tempfile.TemporaryDirectory(prefix="modelkeep-review-") as directory:
        packed = Path(directory) / ".tar"
        command = ["git", "-C", str(root), "archive", "--format=tar", f"--output={packed}", f"{commit}:{prefix}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ReviewError(f"the files of {commit[:12]} cannot be read: {done.stderr.strip()}")
        with tarfile.open(packed) as content:
            content.extractall(directory, filter="data")
        packed.unlink()
        yield Path(directory)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None where it says no."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ReviewError("git is not installed; install it, or give files of previews") from error
    return done.stdout.strip() if done.returncode == 0 else None


def _start(tree: _Tree, *, root: Path, stack: str, plain: bool) -> subprocess.Popen[str]:
    """The program of a revision in a process of its own, run by this checkout's engine."""
    command = [sys.executable, "-m", "ops.review_preview", str(tree.path), stack, *(["--unknowns"] if plain else [])]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(tree: _Tree, process: subprocess.Popen[str], *, stack: str) -> Side:
    output, said = process.communicate()
    if process.returncode != 0:
        lines = [line for line in said.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit {process.returncode}"
        raise ReviewError(f"{tree.label}: stack {stack} cannot be previewed: {reason}")
    content = json.loads(output)
    graph = from_local(content, source=tree.label, kind=content["kind"])
    return Side(label=tree.label, graph=graph, sources=tree.path, notes=tuple(content["notes"]))


def _side(
    given: str,
    file: tuple[Graph | None, Graph] | None,
    place: _Tree | Path | None,
    found: dict[str, Side],
    *,
    root: Path,
) -> Side:
    if isinstance(place, _Tree):
        return found[place.label]
    if file is None:
        raise WrongInputError(f"{given} is neither a file nor a revision")
    return Side(label=given, graph=file[1], sources=root)
