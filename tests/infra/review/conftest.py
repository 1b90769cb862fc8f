"""prod's real preview, with references, made once."""

from pathlib import Path
from typing import Any

import pytest

from ops.review_preview import preview

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def prod() -> dict[str, Any]:
    """The document of prod; tests change copies of it."""
    document = preview(root=ROOT, stack="prod")
    assert (document["kind"], document["notes"]) == ("references", [])
    return document
