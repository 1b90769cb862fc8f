"""AWS API calls by operation name, with failures that say which call failed and what AWS said."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from local.errors import LocalError

_GONE = re.compile(r"NotFound|NoSuch|DoesNotExist|Non[Ee]xist|NotExist")


class ApiError(LocalError):
    """An AWS API call failed; the message is `service:Operation: code: AWS's own message`.

    `code` is AWS's own, empty where nothing answered; `lost` says that it may have been carried out all the same.
    """

    def __init__(self, message: str, *, code: str = "", lost: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.lost = lost

    @property
    def gone(self) -> bool:
        """Whether what the call was about does not exist."""
        text = str(self).lower()
        return bool(_GONE.search(self.code)) or (self.code == "ValidationError" and "not found" in text)


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
            code = str(about.get("Code", "error"))
            raise ApiError(f"{name}: {code}: {_one_line(about.get('Message', ''))}", code=code) from error
        except ParamValidationError as error:
            raise ApiError(f"{name}: the parameters are not valid: {_one_line(str(error))}") from error
        except (HTTPClientError, ResponseParserError) as error:  # asked, and nobody knows what came of it
            raise ApiError(f"{name}: {_one_line(str(error))}", lost=True) from error
        except BotoCoreError as error:
            raise ApiError(f"{name}: {_one_line(str(error))}") from error
        answer.pop("ResponseMetadata", None)
        return answer


def _one_line(text: str) -> str:
    return " ".join(text.split())
