"""What AWS answers, or why it could not be asked: a refused call is never taken for a good answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

T = TypeVar("T")

# The codes by which AWS's services say that IAM does not allow a call.
_DENIED = frozenset(
    {"403", "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException",
     "UnauthorizedOperation"}
)  # fmt: skip


@dataclass(frozen=True)
class Unknown:
    """A question without an answer, and the reason, such as `lacks servicequotas:GetServiceQuota`."""

    reason: str


Answer: TypeAlias = T | Unknown


def error_code(error: ClientError) -> str:
    """AWS's own code of an error, e.g. `NoSuchBucketPolicy`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_denied(error: ClientError) -> bool:
    """Whether the caller lacks the permission."""
    return error_code(error) in _DENIED


def ask(action: str, call: Callable[[], T]) -> Answer[T]:
    """The answer to `call`, which needs the IAM action `action`; a failed call becomes Unknown with its reason."""
    try:
        return call()
    except ClientError as error:
        if is_denied(error):
            return Unknown(f"lacks {action}")
        return Unknown(f"{action} failed with {error_code(error)}")
    except BotoCoreError as error:
        return Unknown(f"{action} failed: {' '.join(str(error).split())}")
