"""`python -m model_image bring`: brings the verified models and makes the certificate of another model server."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_image.artefacts import Manifest, fetch_from_s3, verify, verify_signed
from model_image.errors import Interrupted
from model_image.places import interruptible
from model_image.promotions import with_promotions
from model_image.settings import ModelSetting, Settings, SettingsError, read_settings
from model_image.tls import make_certificate


def main(argv: list[str], environment: Mapping[str, str]) -> int:
    """The exit code: 0, 2 for wrong usage or settings; raises ModelImageError where a model is not to be had."""
    if argv:
        sys.stderr.write(
            f"model_image bring takes no options ({argv[0]!r} given); settings are MODELKEEP_* variables\n"
        )
        return 2
    try:
        settings = read_settings(environment)
    except SettingsError as error:
        sys.stderr.write(f"model_image bring: {error}\n")
        return 2
    try:
        with interruptible():
            bring(with_promotions(settings), client=s3_client(settings))
    except Interrupted as stopped:
        sys.stderr.write(f"model_image bring: {stopped}\n")
        return stopped.exit_code
    return 0


def bring(settings: Settings, *, client: Any) -> None:
    """
    Brings every model of the settings, as `bring_one` does; makes a certificate in `tls_dir`.

    Raises ArtefactError and SettingsError.
    """
    for setting in settings.models:
        directory, _ = bring_one(settings, setting, client=client)
        sys.stdout.write(f"verified {directory}\n")
    if settings.tls_dir:
        certificate, _ = make_certificate(Path(settings.tls_dir), host=settings.host)
        sys.stdout.write(f"made {certificate}\n")


def bring_one(settings: Settings, setting: ModelSetting, *, client: Any) -> tuple[Path, Manifest]:
    """
    Brings one model from the bucket to `cache_dir/name/version`, verified: that directory and what it holds.

    Without a bucket, what is in `cache_dir` is verified, its signature only where the settings name keys. Raises
    ArtefactError for a model that is missing, altered or not signed by one of them, and SettingsError for one that was
    not made for its tasks.
    """
    keys = settings.signing_keys
    if settings.models_bucket:
        directory = fetch_from_s3(
            client,
            settings.models_bucket,
            setting.name,
            setting.version,
            settings.cache_dir,
            trusted=keys,
        )
    else:
        directory = settings.cache_dir / setting.name / setting.version
    manifest = verify_signed(directory, trusted=keys) if keys else verify(directory)
    setting.check(manifest)
    return directory, manifest


def s3_client(settings: Settings) -> Any:
    """A client for the bucket of the settings; None without one."""
    if not settings.models_bucket:
        return None
    import boto3  # noqa: PLC0415  (half a second that a directory without a bucket does not need)
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 5}))
