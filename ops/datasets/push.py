"""`modelkeep data push`: what is to go up, in which order, and when a data set may be seen."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_image.train.datasets import DATASET, DataFile, DatasetManifest, dataset_digest
from ops.datasets.inspection import Inspection, format_of, inspect
from ops.datasets.scan_mode import ScanMode
from ops.datasets.sources import SourceFile, find_files
from ops.datasets.uploading import PART_BYTES, Uploaded, Uploader, refuse_unencrypted
from ops.errors import OpsError

Advance = Callable[[float, str], None]
"""Takes the fraction done (0 to 1) and what is at work now."""
_FILE_THREADS = 16


@dataclass(frozen=True)
class Options:
    """
    How to push: `journals` is where uploads that were cut off are remembered, `licence` goes into a dataset.json.

    Files of more than `part_bytes` go up in parts; S3 takes parts of 5 MiB and more.
    """

    journals: Path
    scan: ScanMode = ScanMode.WARN
    licence: str = "not stated"
    part_bytes: int = PART_BYTES


@dataclass(frozen=True)
class Pushed:
    """What lies at the destination of what was pushed; `findings` says what the scan found, a line each."""

    files: tuple[Uploaded, ...]
    dataset: DatasetManifest | None = None
    findings: tuple[str, ...] = ()


def push(client: Any, sources: Sequence[str], destination: str, *, on_progress: Advance, options: Options) -> Pushed:
    """
    Bring files to `destination` (s3://bucket/prefix); what is there already, with the same SHA-256, is left alone.

    A folder's files keep their paths below it. Where all are JSONL, CSV, text or Parquet with a `train` among them,
    they are a data set: every row is checked, and a dataset.json describes it. That file goes last, and an older one
    that says something else is taken away first, so a reader sees a whole data set or none. An upload that was cut off
    goes on where it stopped. Raises OpsError: nothing to push, a bucket without default encryption by a KMS key, wrong
    rows, a data set that is not what its dataset.json says, findings under `ScanMode.REFUSE`, an error of S3 or of the
    source.
    """
    bucket, prefix = _parts(destination)
    files = find_files(sources)
    refuse_unencrypted(client, bucket)
    name = prefix.rpartition("/")[2] or bucket
    is_dataset = _is_dataset(files)
    inspections = _inspected(files, scan=options.scan is not ScanMode.OFF, rows=is_dataset, on_progress=on_progress)
    found = tuple(line for each in inspections.values() for line in each.summary())
    if found and options.scan is ScanMode.REFUSE:
        raise OpsError(
            "\n".join(["nothing was uploaded: the data holds what --scan refuse does not let through", *found])
        )
    uploader = Uploader(client, bucket=bucket, journals=options.journals, part_bytes=options.part_bytes)
    try:
        work = _Push(uploader, prefix=prefix, files=files, on_progress=on_progress)
        done, manifest = work.run(
            inspections if is_dataset else None, name=name, source=_shown(sources), licence=options.licence
        )
    finally:
        uploader.close()
    on_progress(1.0, "pushed")
    return Pushed(files=tuple(done), dataset=manifest, findings=found)


def _parts(destination: str) -> tuple[str, str]:
    bucket, _, prefix = destination.removeprefix("s3://").partition("/")
    if not destination.startswith("s3://") or not bucket:
        raise OpsError(f"destination is {destination!r}; write it as s3://BUCKET/PREFIX")
    return bucket, prefix.strip("/")


def _shown(sources: Sequence[str]) -> str:
    """The sources as a description may name them: of a path on this machine, its last part alone."""
    return ", ".join(source if "://" in source else Path(source).name for source in sources)


def _is_dataset(files: Sequence[SourceFile]) -> bool:
    """Whether a data set's description is to be made: its files are all rows, and none describes them yet."""
    names = [file.name for file in files]
    return all(format_of(name) and "/" not in name for name in names) and any(
        name.startswith("train.") for name in names
    )


def _inspected(files: Sequence[SourceFile], *, scan: bool, rows: bool, on_progress: Advance) -> dict[str, Inspection]:
    """Every file of rows, read once; raises OpsError with the first wrong rows of a data set."""
    found: dict[str, Inspection] = {}
    wanted = [file for file in files if format_of(file.name)] if scan or rows else []
    for number, file in enumerate(wanted):
        on_progress(0.0, f"reading {file.name} ({number + 1} of {len(wanted)})")
        found[file.name] = inspect(file, scan=scan)
    problems = [problem for each in found.values() for problem in each.problems] if rows else []
    if problems:
        wrong = sum(each.wrong_rows for each in found.values())
        raise OpsError("\n".join([f"nothing was uploaded: {wrong} rows are wrong; correct them", *problems[:20]]))
    return found


class _Push:
    """One push at work: who is done is known to all threads."""

    def __init__(self, uploader: Uploader, *, prefix: str, files: Sequence[SourceFile], on_progress: Advance) -> None:
        self._uploader = uploader
        self._prefix = prefix
        self._files = files
        self._on_progress = on_progress
        self._total = sum(file.size for file in files) or 1
        self._done = 0
        self._lock = threading.Lock()

    def run(
        self, inspections: Mapping[str, Inspection] | None, *, name: str, source: str, licence: str
    ) -> tuple[list[Uploaded], DatasetManifest | None]:
        """Everything goes up, the description of a data set last; what lies there, and a description that was made."""
        there = self._uploader.sizes(f"{self._prefix}/" if self._prefix else "")
        described = next((file for file in self._files if file.name == DATASET), None)
        rows = [file for file in self._files if file is not described]
        manifest: DatasetManifest | None = None
        content: bytes | None = None
        digests: dict[str, str] = {}
        if described is not None or inspections is not None:
            digests = {file.name: file.sha256() for file in rows}
        if described is not None:
            with described.open() as stream:
                content = stream.read()
            _check_dataset(content, digests, where=described.path)
        elif inspections is not None:
            manifest = _describe(rows, inspections, digests, name=name, source=source, licence=licence)
            content = manifest.model_dump_json(indent=2).encode() + b"\n"
        if content is None:
            return self._upload_all(rows, there, digests), None
        key = self._key(DATASET)
        if key in there and not self._uploader.holds(key, hashlib.sha256(content).hexdigest()):
            self._uploader.delete(key)  # it would describe files that are being replaced
            del there[key]
        done = self._upload_all(rows, there, digests)
        done.append(self._uploader.upload_bytes(content, key, there=there.get(key), on_bytes=lambda _: None))
        return done, manifest

    def _upload_all(
        self, files: Sequence[SourceFile], there: Mapping[str, int], digests: Mapping[str, str]
    ) -> list[Uploaded]:
        pool = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="push")
        try:
            work = [pool.submit(self._upload, file, there, digests.get(file.name)) for file in files]
            wait(work, return_when=FIRST_EXCEPTION)
            return [each.result() for each in _failed_first(work)]
        finally:
            pool.shutdown(cancel_futures=True)

    def _upload(self, file: SourceFile, there: Mapping[str, int], sha256: str | None) -> Uploaded:
        key = self._key(file.name)

        def on_bytes(count: int) -> None:
            with self._lock:
                self._done += count
                fraction = min(1.0, self._done / self._total)
                self._on_progress(fraction, file.name)

        return self._uploader.upload(file, key, there=there.get(key), sha256=sha256, on_bytes=on_bytes)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def _failed_first(work: Sequence[Future[Uploaded]]) -> Sequence[Future[Uploaded]]:
    """The one that failed alone, if one did: the others were given up with it."""
    failed = [each for each in work if each.done() and each.exception() is not None]
    return failed[:1] or work


def _check_dataset(content: bytes, digests: Mapping[str, str], *, where: str) -> None:
    """Refuses a data set whose files are not the ones its dataset.json names."""
    try:
        named = {entry["path"]: entry["sha256"] for entry in json.loads(content)["files"]}
    except (ValueError, KeyError, TypeError) as error:
        raise OpsError(f"{where} is not a data set's description; build the data set again") from error
    folder = where.removesuffix(DATASET)
    for name in sorted(named.keys() | digests.keys()):
        if named.get(name) != digests.get(name):
            raise OpsError(
                f"{folder}{name} has SHA-256 {digests.get(name, 'none: it is missing')}, but {DATASET} says "
                f"{named.get(name, 'nothing of it')}; build the data set again"
            )


def _describe(
    files: Sequence[SourceFile],
    inspections: Mapping[str, Inspection],
    digests: Mapping[str, str],
    *,
    name: str,
    source: str,
    licence: str,
) -> DatasetManifest:
    """The description of a data set that has none; raises OpsError where its files have different columns."""
    first = inspections[files[0].name]
    for file in files:
        if set(inspections[file.name].columns) != set(first.columns):
            raise OpsError(
                f"{file.name} has the columns {', '.join(inspections[file.name].columns)}, but {first.name} has "
                f"{', '.join(first.columns)}; a data set's files have the same columns"
            )
    try:
        parts = tuple(
            DataFile(path=file.name, rows=inspections[file.name].rows, size=file.size, sha256=digests[file.name])
            for file in files
        )
        return DatasetManifest(
            name=name,
            columns=first.columns,
            rows=sum(part.rows for part in parts),
            bytes=sum(part.size for part in parts),
            files=parts,
            source=source,
            licence=licence,
            digest=dataset_digest(name, parts),
        )
    except ValidationError as error:
        wrong = error.errors()[0]
        raise OpsError(
            f"data set {name}: {wrong['loc'][0]} is {wrong['input']!r}: {wrong['msg']}; name it with small letters, "
            "digits, dots and hyphens"
        ) from error
