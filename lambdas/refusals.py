"""What a caller is told whose credential is a real one, or no more than mistyped, and opens nothing here.

A stranger is told nothing: whatever could be anybody's guess is Unauthorized, and looks the same. Who shows a token
that this stack has made, or a JWT that the issuer has signed, knows of it already, so the reason gives nothing away.
That a token is mistyped follows from its own checksum, which anybody can compute.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lambdas.errors import LambdaError

if TYPE_CHECKING:
    from lambdas.consumers import Consumer


@dataclass(frozen=True)
class Refusal:
    """A code for programs and a sentence for people; the gateway puts both into JSON as they are, so no quotes."""

    code: str
    message: str


MISTYPED = Refusal("token_mistyped", "This token is mistyped or cut off: its checksum does not fit; copy it again")
EXPIRED = Refusal("token_expired", "This token has expired; ask the operator for a new one, or sign in again")
REVOKED = Refusal("token_revoked", "This token was revoked; ask the operator for a new one")
FROZEN = Refusal("consumer_frozen", "This consumer is frozen; ask the operator")
ADDRESS = Refusal("address_not_allowed", "This consumer may not call from this address")
NO_PLAN = Refusal("no_plan", "This consumer is on no plan of this API; ask the operator for one")
# Goes out with every answer that allows some routes: whoever calls another one is told so.
TASK = Refusal("task_not_allowed", "This consumer may not use this task")


class Denied(LambdaError):  # noqa: N818  (API Gateway knows it by this word)
    """The caller is known, as far as `consumer` says, and refused; `reason` is for the function's own log."""

    def __init__(self, refusal: Refusal, *, reason: str, consumer: "Consumer | None" = None) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal
        self.reason = reason
        self.consumer = consumer
