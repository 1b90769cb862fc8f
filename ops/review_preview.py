"""The preview that a review compares: what only AWS gives is a reference to its source, not an unknown.

`python -m ops.review_preview ROOT STACK` prints it as JSON. It runs in a process of its own, one per revision: the
program of another revision has the same module names.

In a plain preview every value that depends on an ARN is unknown, and with it whole policy documents, so that a change
in one is not seen. Here an output that nothing is known of reads `<name.output>`: equal in two revisions exactly if it
comes from the same output of the same resource. Where a program cannot work with such values, the preview has unknowns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local import engine
from local.errors import LocalError
from local.project import load_project
from local.records import Deployment
from local.run import Run
from local.schema import type_schema
from local.wire import UNKNOWN, Struct, decode, encode

_ZONES = ("a", "b", "c", "d", "e", "f")
_OTHER_OUTPUTS = {
    "docker-build:index:Image": frozenset({"contextHash", "digest", "ref"}),
    "tls:index/privateKey:PrivateKey": frozenset({"publicKeyPem"}),
    "tls:index/selfSignedCert:SelfSignedCert": frozenset({"certPem"}),
}


class _References(Run):
    """A preview in which each output that is not known yet is a reference to itself."""

    def __init__(self, *, root: Path, stack: str) -> None:
        super().__init__(project=load_project(root=root, stack=stack), caller=None, on_progress=None)
        self.aliases: dict[str, list[str]] = {}

    def register(self, request: Any) -> tuple[str, str, Struct]:
        """As in any preview, with references for the outputs."""
        urn, _, struct = super().register(request)
        self.aliases[urn] = self._alias_urns(request, urn)
        outputs, secrets = decode(struct)
        if not request.custom or request.type.startswith("pulumi:"):
            return urn, "", struct
        names = _output_names(request.type)
        missing = {name: f"<{request.name}.{name}>" for name in names if outputs.get(name, UNKNOWN) is UNKNOWN}
        return urn, f"<{request.name}.id>", encode({**outputs, **missing}, secrets)

    def invoke(self, token: str, arguments: Struct, provider: str) -> Struct | None:  # noqa: ARG002  (the engine's call)
        """References for what the data sources of this stack answer; unknown for any other."""
        values, _ = decode(arguments)
        answer = _answer(token, values, region=self.project.config.get("aws:region", ""))
        return None if answer is None else encode(answer)

    def _alias_urns(self, request: Any, urn: str) -> list[str]:
        """What the resource was called before: its own aliases, and those that come from its parent's."""
        head, _, name = urn.rpartition("::")
        place, _, kind = head.rpartition("::")
        found = {each.urn for each in request.aliases if each.urn}
        for each in request.aliases:
            if each.urn:
                continue
            spec = each.spec
            prefix, _, own = kind.rpartition("$")
            parent = spec.parentUrn.split("::")[2] if spec.parentUrn else prefix
            if spec.noParent or parent == "pulumi:pulumi:Stack":
                parent = ""
            old_kind = f"{parent}$" if parent else ""
            old_place = f"urn:pulumi:{spec.stack or self.project.stack}::{spec.project or self.project.name}"
            found.add(f"{old_place}::{old_kind}{spec.type or own}::{spec.name or name}")
        parent_name = request.parent.rpartition("::")[2]
        for old in self.aliases.get(request.parent, []):
            old_kind, old_name = old.split("::")[2:4]
            own_name = old_name + name.removeprefix(parent_name) if name.startswith(parent_name) else name
            found.add(f"{place}::{old_kind}${request.type}::{own_name}")
        return sorted(found - {urn})


def _output_names(token: str) -> frozenset[str]:
    if not token.startswith("aws:"):
        return _OTHER_OUTPUTS.get(token, frozenset())  # the SDK takes what is not answered as unknown
    try:
        return type_schema(token).outputs
    except KeyError:
        return frozenset()


def _answer(token: str, values: Mapping[str, Any], *, region: str) -> dict[str, Any] | None:
    name = token.rpartition(":")[2]
    if name == "getCallerIdentity":
        return {"accountId": "<account>", "arn": "<caller.arn>", "userId": "<caller.id>", "id": "<account>"}
    if name == "getAvailabilityZones":
        names = [f"{region}{letter}" for letter in _ZONES]
        return {"id": region, "names": names, "zoneIds": names, "groupNames": [region]}
    if name == "getParameter":
        value = f"<parameter {values['name']}>"
        known = {"id": values["name"], "name": values["name"], "value": value, "insecureValue": value}
        return {**known, "arn": f"<parameter {values['name']} arn>", "type": "String", "version": 0}
    if name == "getManagedPrefixList":
        known_as = values.get("name") or values.get("id")
        return {"id": f"<prefix list {known_as}>", "name": str(known_as), "arn": f"<prefix list {known_as} arn>"}
    return None


def to_json(deployment: Deployment, aliases: Mapping[str, list[str]]) -> dict[str, Any]:
    """The shape of `modelkeep local preview --json`, with aliases."""
    plain = engine.to_json(deployment)
    for resource in plain["resources"]:
        resource["aliases"] = aliases.get(resource["urn"], [])
    return plain


def preview(*, root: Path, stack: str, references: bool = True) -> dict[str, Any]:
    """The stack of the checkout at `root` as a document with `kind` and, where it matters, `notes`.

    Raises LocalError, or the program's own error where it refuses its settings.
    """
    if references:
        run = _References(root=root, stack=stack)
        try:
            deployment = engine.execute(run)
        except LocalError as error:
            plain = preview(root=root, stack=stack, references=False)  # raises what is wrong with the program itself
            reason = " ".join(str(error).split())
            note = f"{stack} could not be previewed with references, so values that AWS gives are unknown: {reason}"
            return {**plain, "notes": [note]}
        return {"kind": "references", **to_json(deployment, run.aliases), "notes": []}
    return {"kind": "unknowns", **to_json(engine.preview(root=root, stack=stack), {}), "notes": []}


def main() -> int:
    """Print the preview; a failure is one line on standard error and exit 1."""
    root, stack, *flags = sys.argv[1:]
    try:
        json.dump(preview(root=Path(root), stack=stack, references="--unknowns" not in flags), sys.stdout)
    except Exception as error:
        # The program's own errors are of classes that its revision defines.
        if not isinstance(error, LocalError) and type(error).__module__.partition(".")[0] != "infra":
            raise
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
