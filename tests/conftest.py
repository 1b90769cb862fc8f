"""What runs beside what when the tests are spread over processes (`pytest -n 2`)."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

# Each of these shares something costly among its files: a running stack, or the previews of every stack.
_TOGETHER = ("tests/end_to_end", "tests/infra")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps the tests of a file in one process, and of some folders, whose fixtures are costly, in one as well."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = PurePath(nodeid.partition("::")[0])
            return next((folder for folder in _TOGETHER if PurePath(folder) in file.parents), str(file))

    return Together(config, log)
