"""Every way a request can fail, with its status: the one table of the HTTP boundary."""

from model_image.answers import ErrorAnswer
from model_image.errors import ModelImageError

_INVALID = "invalid_request_error"
_TABLE: dict[str, tuple[int, str]] = {
    "invalid_request_body": (400, _INVALID),
    "invalid_value": (400, _INVALID),
    "unsupported": (400, _INVALID),
    "context_length_exceeded": (400, _INVALID),
    "access_denied": (403, "permission_error"),
    "not_found": (404, _INVALID),
    "model_not_found": (404, _INVALID),
    "method_not_allowed": (405, _INVALID),
    "request_too_large": (413, _INVALID),
    "unsupported_media_type": (415, _INVALID),
    "overloaded": (429, "rate_limit_error"),
    "token_budget_exceeded": (429, "rate_limit_error"),
    "internal_error": (500, "server_error"),
    "not_ready": (503, "server_error"),
    "draining": (503, "server_error"),
    "budget_unavailable": (503, "server_error"),
    "timeout": (504, "server_error"),
}


class ApiError(ModelImageError):
    """
    A request that is answered with an error.

    `message` goes to the client and never holds a value from the request; `param` names the field at fault;
    `retry_after` is in seconds.
    """

    def __init__(self, code: str, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.status, self.type = _TABLE[code]

    def answer(self) -> ErrorAnswer:
        """The body in OpenAI's error shape."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
