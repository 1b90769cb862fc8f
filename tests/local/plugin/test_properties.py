"""Property maps of the protocol: files, hashes, secrets and unknowns, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.archives import asset_bytes
from local.errors import LocalError
from local.plugin.failures import PluginError, told
from local.plugin.properties import read_properties, with_files_of_hash
from local.secrecy import redacted
from local.wire import SIGNATURE, UNKNOWN, Archive, Asset, decode, encode

leaves = st.one_of(
    st.text(max_size=5),
    st.integers(-1000, 1000),
    st.booleans(),
    st.just(UNKNOWN),
    st.builds(Asset, text=st.text(max_size=5), hash=st.one_of(st.none(), st.text("0123456789abcdef", min_size=8))),
    st.builds(Asset, hash=st.text("0123456789abcdef", min_size=8)),
    st.builds(Archive, path=st.just("code"), hash=st.one_of(st.none(), st.text("0123456789abcdef", min_size=8))),
)
names = st.text("abcdefgh", min_size=1, max_size=4)
maps = st.dictionaries(
    names, st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner)))
)


@given(values=maps, secret=st.sets(names))
def test_what_comes_goes_back_as_it_came(values: dict[str, Any], secret: set[str]) -> None:
    secrets = {(name,) for name in secret if name in values}
    struct = encode(values, secrets)
    assert decode(struct) == (values, secrets)
    properties = read_properties(struct, directory=Path("/program"))
    assert properties.as_sent(properties.values) == values
    assert decode(properties.outputs(properties.values)) == (values, secrets)


@pytest.mark.parametrize(
    "text",
    [
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    ],
)
def test_an_unknown_of_any_type_is_unknown(text: str) -> None:
    assert decode(encode({"a": [text]})) == ({"a": [UNKNOWN]}, set())


def test_paths_are_the_programs_to_the_engine_and_found_here(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("moin", encoding="utf-8")
    sent = {"file": Asset(path="a.txt", hash="12345678"), "code": Archive(assets={"a": Asset(path="a.txt")})}
    properties = read_properties(encode(sent), directory=tmp_path)
    assert asset_bytes(properties.values["file"]) == b"moin"
    assert asset_bytes(properties.values["code"].assets["a"]) == b"moin"
    struct = properties.outputs({**properties.values, "arn": "arn:x"})
    assert decode(struct)[0] == {**sent, "arn": "arn:x"}
    assert str(tmp_path) not in str(struct)
    assert struct["file"][SIGNATURE] == "c44067f5952c0a294b673a41bacd8c17"


def test_files_that_came_as_a_hash_are_taken_from_the_new_values() -> None:
    new = {"code": Archive(path="code", hash="aaaaaaaa"), "file": Asset(text="x", hash="bbbbbbbb")}
    old = {"code": Archive(hash="aaaaaaaa"), "list": [Asset(hash="bbbbbbbb"), Asset(hash="cccccccc"), 1]}
    assert with_files_of_hash(old, new) == {
        "code": new["code"],
        "list": [new["file"], Asset(hash="cccccccc"), 1],
    }
    with pytest.raises(LocalError, match="an asset has neither path nor text"):
        asset_bytes(Asset(hash="cccccccc"))


def test_secrets_of_every_property_map_are_taken_out_of_a_failure() -> None:
    one = read_properties(encode({"a": {"b": "hunter2"}}, {("a", "b")}), directory=Path("/"))
    two = read_properties(encode({"list": ["tricky", "plain"]}, {("list", 0)}), directory=Path("/"))
    with pytest.raises(PluginError, match=r"^no <secret>, no <secret>, but plain$"), told(one, two):
        raise LocalError("no hunter2,\nno tricky, but plain")
    files = Archive(assets={"a.txt": "hidden"})
    assert redacted("is hidden", {"code": files}, {("code", "a.txt")}) == "is <secret>"
