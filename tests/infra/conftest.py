"""Previews of the stacks as plain data, made once."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.site import Site
from local.engine import preview, to_json
from ops.review_preview import preview as references

ROOT = Path(__file__).resolve().parents[2]
STACKS = ("local", "dev", "staging", "prod")


@dataclass(frozen=True)
class Graph:
    """The resources of one preview."""

    resources: list[dict[str, Any]]
    outputs: dict[str, Any]
    providers: dict[str, str]

    def of_type(self, resource_type: str) -> list[dict[str, Any]]:
        """Every resource whose type ends so; at least one, lest a test over none pass."""
        found = [each for each in self.resources if each["type"].endswith(resource_type)]
        assert found, f"no resource of type {resource_type}"
        return found

    def one(self, resource_type: str) -> dict[str, Any]:
        """The only resource of a type."""
        (found,) = self.of_type(resource_type)
        return found

    def referring(self, resource_type: str, prop: str, target: dict[str, Any]) -> list[dict[str, Any]]:
        """The resources of a type whose property comes from `target`."""
        return [
            each for each in self.of_type(resource_type) if target["urn"] in each["property_dependencies"].get(prop, [])
        ]


def _graph(stack: str, config_file: Path | None = None) -> Graph:
    deployment = preview(root=ROOT, stack=stack, config_file=config_file)
    plain = to_json(deployment)
    return Graph(
        resources=plain["resources"],
        outputs=plain["outputs"],
        providers={each.urn: each.provider for each in deployment.resources},
    )


@cache
def graph_of(stack: str) -> Graph:
    return _graph(stack)


@pytest.fixture(params=STACKS)
def graph(request: pytest.FixtureRequest) -> Graph:
    """Each stack's resources in turn."""
    return graph_of(request.param)


@pytest.fixture
def graphs() -> dict[str, Graph]:
    """Every stack's resources."""
    return {stack: graph_of(stack) for stack in STACKS}


@pytest.fixture(scope="session")
def prod_references() -> dict[str, Any]:
    """prod's preview with references in place of what only AWS gives, so that policies can be read."""
    return references(root=ROOT, stack="prod")


@pytest.fixture
def changed_graph(tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Graph]:
    """The resources of the local stack with its settings changed by a function."""

    def build(change: Callable[[dict[str, Any]], None]) -> Graph:
        content = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())
        change(content["config"])
        path = tmp_path / "Pulumi.local.yaml"
        path.write_text(yaml.safe_dump(content))
        return _graph("local", path)

    return build


@pytest.fixture
def values() -> dict[str, Any]:
    """The local stack's settings as plain values, as parse_settings takes them."""
    config = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]
    return {key.removeprefix("modelkeep:").removeprefix("aws:"): value for key, value in config.items()}


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """The event loop that outputs made outside a program belong to."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def site(loop: asyncio.AbstractEventLoop) -> Site:
    """A stack in some account."""
    return Site(
        project="modelkeep",
        stack="test",
        region="eu-west-1",
        account_id=pulumi.Output.from_input("123456789012"),
        root=ROOT,
    )


@pytest.fixture
def resolve(loop: asyncio.AbstractEventLoop) -> Callable[[Any], Any]:
    """Turns values with known outputs in them into plain values."""
    return lambda value: loop.run_until_complete(pulumi.Output.from_input(value).future())
