"""An artefact is refused for every way in which it is not exactly what its manifest says."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_image.artefacts import new_artefact, read_manifest, remove_abandoned, verify, write_manifest
from model_image.errors import ArtefactError

FILES = {"config.json": b'{"a": 1}', "model.safetensors": bytes(range(256)) * 3, "1_Pooling/config.json": b"{}"}


def make(directory: Path) -> Path:
    for name, content in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    write_manifest(
        directory, name="tiny", version="1", tasks=["completions"], architecture="GPT2LMHeadModel", metrics={"a": 0.5}
    )
    return directory


def change_manifest(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return make(tmp_path / "tiny" / "1")


def test_a_whole_artefact_is_verified_and_described(artefact: Path) -> None:
    manifest = verify(artefact)
    assert manifest == read_manifest(artefact)
    assert [entry.path for entry in manifest.files] == sorted(FILES)
    assert manifest.metrics == {"a": 0.5}
    assert manifest.created.tzinfo is not None


def test_the_digest_depends_on_the_bytes_alone(artefact: Path, tmp_path: Path) -> None:
    change_manifest(artefact, created="2001-01-01T00:00:00Z")
    other = make(tmp_path / "other" / "1")
    assert read_manifest(artefact).digest == read_manifest(other).digest
    (other / "config.json").write_bytes(b"{}")
    changed = write_manifest(other, name="tiny", version="1", tasks=["completions"], architecture="X")
    assert changed.digest != read_manifest(artefact).digest


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_in_any_file_is_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    artefact = make(tmp_path_factory.mktemp("flip"))
    name = data.draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (artefact / name).write_bytes(content)
    with pytest.raises(ArtefactError, match="SHA-256") as refused:
        verify(artefact)
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.sampled_from(["..", "a", "", "."]), min_size=1, max_size=4).filter(
        lambda steps: ".." in steps or "" in steps or "." in steps
    ),
    absolute=st.booleans(),
)
def test_any_path_out_of_the_directory_is_refused(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], absolute: bool
) -> None:
    artefact = make(tmp_path_factory.mktemp("path"))
    path = ("/" if absolute else "") + "/".join([*steps, "model.safetensors"])
    change_manifest(artefact, files=[{"path": path, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(ArtefactError, match="leaves the artefact's directory"):
        verify(artefact)


@pytest.mark.parametrize("path", ["a\\..\\b.json", "C:evil.json", "a\nb.json", "nul\0.json"])
def test_paths_that_only_some_systems_read_as_escaping_are_refused(artefact: Path, path: str) -> None:
    change_manifest(artefact, files=[{"path": path, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(ArtefactError) as refused:
        verify(artefact)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a.pt", "a.PKL", "deep/a.ckpt", "a.joblib"])
def test_a_pickle_is_refused_listed_or_not(artefact: Path, name: str) -> None:
    (artefact / name).parent.mkdir(exist_ok=True)
    (artefact / name).write_bytes(b"x")
    with pytest.raises(ArtefactError, match="pickle"):
        verify(artefact)
    with pytest.raises(ArtefactError, match="pickle"):
        write_manifest(artefact, name="tiny", version="1", tasks=["chat"], architecture="X")
    (artefact / name).unlink()
    change_manifest(artefact, files=[{"path": name, "size": 1, "sha256": "0" * 64}])
    with pytest.raises(ArtefactError, match="pickle"):
        verify(artefact)


def test_code_is_refused(artefact: Path) -> None:
    (artefact / "modeling_tiny.py").write_text("print(1)")
    with pytest.raises(ArtefactError, match=r"modeling_tiny\.py"):
        verify(artefact)


def test_an_unlisted_file_is_refused(artefact: Path) -> None:
    (artefact / "extra.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"extra\.json is not in the manifest"):
        verify(artefact)


def test_a_missing_file_and_one_of_another_size_are_refused(artefact: Path) -> None:
    (artefact / "config.json").write_bytes(b'{"a": 12}')
    with pytest.raises(ArtefactError, match=r"config\.json has 9 bytes, expected 8"):
        verify(artefact)
    (artefact / "config.json").unlink()
    with pytest.raises(ArtefactError, match=r"config\.json is missing"):
        verify(artefact)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_symbolic_links_are_refused(artefact: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_bytes(FILES["config.json"])
    name = "config.json" if kind == "file" else "1_Pooling"
    target = outside / "config.json" if kind == "file" else outside
    (artefact / name).rename(tmp_path / "moved")
    (artefact / name).symlink_to(target)
    with pytest.raises(ArtefactError, match="symbolic link"):
        verify(artefact)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"name": "../evil"}, "name"),
        ({"version": ".."}, "version"),
        ({"tasks": []}, "tasks"),
        ({"tasks": ["telepathy"]}, "tasks.0"),
        ({"surprise": 1}, "surprise"),
        ({"files": []}, "files"),
        ({"files": [{"path": "a.json", "size": -1, "sha256": "0" * 64}]}, "files.0.size"),
        ({"files": [{"path": "a.json", "size": 1, "sha256": "xyz"}]}, "files.0.sha256"),
        ({"files": [{"path": "a.json", "size": 1, "sha256": "0" * 64}] * 2}, "twice"),
        ({"files": [{"path": "manifest.json", "size": 1, "sha256": "0" * 64}]}, "itself"),
    ],
)
def test_a_malformed_manifest_is_refused_by_the_name_of_its_field(
    artefact: Path, changes: dict[str, object], said: str
) -> None:
    change_manifest(artefact, **changes)
    with pytest.raises(ArtefactError) as refused:
        read_manifest(artefact)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_manifest_and_no_json_are_refused(tmp_path: Path, artefact: Path) -> None:
    with pytest.raises(ArtefactError, match=r"manifest\.json is missing"):
        verify(tmp_path)
    (artefact / "manifest.json").write_text("{")
    with pytest.raises(ArtefactError, match="not JSON"):
        verify(artefact)


def test_an_artefact_that_fails_half_way_leaves_nothing_and_keeps_the_old(tmp_path: Path) -> None:
    make_in_models(tmp_path)
    before = read_manifest(tmp_path / "tiny" / "1")
    with pytest.raises(FileNotFoundError), new_artefact(tmp_path, "tiny", "1") as building:
        make(building).joinpath("never", "there.json").write_text("{}")
    assert verify(tmp_path / "tiny" / "1") == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_new_artefact_replaces_the_old_one_whole(tmp_path: Path) -> None:
    make_in_models(tmp_path)
    (tmp_path / "tiny" / "1" / "stale.json").write_text("{}")
    make_in_models(tmp_path)
    verify(tmp_path / "tiny" / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def make_in_models(models: Path) -> None:
    with new_artefact(models, "tiny", "1") as building:
        make(building)


def test_only_what_dead_builders_left_is_removed(tmp_path: Path) -> None:
    dead = tmp_path / ".building-999999999-abc"  # above every possible process id
    alive = tmp_path / f".building-{os.getpid()}-abc"
    for directory in (dead, alive, tmp_path / "tiny"):
        directory.mkdir()
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name, "tiny"]
