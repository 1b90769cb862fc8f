"""Consumers of a deployed stack and their tokens: made, listed, rotated, revoked, frozen.

A consumer owns one API Gateway key whose value nobody is handed: it stands encrypted in the consumers table, for the
authorizer to answer with. What the consumer holds is a token, of which only the SHA-256 is kept.
"""

from ops.keys.consumers import create_consumer, create_oidc_consumer, list_consumers
from ops.keys.freezing import Effect, freeze_consumer, freeze_stack, is_frozen, kept_answers
from ops.keys.imports import import_consumers, read_consumers
from ops.keys.stack import Clients
from ops.keys.tokens import CreatedToken, Rotation, revoke_token, rotate_token
from ops.keys.wanted import TASKS, Wanted

__all__ = [
    "TASKS",
    "Clients",
    "CreatedToken",
    "Effect",
    "Rotation",
    "Wanted",
    "create_consumer",
    "create_oidc_consumer",
    "freeze_consumer",
    "freeze_stack",
    "import_consumers",
    "is_frozen",
    "kept_answers",
    "list_consumers",
    "read_consumers",
    "revoke_token",
    "rotate_token",
]
