"""AWS API calls by operation name, with failures that say which call failed and what AWS said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from local.errors import LocalError


class ApiError(LocalError):
    """An AWS API call failed; the message is `service:Operation: code: AWS's own message`."""


class Caller:
    """Calls any operation of any service through clients that `client` hands out."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self._client = client

    def __call__(self, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
        """The operation's answer without its metadata; raises ApiError."""
        name = f"{service}:{operation}"
        try:
            answer: dict[str, Any] = getattr(self._client(service), xform_name(operation))(**parameters)
        except ClientError as error:
            about = error.response.get("Error", {})
            raise ApiError(f"{name}: {about.get('Code', 'error')}: {_one_line(about.get('Message', ''))}") from error
        except ParamValidationError as error:
            raise ApiError(f"{name}: the parameters are not valid: {_one_line(str(error))}") from error
        except BotoCoreError as error:
            raise ApiError(f"{name}: {_one_line(str(error))}") from error
        answer.pop("ResponseMetadata", None)
        return answer


def _one_line(text: str) -> str:
    return " ".join(text.split())
