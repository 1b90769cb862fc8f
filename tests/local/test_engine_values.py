"""Values on the wire, files as archives, and what may be seen of either."""

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.archives import archive_files, describe, resolve, zip_archive
from local.errors import LocalError
from local.images import context_digest, ignore_patterns, ignored
from local.records import masked
from local.wire import (
    SECRET,
    SIGNATURE,
    UNKNOWN,
    Archive,
    Asset,
    decode,
    encode,
    has_unknown,
    replace_secrets,
    show_path,
    unknown_paths,
)

keys = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=5)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(max_size=8)
    | st.just(UNKNOWN)
    | st.builds(Asset, text=st.text(max_size=5))
    | st.builds(
        Archive, assets=st.dictionaries(keys, st.builds(Asset, path=st.text(min_size=1, max_size=5)), max_size=2)
    )
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
maps = st.dictionaries(keys, values, max_size=4)


@given(maps, st.data())
def test_values_and_secret_marks_survive_the_wire(value: dict[str, Any], data: st.DataObject) -> None:
    secrets = {(key,) for key in value if data.draw(st.booleans())}
    assert decode(encode(value, secrets)) == (value, secrets)


def test_a_nested_secret_is_marked_where_it_is() -> None:
    value = {"a": [{"b": "hidden", "c": 1}]}
    struct = encode(value, {("a", 0, "b")})
    assert struct["a"][0]["b"][SIGNATURE] == SECRET
    assert decode(struct) == (value, {("a", 0, "b")})


@given(maps)
def test_unknowns_are_found_where_they_are(value: dict[str, Any]) -> None:
    found = list(unknown_paths(value))
    assert has_unknown(value) == bool(found)
    for path in found:
        step: Any = value
        for part in path:
            step = step[part]
        assert step is UNKNOWN


def test_what_people_see_has_neither_secrets_nor_markers() -> None:
    values = {"z": UNKNOWN, "a": {"password": "hunter2", "list": [1, UNKNOWN]}, "file": Asset(text="hello")}
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert masked(values, frozenset({("a", "password")})) == {
        "a": {"list": [1, "<unknown>"], "password": "<secret>"},
        "file": {"asset": digest},
        "z": "<unknown>",
    }
    assert replace_secrets(values, {()}, lambda _: "gone") == "gone"
    assert show_path(("rules", 0, "name")) == "rules[0].name"


def test_equal_files_make_equal_zips(tmp_path: Path) -> None:
    (tmp_path / "pack" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pack" / "__pycache__" / "x.pyc").write_bytes(b"noise")
    (tmp_path / "pack" / "one.py").write_text("1", encoding="utf-8")
    archive = resolve(
        Archive(assets={"b.txt": Asset(text="B"), "lib": Archive(path="pack"), "a.py": Asset(path="pack/one.py")}),
        directory=tmp_path,
    )
    assert archive_files(archive) == {"a.py": b"1", "b.txt": b"B", "lib/one.py": b"1"}
    first = zip_archive(archive)
    (tmp_path / "pack" / "one.py").touch()
    assert zip_archive(archive) == first
    assert zipfile.ZipFile(io.BytesIO(first)).namelist() == ["a.py", "b.txt", "lib/one.py"]
    assert list(describe(archive)["archive"]) == ["a.py", "b.txt", "lib/one.py"]
    (tmp_path / "pack" / "one.py").write_text("2", encoding="utf-8")
    assert zip_archive(archive) != first


def test_a_missing_asset_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"asset .*/gone\.py cannot be read \(No such file or directory\)"):
        zip_archive(Archive(assets={"gone.py": Asset(path=str(tmp_path / "gone.py"))}))


@pytest.mark.parametrize(
    ("patterns", "let_in", "kept_out"),
    [
        ("*\n!model_image\n!README.md", ["model_image/app.py", "README.md"], ["local/x.py", "LICENSE", "README.md2"]),
        ("**/*.pyc\n.venv", ["a/b.py", "venv/x"], ["a.pyc", "a/b/c.pyc", ".venv/lib/x.py"]),
        ("# note\n\n/docs/*.md\n!docs/keep.md", ["docs/a/b.md", "docs/keep.md", "x.md"], ["docs/a.md"]),
        ("a/**\n!a/b/**", ["a/b/c", "b"], ["a/c", "a/c/d"]),
        ("te?t", ["tests", "tet"], ["test", "text/x"]),
    ],
)
def test_dockerignore_decides_what_goes_into_the_build(patterns: str, let_in: list[str], kept_out: list[str]) -> None:
    compiled = ignore_patterns(patterns)
    assert [name for name in let_in if ignored(name, compiled)] == []
    assert [name for name in kept_out if not ignored(name, compiled)] == []


def test_an_image_digest_is_that_of_the_files_in_its_context(tmp_path: Path) -> None:
    for name, content in {
        ".dockerignore": "*\n!app\n**/*.pyc",
        "Dockerfile": "FROM x",
        "app/deep/a.py": "a",
        "big/x": "1",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def digest() -> str:
        return context_digest(context=tmp_path, dockerfile=tmp_path / "Dockerfile")

    first = digest()
    (tmp_path / "big" / "x").write_text("2", encoding="utf-8")
    (tmp_path / "app" / "deep" / "a.pyc").write_text("3", encoding="utf-8")
    assert digest() == first
    (tmp_path / "app" / "deep" / "a.py").write_text("b", encoding="utf-8")
    changed = digest()
    assert changed != first
    (tmp_path / "Dockerfile").write_text("FROM y", encoding="utf-8")
    assert digest() not in (first, changed)
