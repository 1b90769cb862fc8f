"""What runs beside what when the tests are spread over processes (`pytest -n 2 --dist loadgroup`)."""

from pathlib import PurePath

import pytest

# Each of these shares something costly among its files: a running stack, or the previews of every stack.
_TOGETHER = ("tests/end_to_end", "tests/infra")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the tests of a file in one process, and of some folders, whose fixtures are costly, in one as well."""
    for item in items:
        file = PurePath(item.nodeid.partition("::")[0])
        folders = [folder for folder in _TOGETHER if PurePath(folder) in file.parents]
        item.add_marker(pytest.mark.xdist_group(folders[0] if folders else str(file)))
