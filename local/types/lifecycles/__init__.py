"""The table of how each type of `local.types` is changed and deleted."""

from __future__ import annotations

from collections.abc import Mapping

from local.types.lifecycles import (
    apigateway,
    audit,
    batch,
    compute,
    ec2,
    firewall,
    functions,
    identity,
    observability,
    secrets,
    storage,
    streams,
)
from local.types.lifecycles.vocabulary import Lifecycle

LIFECYCLES: Mapping[str, Lifecycle] = {
    token: life
    for module in (
        apigateway,
        audit,
        batch,
        compute,
        ec2,
        firewall,
        functions,
        identity,
        observability,
        secrets,
        storage,
        streams,
    )
    for token, life in module.LIFECYCLES.items()
}
