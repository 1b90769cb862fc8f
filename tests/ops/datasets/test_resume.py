"""However often a push is cut off: once it ends, every file is there once, as it is, and nothing is left behind."""

import dataclasses
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.s3 import models as moto_s3

from ops.datasets.push import Options, push
from ops.errors import OpsError
from tests.ops.datasets.conftest import FailingS3, content, ignore, make_bucket, write

PART = 1024


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moto_s3, "S3_UPLOAD_PART_MIN_SIZE", PART)


class Killed(BaseException):
    """As a process that is killed: no code of the push runs any more but what threads have begun."""


def attempt(client: Any, source: Path, bucket: str, options: Options, *, dies_after: int) -> bool:
    told = 0

    def on_progress(_fraction: float, _text: str) -> None:
        nonlocal told
        told += 1
        if told > dies_after:
            raise Killed

    try:
        push(client, [str(source)], f"s3://{bucket}/set", on_progress=on_progress, options=options)
    except (OpsError, Killed):
        return False
    return True


SIZES = st.lists(st.sampled_from([0, 1, PART - 1, PART, PART + 1, 3 * PART, 5 * PART + 7]), min_size=1, max_size=6)


@given(sizes=SIZES, seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.1, 0.4]))
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_push_that_is_cut_off_again_and_again_loses_and_doubles_nothing(
    failing_s3: FailingS3, s3: Any, sizes: list[int], seed: int, share: float
) -> None:
    luck = random.Random(seed)
    failing_s3.share, failing_s3.luck = 0.0, luck
    bucket = make_bucket(s3)
    files = {f"{number}.bin": luck.randbytes(size) for number, size in enumerate(sizes)}
    with tempfile.TemporaryDirectory() as directory:
        source = write(Path(directory) / "source", files)
        options = Options(journals=Path(directory) / "uploads", part_bytes=PART)
        for _ in range(6):
            failing_s3.share = share
            attempt(s3, source, bucket, options, dies_after=luck.randrange(12))
        failing_s3.share = 0.0
        assert attempt(s3, source, bucket, options, dies_after=10**9)
        assert content(s3, bucket) == {f"set/{name}": value for name, value in files.items()}
        pushed = push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options)
        assert [file.sent for file in pushed.files] == [0] * len(files)
        left = list(options.journals.iterdir()) if options.journals.exists() else []
        assert left == []


def test_parts_that_s3_has_are_not_sent_again(
    failing_s3: FailingS3, s3: Any, bucket: str, options: Options, tmp_path: Path
) -> None:
    options = dataclasses.replace(options, part_bytes=PART)
    source = write(tmp_path, {"big.bin": os.urandom(6 * PART)})
    real = s3.upload_part

    def third_fails(**arguments: Any) -> Any:
        if arguments["PartNumber"] == 3:
            raise Killed
        return real(**arguments)

    s3.upload_part = third_fails
    try:
        with pytest.raises(Killed):
            push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options)
    finally:
        s3.upload_part = real
    (file,) = push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options).files
    assert file.sent < 6 * PART
    assert file.sent >= PART
    assert content(s3, bucket)["set/big.bin"] == (tmp_path / "big.bin").read_bytes()


def test_a_file_that_changed_since_starts_anew(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    options = dataclasses.replace(options, part_bytes=PART)
    source = write(tmp_path, {"big.bin": b"a" * (4 * PART)})
    real = s3.complete_multipart_upload
    s3.complete_multipart_upload = lambda **_: (_ for _ in ()).throw(Killed)
    try:
        with pytest.raises(Killed):
            push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options)
    finally:
        s3.complete_multipart_upload = real
    changed = b"a" * (3 * PART) + b"b" * PART
    write(tmp_path, {"big.bin": changed})
    (file,) = push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options).files
    assert file.sent == 4 * PART
    assert content(s3, bucket)["set/big.bin"] == changed
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_a_file_that_changes_meanwhile_is_refused(s3: Any, bucket: str, options: Options, tmp_path: Path) -> None:
    options = dataclasses.replace(options, part_bytes=PART)
    source = write(tmp_path, {"big.bin": b"a" * (4 * PART)})
    real = s3.create_multipart_upload

    def and_somebody_writes(**arguments: Any) -> Any:
        (tmp_path / "big.bin").write_bytes(b"b" * (4 * PART))
        return real(**arguments)

    s3.create_multipart_upload = and_somebody_writes
    try:
        with pytest.raises(OpsError, match=r"big\.bin changed while it was pushed"):
            push(s3, [str(source)], f"s3://{bucket}/set", on_progress=ignore, options=options)
    finally:
        s3.create_multipart_upload = real
    assert content(s3, bucket) == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
