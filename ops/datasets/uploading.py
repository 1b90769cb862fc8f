"""Puts files into S3: small ones in one call, large ones in parts, each with its SHA-256, which S3 checks."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ops.datasets.journal import Journal
from ops.datasets.sources import Digests, SourceFile
from ops.errors import OpsError

OnBytes = Callable[[int], None]
"""Told how many bytes more are where they belong."""
PART_BYTES = 8 << 20
_MOST_PARTS = 10_000  # of one multipart upload (S3's own limit)
_PART_THREADS = 8
_NOT_AS_SAID = "BadDigest"  # the content has another checksum than was announced
_GONE = frozenset({"404", "NoSuchKey", "NotFound"})


@dataclass(frozen=True)
class Uploaded:
    """An object as it lies in the bucket now; `sent` is how many bytes of it went over the network this time."""

    key: str
    size: int
    sha256: str
    sent: int


class Uploader:
    """Uploads to one bucket; its methods may be called from several threads."""

    def __init__(self, client: Any, *, bucket: str, journals: Path, part_bytes: int = PART_BYTES) -> None:
        self._client = client
        self._bucket = bucket
        self._journals = journals
        self._part_bytes = part_bytes
        self._parts = ThreadPoolExecutor(_PART_THREADS, thread_name_prefix="part")
        self._journal_lock = threading.Lock()

    def close(self) -> None:
        """Ends the threads; parts that have not begun are left."""
        self._parts.shutdown(cancel_futures=True)

    def sizes(self, prefix: str) -> dict[str, int]:
        """The objects below a prefix and their sizes in bytes."""
        with s3_errors(f"s3://{self._bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return {each["Key"]: int(each["Size"]) for page in pages for each in page.get("Contents", [])}

    def upload(
        self, file: SourceFile, key: str, *, there: int | None, sha256: str | None, on_bytes: OnBytes
    ) -> Uploaded:
        """
        Bring the file to `key` unless it is there, and return what lies there.

        `there` is the size of what is at the key, if anything; `sha256` is what the file is known to have. Raises
        OpsError, also for a file that changes while it is pushed.
        """
        if file.size <= self._part_bytes:
            with file.open() as stream:
                content = stream.read(self._part_bytes + 1)
            found = hashlib.sha256(content).hexdigest()
            if len(content) != file.size or (sha256 is not None and found != sha256):
                raise _changed(file)
            return self.upload_bytes(content, key, there=there, on_bytes=on_bytes)
        digests = file.digests(max(self._part_bytes, -(-file.size // _MOST_PARTS)))
        if sha256 is not None and digests.sha256 != sha256:
            raise _changed(file)
        sent = 0
        if there == file.size and self.holds(key, digests.sha256):
            Journal.read(self._journals, bucket=self._bucket, key=key).end()  # of an upload whose end was not told
            on_bytes(file.size)
        else:
            sent = self._upload_parts(file, key, digests, on_bytes=on_bytes)
        return Uploaded(key=key, size=file.size, sha256=digests.sha256, sent=sent)

    def upload_bytes(self, content: bytes, key: str, *, there: int | None, on_bytes: OnBytes) -> Uploaded:
        """As `upload`, for what is in memory."""
        digest = hashlib.sha256(content)
        sha256, size = digest.hexdigest(), len(content)
        sent = 0
        if there != size or not self.holds(key, sha256):
            with s3_errors(f"s3://{self._bucket}/{key}"):
                self._client.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=content,
                    ChecksumAlgorithm="SHA256",
                    ChecksumSHA256=_base64(digest.digest()),
                    Metadata={"sha256": sha256},
                )
            sent = size
        on_bytes(size)
        return Uploaded(key=key, size=size, sha256=sha256, sent=sent)

    def delete(self, key: str) -> None:
        """Take an object out of sight; a versioned bucket keeps it as an older version."""
        with s3_errors(f"s3://{self._bucket}/{key}"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def holds(self, key: str, sha256: str) -> bool:
        """Whether the object at `key` is there and is the one with that SHA-256."""
        with s3_errors(f"s3://{self._bucket}/{key}"):
            try:
                answer = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) in _GONE:
                    return False
                raise
        return bool(answer.get("Metadata", {}).get("sha256") == sha256)

    def _upload_parts(self, file: SourceFile, key: str, digests: Digests, *, on_bytes: OnBytes) -> int:
        journal = self._journal(key, digests)
        try:
            sent = self._send_parts(file, key, journal, digests, on_bytes=on_bytes)
        except _ChangedError:
            with s3_errors(f"s3://{self._bucket}/{key}"):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=journal.upload_id)
            journal.end()
            raise
        with s3_errors(f"s3://{self._bucket}/{key}"):
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=journal.upload_id, MultipartUpload={"Parts": journal.listed()}
            )
        journal.end()
        if not self.holds(key, digests.sha256):
            raise OpsError(f"s3://{self._bucket}/{key} is not what was uploaded; push again")
        return sent

    def _send_parts(self, file: SourceFile, key: str, journal: Journal, digests: Digests, *, on_bytes: OnBytes) -> int:
        """Sends the parts that S3 has not yet; how many bytes those were."""
        slots, work = threading.Semaphore(2 * _PART_THREADS), []
        try:
            with file.open() as stream:
                for number, sha256 in enumerate(digests.parts, start=1):
                    size = min(digests.part_bytes, file.size - (number - 1) * digests.part_bytes)
                    if journal.parts.get(number, ("", ""))[0] == sha256:
                        stream.seek(size, io.SEEK_CUR)
                        on_bytes(size)
                        continue
                    slots.acquire()  # no more of the file in memory than is on its way
                    content = stream.read(size)
                    each = self._parts.submit(
                        self._part, file, content, key=key, journal=journal, number=number, on_bytes=on_bytes,
                        sha256=sha256,
                    )  # fmt: skip
                    each.add_done_callback(lambda _: slots.release())
                    work.append(each)
                if stream.read(1):
                    raise _changed(file)
            return sum(each.result() for each in work)
        finally:
            for each in work:
                each.cancel()
            wait(work)

    def _journal(self, key: str, digests: Digests) -> Journal:
        """The journal of an upload that goes on, or of a new one."""
        journal = Journal.read(self._journals, bucket=self._bucket, key=key)
        wanted = (digests.sha256, digests.part_bytes)
        with s3_errors(f"s3://{self._bucket}/{key}"):
            if journal.upload_id:
                taken = self._taken(key, journal.upload_id)
                if taken is not None and (journal.sha256, journal.part_bytes) == wanted:
                    journal.parts = {
                        number: part for number, part in journal.parts.items() if taken.get(number) == part[1]
                    }
                    return journal
                if taken is not None:
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=journal.upload_id)
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256", Metadata={"sha256": digests.sha256}
            )
        journal.begin(upload_id=begun["UploadId"], sha256=digests.sha256, part_bytes=digests.part_bytes)
        return journal

    def _taken(self, key: str, upload_id: str) -> dict[int, str] | None:
        """ETags of the parts that S3 has; None when it knows no such upload any more."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=upload_id)
        try:
            return {each["PartNumber"]: each["ETag"] for page in pages for each in page.get("Parts", [])}
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":
                return None
            raise

    def _part(
        self,
        file: SourceFile,
        content: bytes,
        *,
        key: str,
        journal: Journal,
        number: int,
        sha256: str,
        on_bytes: OnBytes,
    ) -> int:
        """Bring one part; returns its bytes. S3 itself finds out whether they are still those of `sha256`."""
        with s3_errors(f"s3://{self._bucket}/{key}"):
            try:
                answer = self._client.upload_part(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=journal.upload_id,
                    PartNumber=number,
                    Body=content,
                    ChecksumSHA256=_base64(bytes.fromhex(sha256)),
                )
            except ClientError as error:
                if error_code(error) == _NOT_AS_SAID:
                    raise _changed(file) from error
                raise
        with self._journal_lock:
            journal.add(number, sha256=sha256, etag=answer["ETag"])
        on_bytes(len(content))
        return len(content)


class _ChangedError(OpsError):
    """A file is not any more what it was when it was first read."""


def _changed(file: SourceFile) -> _ChangedError:
    return _ChangedError(f"{file.path} changed while it was pushed; push it when nothing writes to it")


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def refuse_unencrypted(client: Any, bucket: str) -> None:
    """Raises OpsError unless everything that is put into the bucket is encrypted with a KMS key."""
    try:
        with s3_errors(f"s3://{bucket}"):
            answer = client.get_bucket_encryption(Bucket=bucket)
    except OpsError as error:
        if error_code(error.__cause__) == "ServerSideEncryptionConfigurationNotFoundError":
            raise _unencrypted(bucket, "none") from error
        raise
    rules: list[Mapping[str, Any]] = answer["ServerSideEncryptionConfiguration"]["Rules"]
    kinds = [str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm")) for rule in rules]
    if not kinds or any(not kind.startswith("aws:kms") for kind in kinds):
        raise _unencrypted(bucket, ", ".join(kinds) or "none")


def _unencrypted(bucket: str, found: str) -> OpsError:
    return OpsError(
        f"bucket {bucket} has the default encryption {found}, not one by a KMS key (aws:kms); nothing was uploaded: "
        f"use the stack's data bucket"
    )


def error_code(error: BaseException | None) -> str:
    """The code of S3's answer; empty where it is none."""
    return str(error.response.get("Error", {}).get("Code")) if isinstance(error, ClientError) else ""


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """S3's failures as OpsError, in one line."""
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        remedy = "name an existing bucket" if code in {"NoSuchBucket", "404"} else "check the bucket and your rights"
        raise OpsError(f"{where}: S3 answered {code}; {remedy}") from error
    except BotoCoreError as error:
        raise OpsError(f"{where}: {error.__class__.__name__}; check the S3 endpoint and the credentials") from error
