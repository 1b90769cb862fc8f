"""JSON documents (policies, dashboards, schemas) that Pulumi takes as a map or as text, and AWS as text."""

from __future__ import annotations

import json
from typing import Any

from local.wire import UNKNOWN, has_unknown


def document(value: Any) -> Any:
    """The JSON text of a document; unknown when any part of it is."""
    if has_unknown(value):
        return UNKNOWN
    return value if isinstance(value, str) else json.dumps(value)
