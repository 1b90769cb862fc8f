"""The packages of the program that are served: what each takes as configuration, and who makes its resources."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.aws import AwsProvider, provider_configuration
from local.calls import Caller
from local.errors import Problem
from local.images import ImageProvider
from local.provider import Provider
from local.tls import TlsProvider
from local.wire import Unknown

# What the engine adds, and what tells the real provider to leave out checks that are not made here.
_WITHOUT_EFFECT = frozenset(
    {
        "pluginDownloadURL",
        "skipCredentialsValidation",
        "skipMetadataApiCheck",
        "skipRegionValidation",
        "skipRequestingAccountId",
        "version",
    }
)


@dataclass(frozen=True)
class Package:
    """One Pulumi package; `caller` and `region` are set where its resources are made through AWS's API."""

    name: str
    configuration: frozenset[str]
    new_provider: Callable[[Mapping[str, Any]], Provider]
    caller: Caller | None = None
    region: str = ""

    @property
    def version(self) -> str:
        """The version of the package's SDK, which is the one that the program asks for."""
        return importlib.metadata.version(f"pulumi-{self.name}")

    def problems(self, configuration: Mapping[str, Any]) -> list[Problem]:
        """What is wrong with a provider's configuration; unknown values are not."""
        allowed = ", ".join(sorted(self.configuration)) or "nothing"
        found = [
            Problem(name, f"is not taken by the local {self.name} provider, which takes {allowed}; leave it out")
            for name in sorted(set(configuration) - self.configuration - _WITHOUT_EFFECT)
        ]
        region = configuration.get("region")
        if self.region and not region:
            found.append(Problem("region", "is not set; add aws:region to the stack's configuration file"))
        elif self.region and not isinstance(region, Unknown) and region != self.region:
            found.append(
                Problem("region", f"is {region}, but the emulators are in {self.region}; start the local provider anew")
            )
        return found


def packages(*, client: Callable[[str], Any], region: str, program: Path) -> tuple[Package, ...]:
    """Every package of the program; `client` hands out boto3 clients of the emulators in `region`."""
    caller = Caller(client)
    return (
        Package(
            name="aws",
            configuration=frozenset({"defaultTags", "region"}),
            new_provider=lambda values: AwsProvider(configuration=provider_configuration(values), caller=caller),
            caller=caller,
            region=region,
        ),
        Package(
            name="docker-build",
            configuration=frozenset(),
            new_provider=lambda _: ImageProvider(directory=program),
        ),
        Package(name="tls", configuration=frozenset(), new_provider=lambda _: TlsProvider()),
    )
