"""The one exception family of the functions."""


class LambdaError(Exception):
    """A function cannot do its work; the message names the thing, its value and the remedy, and never a secret."""


class ConfigurationError(LambdaError):
    """The function's environment or a stored item is not what the stack makes; API Gateway answers 500."""


class PromotionError(LambdaError):
    """A model cannot be promoted or rolled back as was asked; nothing has changed."""


class TrainingError(LambdaError):
    """A training job cannot be started as its configuration asks; nothing has been submitted."""


class Unauthorized(LambdaError):  # noqa: N818  (API Gateway knows it by this word)
    """Who asks could not be told; API Gateway turns exactly this message into 401.

    `reason` is for the function's own log. The client is told the same whatever it is, so that nobody learns which
    tokens exist. Source: Amazon API Gateway developer guide, "Output from an API Gateway Lambda authorizer".
    """

    def __init__(self, *, reason: str) -> None:
        super().__init__("Unauthorized")
        self.reason = reason
