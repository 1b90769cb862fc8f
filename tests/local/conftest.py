"""Fixtures of the local engine's tests: running emulators, and small Pulumi projects."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from local.emulators import Emulators
from tests.local.changing_stack import ChangingStack


@pytest.fixture(scope="session")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulators]:
    """Both emulators, started once for all tests; what one test makes, the others can see."""
    with Emulators(region="eu-west-1", log_dir=tmp_path_factory.mktemp("emulator-logs")) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Path]:
    """Writes a Pulumi project with one stack, `dev`, and the given program; returns its directory."""

    def write(program: str, *, name: str = "small", files: Mapping[str, str] | None = None, stack: str = "") -> Path:
        root = tmp_path / name
        (root / "program").mkdir(parents=True, exist_ok=True)
        (root / "Pulumi.yaml").write_text(f"name: {name}\nruntime: python\nmain: program\n", encoding="utf-8")
        (root / "Pulumi.dev.yaml").write_text(stack or "config:\n  aws:region: eu-west-1\n", encoding="utf-8")
        (root / "program" / "__main__.py").write_text(dedent(program), encoding="utf-8")
        for path, content in (files or {}).items():
            (root / "program" / path).write_text(content, encoding="utf-8")
        return root

    return write


@pytest.fixture
def stack(
    project: Callable[..., Path], emulators: Emulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ChangingStack:
    """A stack whose program changes from one deployment to the next."""
    return ChangingStack(project, emulators, tmp_path / "state" / "state.json", monkeypatch)


def pytest_configure(config: pytest.Config) -> None:
    """pulumi_aws deprecates some of its own classes while it is imported."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_aws")
