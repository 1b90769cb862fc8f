"""Container images without a container engine: recorded, not built.

The digest is one over the files of the build context, as .dockerignore lets them through, so it changes when the image
would. It is marked as not emulated, for no such image can be pulled.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local.changes import changed_inputs
from local.errors import LocalError, NotReadableError
from local.provider import Subject
from local.records import Difference, NotEmulated
from local.types import NOT_EMULATED
from local.wire import has_unknown

IMAGE = "docker-build:index:Image"


class ImageProvider:
    """Answers for `docker-build:index:Image`; `directory` is what relative contexts are relative to."""

    def __init__(self, *, directory: Path) -> None:
        self._directory = directory

    def check(
        self,
        subject: Subject,
        inputs: Mapping[str, Any],
        old_inputs: Mapping[str, Any] | None = None,  # noqa: ARG002 - protocol
    ) -> dict[str, Any]:
        """The inputs as they are; raises LocalError for another type or a context that is no directory."""
        if subject.type != IMAGE:
            raise LocalError(
                f"{subject.type} {subject.name}: the local engine does not know this type; it knows {IMAGE}"
            )
        location = inputs.get("context", {}).get("location")
        if isinstance(location, str) and not (self._directory / location).is_dir():
            raise LocalError(f"{subject.type} {subject.name}: context {location} is no directory; check the path")
        return dict(inputs)

    def not_emulated(self, subject: Subject, inputs: Mapping[str, Any]) -> list[NotEmulated]:  # noqa: ARG002 - protocol
        """The image as a whole."""
        return [NotEmulated(urn=subject.urn, type=subject.type, property="", reason=NOT_EMULATED[IMAGE])]

    def planned(
        self,
        subject: Subject,  # noqa: ARG002 - protocol
        inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any] | None = None,  # noqa: ARG002 - protocol
    ) -> dict[str, Any]:
        """The inputs; everything else comes with creation."""
        return dict(inputs)

    def create(self, subject: Subject, inputs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The image's reference: its first tag with a digest over the context's files."""
        digest = self._digest(inputs)
        tags = inputs.get("tags") or []
        if not tags:
            raise LocalError(
                f"{subject.type} {subject.name}: has no tag, so its image has no reference; add one to tags"
            )
        return digest, {
            **inputs,
            "contextHash": digest.removeprefix("sha256:"),
            "digest": digest,
            "ref": f"{tags[0]}@{digest}",
        }

    def read(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """Images are not kept; raises LocalError."""
        raise NotReadableError(
            f"{subject.type} {subject.name}: images cannot be read here; there is no container engine"
        )

    def diff(
        self,
        subject: Subject,  # noqa: ARG002 - protocol
        resource_id: str,  # noqa: ARG002 - protocol
        old_inputs: Mapping[str, Any],
        old_outputs: Mapping[str, Any],
        new_inputs: Mapping[str, Any],
    ) -> Difference:
        """What changes between the inputs, and the files of the context where those do; an image is built anew."""
        changed = changed_inputs(old_inputs, new_inputs)
        if not has_unknown(new_inputs) and self._digest(new_inputs) != old_outputs.get("digest"):
            changed = (*changed, "contextHash")
        return Difference(changed=changed)

    def update(
        self,
        subject: Subject,
        resource_id: str,  # noqa: ARG002 - protocol
        old_inputs: Mapping[str, Any],  # noqa: ARG002 - protocol
        old_outputs: Mapping[str, Any],  # noqa: ARG002 - protocol
        new_inputs: Mapping[str, Any],
    ) -> dict[str, Any]:
        """The image's new reference; its id stays, as with the real provider."""
        _, outputs = self.create(subject, new_inputs)
        return outputs

    def delete(self, subject: Subject, resource_id: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Nothing: no image was made."""

    def _digest(self, inputs: Mapping[str, Any]) -> str:
        context = (self._directory / inputs["context"]["location"]).resolve()
        dockerfile = (self._directory / inputs["dockerfile"]["location"]).resolve()
        return context_digest(context=context, dockerfile=dockerfile)

    def invoke(self, token: str, arguments: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - protocol
        """The package has no data sources; raises LocalError."""
        raise LocalError(f"invoke {token} is not known to the local engine")


def context_digest(*, context: Path, dockerfile: Path) -> str:
    """`sha256:` and a digest over names and contents of the Dockerfile and of the files that go into the build."""
    specific = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    ignore_file = specific if specific.exists() else context / ".dockerignore"
    patterns = ignore_patterns(ignore_file.read_text(encoding="utf-8")) if ignore_file.exists() else []
    digest = hashlib.sha256(dockerfile.read_bytes())
    for name in _included(context, patterns):
        content = (context / name).read_bytes()
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"sha256:{digest.hexdigest()}"


def ignore_patterns(text: str) -> list[tuple[bool, re.Pattern[str]]]:
    """The lines of a .dockerignore as (excluded?, pattern over the path from the context), in order.

    Source: https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    patterns = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        excluded = not line.startswith("!")
        path = line.removeprefix("!").strip().strip("/").removeprefix("./")
        patterns.append((excluded, re.compile(_expression(path))))
    return patterns


def ignored(name: str, patterns: list[tuple[bool, re.Pattern[str]]]) -> bool:
    """Whether the last pattern that matches the path, or a directory above it, excludes it."""
    parts = name.split("/")
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    result = False
    for excluded, pattern in patterns:
        if any(pattern.fullmatch(prefix) for prefix in prefixes):
            result = excluded
    return result


def _expression(path: str) -> str:
    """A regular expression for a pattern in which `**` spans directories and `*` and `?` do not."""
    pieces = []
    for segment in path.split("/"):
        if segment == "**":
            pieces.append("(?:.*/)?")
            continue
        # fnmatch.translate wraps as (?s:…)\Z; its wildcards must stop at a slash.
        inner = re.sub(r"\(\?s:(.*)\)\\Z", r"\1", fnmatch.translate(segment)).replace(".*", "[^/]*")
        pieces.append(f"{inner}/")
    joined = "".join(pieces).removesuffix("/")
    return f"{joined}.*" if joined.endswith("(?:.*/)?") else joined


def _included(context: Path, patterns: list[tuple[bool, re.Pattern[str]]]) -> Iterator[str]:
    """The files that are not ignored, sorted; directories are pruned where nothing can be let in again below them."""
    exceptions = any(not excluded for excluded, _ in patterns)
    reopened = [pattern.pattern for excluded, pattern in patterns if not excluded]
    for folder, directories, files in os.walk(context):
        above = Path(folder).relative_to(context).as_posix()
        prefix = "" if above == "." else f"{above}/"
        directories[:] = sorted(
            name
            for name in directories
            if not ignored(prefix + name, patterns) or (exceptions and _may_reopen(prefix + name, reopened))
        )
        yield from (prefix + name for name in sorted(files) if not ignored(prefix + name, patterns))


def _may_reopen(directory: str, reopened: list[str]) -> bool:
    """Whether a `!` pattern could match something under `directory`: it begins with it, or with a wildcard."""
    literal = re.escape(directory)
    return any(pattern.startswith((literal, "[^/]*", "(?:")) for pattern in reopened)
