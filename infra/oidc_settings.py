"""The settings of callers who sign in with an identity provider."""

import json
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from infra.field_types import ClaimName, ClaimText, HttpsAddress, Name
from infra.section import Section, check

# Lambda takes 4 KB of variables together: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
LONGEST_VARIABLE = 2048


class OidcSettings(Section):
    """An OpenID provider whose tokens open the API as well: who they are for, and which plan whom they are of has."""

    issuer: HttpsAddress = Field(description="As it stands in the tokens' iss, to the letter.")
    audience: ClaimText = Field(description="What must stand in the tokens' aud: this API's own name.")
    jwks_uri: HttpsAddress | None = Field(
        default=None, description="Where the issuer's keys are; without it, where its discovery document says."
    )
    group_claim: ClaimName = Field(default="groups", description="The claim that lists the caller's groups.")
    plans: Annotated[dict[ClaimText, Name], Field(min_length=1)] = Field(
        description="The plan of each group; of a caller's groups, the first in this order counts."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        return check(self, fits_a_variable)

    def as_variable(self) -> dict[str, Any]:
        """The settings as the authorizer reads them."""
        return self.model_dump(mode="json")


def fits_a_variable(oidc: OidcSettings) -> str | None:
    """The authorizer is told by a variable of its function, and those have little room."""
    length = len(json.dumps(oidc.as_variable()))
    if length > LONGEST_VARIABLE:
        return (
            f"oidc has {length} characters, and a function's variables have room for {LONGEST_VARIABLE}; name fewer "
            "groups in plans, for instance one for each plan"
        )
    return None
