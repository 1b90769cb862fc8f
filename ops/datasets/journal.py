"""Remembers the multipart uploads that are under way, so that one that was cut off goes on where it stopped."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_OWNER_ONLY = 0o700


@dataclass
class Journal:
    """
    One upload's file: its first line names the upload, each further one a part that S3 has taken.

    `parts` maps part numbers to (hex SHA-256, ETag). A last line that was cut off counts for nothing.
    """

    path: Path
    upload_id: str = ""
    sha256: str = ""
    part_bytes: int = 0
    parts: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path, *, bucket: str, key: str) -> Journal:
        """The journal of that object; without an upload id where there is none."""
        journal = cls(directory / f"{hashlib.sha256(f'{bucket}/{key}'.encode()).hexdigest()}.jsonl")
        try:
            lines = journal.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return journal
        for line in lines:
            try:
                journal._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                break
        return journal

    def _take(self, entry: Mapping[str, object]) -> None:
        if "upload_id" in entry:
            self.upload_id, self.sha256 = str(entry["upload_id"]), str(entry["sha256"])
            self.part_bytes = int(str(entry["part_bytes"]))
        else:
            self.parts[int(str(entry["part"]))] = (str(entry["sha256"]), str(entry["etag"]))

    def begin(self, *, upload_id: str, sha256: str, part_bytes: int) -> None:
        """Another upload of the object; what the journal said before is forgotten."""
        self.upload_id, self.sha256, self.part_bytes, self.parts = upload_id, sha256, part_bytes, {}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=_OWNER_ONLY)
        entry = {"upload_id": upload_id, "sha256": sha256, "part_bytes": part_bytes}
        self.path.write_text(json.dumps(entry) + "\n", encoding="utf-8")

    def add(self, part: int, *, sha256: str, etag: str) -> None:
        """A part is in S3."""
        self.parts[part] = (sha256, etag)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": part, "sha256": sha256, "etag": etag}) + "\n")

    def listed(self) -> list[dict[str, object]]:
        """The parts as CompleteMultipartUpload takes them."""
        return [
            {
                "PartNumber": number,
                "ETag": etag,
                "ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(),
            }
            for number, (sha256, etag) in sorted(self.parts.items())
        ]

    def end(self) -> None:
        """The object is whole, or its upload was given up."""
        self.path.unlink(missing_ok=True)
        self.upload_id, self.parts = "", {}
