"""The dated price table in the repository; a price that is not in it is unknown, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

_TABLE = Path(__file__).parent / "prices.yaml"


@dataclass(frozen=True)
class Prices:
    """Dollars per hour of instances, of other things that are paid by region and by month, and where they come from."""

    source: str
    updated: str
    on_demand: Mapping[str, Mapping[str, float]]
    per_month: Mapping[str, float]
    regions: Mapping[str, Mapping[str, float]]

    def regional(self, region: str, what: str) -> float | None:
        """The price of what the balancer, the endpoints and the volumes cost there; None where the table has none."""
        return self.regions.get(region, {}).get(what)

    def hourly(self, region: str, instance_type: str) -> float | None:
        """The on-demand price of an hour; None where the table has none."""
        return self.on_demand.get(region, {}).get(instance_type)


@cache
def load_prices() -> Prices:
    """The table; raises KeyError or ValueError where it is malformed."""
    content = yaml.safe_load(_TABLE.read_text(encoding="utf-8"))
    regions = {key: value for key, value in content["on_demand"].items() if key != "source"}
    return Prices(
        source=str(content["on_demand"]["source"]),
        updated=str(content["updated"]),
        on_demand={
            region: {kind: float(price) for kind, price in prices.items()} for region, prices in regions.items()
        },
        per_month={name: float(price) for name, price in content["per_month"].items()},
        regions={
            region: {name: float(price) for name, price in prices.items()}
            for region, prices in content["regional"].items()
        },
    )
