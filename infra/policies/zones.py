"""In how many availability zones something is: the subnets that it names are looked up, since two may be in one."""

from collections.abc import Sequence

from infra.policies.answers import FINE, Answer, every, fails_if, some, undecidable
from infra.policies.graph import UNKNOWN, Graph, Resource, read, type_of
from infra.policies.rule import Check, has_items

SUBNET = "aws:ec2/subnet:Subnet"


def subnets_of_several_zones(*paths: str) -> Check:
    """A check that the lists of subnets at one of the paths are in two zones or more."""

    def check(resource: Resource, graph: Graph) -> Answer:
        return some((_subnets(resource, path, graph) for path in paths), otherwise="no subnets are named")

    return check


def several_zones(path: str) -> Check:
    """A check that the list of zones at `path` names two or more."""

    def check(resource: Resource, _graph: Graph) -> Answer:
        return every([has_items(path, 2)(resource.properties), _distinct(read(resource.properties, path), path)])

    return check


def _subnets(resource: Resource, path: str, graph: Graph) -> Answer:
    enough = has_items(path, 2)(resource.properties)
    if enough != FINE:
        return enough
    sources = {urn for urn in resource.sources.get(path.partition(".")[0], ()) if type_of(urn) == SUBNET}
    zones = [_zone(each) for each in graph.resources if each.urn in sources]
    # Of subnets that are not the stack's nothing is known; nor which are meant, where there are more than are named.
    if len(zones) != len(sources) or len(sources) != len(read(resource.properties, path)):
        zones.append(UNKNOWN)
    return _distinct(zones, f"the zones of {path}")


def _zone(subnet: Resource) -> object:
    names = (read(subnet.properties, each) for each in ("availabilityZone", "availabilityZoneId"))
    return next((each for each in names if each is not None), UNKNOWN)


def _distinct(zones: object, what: str) -> Answer:
    if not isinstance(zones, Sequence) or isinstance(zones, str):
        return undecidable(f"{what} are not known yet")
    if UNKNOWN in zones:
        return undecidable(f"{what} are not known yet")
    return fails_if(len(set(zones)) < 2, f"{what} are {', '.join(map(str, zones))}")
