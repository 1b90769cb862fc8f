"""Text transformations: worked examples, and invariants."""

import base64
import hashlib
import html
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.edge.waf.transformations import TRANSFORMATIONS, compile_transformations
from local.errors import LocalError

EXAMPLES = [
    ("LOWERCASE", b"<ScRiPt>", b"<script>"),
    ("UPPERCASE", b"abc", b"ABC"),
    ("URL_DECODE", b"%3Cscript%3e+x%zz", b"<script> x%zz"),
    ("URL_DECODE_UNI", b"%u003cscript%uff1e%3c", b"<script><"),
    ("HTML_ENTITY_DECODE", b"&lt;script&#62;&#x41;&quot;", b'<script>A"'),
    ("COMPRESS_WHITE_SPACE", b"a \t\r\n\x0b\x0c b\xc2\xa0\xc2\xa0c", b"a b c"),
    ("REMOVE_WHITESPACE", b" a\tb\n", b"ab"),
    ("CMD_LINE", b'C^md.exe "/c"  , DIR;x (y', b"cmd.exe/c dir x(y"),
    ("BASE64_DECODE", b"aGVsbG8=", b"hello"),
    ("BASE64_DECODE", b"aGVsbG8!aGVs", b"hello"),
    ("BASE64_DECODE_EXT", b"aG Vs-bG!8=", base64.b64decode(b"aGVs+bG8")),
    ("HEX_DECODE", b"68 65 6c", b"hel"),
    ("HEX_DECODE", b"zz", b"zz"),
    ("SQL_HEX_DECODE", b"0x414243 rest", b"ABC rest"),
    ("ESCAPE_SEQ_DECODE", rb"\x41\u0042\103\n\\", b"ABC\n\\"),
    ("JS_DECODE", rb"\u0024{jndi:", b"${jndi:"),
    ("CSS_DECODE", rb"ja\vascript \41 b", b"javascript Ab"),
    ("REPLACE_COMMENTS", b"a/* x */b/* open", b"a b "),
    ("REMOVE_NULLS", b"a\0b", b"ab"),
    ("REPLACE_NULLS", b"a\0b", b"a b"),
    ("NORMALIZE_PATH", b"/a//b/./c/../d/", b"/a/b/d/"),
    ("NORMALIZE_PATH", b"../../a/../b", b"../../b"),
    ("NORMALIZE_PATH_WIN", rb"\a\..\b", b"/b"),
    ("TRIM", b" \ta \n", b"a"),
    ("TRIM_LEFT", b" a ", b"a "),
    ("TRIM_RIGHT", b" a ", b" a"),
    ("MD5", b"a", bytes.fromhex("0cc175b9c0f1b6a831c399e269772661")),
    ("SHA256", b"a", hashlib.sha256(b"a").digest()),
    ("UTF8_TO_UNICODE", "aé".encode(), b"a%u00e9"),
]


@pytest.mark.parametrize(("kind", "value", "expected"), EXAMPLES)
def test_examples(kind: str, value: bytes, expected: bytes) -> None:
    assert TRANSFORMATIONS[kind](value) == expected


def test_every_transformation_has_an_example() -> None:
    assert {kind for kind, _, _ in EXAMPLES} == set(TRANSFORMATIONS)


@given(value=st.binary(max_size=200), kind=st.sampled_from(sorted(TRANSFORMATIONS)))
def test_every_input_is_transformed(value: bytes, kind: str) -> None:
    assert isinstance(TRANSFORMATIONS[kind](value), bytes)


IDEMPOTENT = [
    "LOWERCASE",
    "COMPRESS_WHITE_SPACE",
    "CMD_LINE",
    "REMOVE_NULLS",
    "NORMALIZE_PATH",
    "TRIM",
    "REMOVE_WHITESPACE",
]


@given(value=st.binary(max_size=100), kind=st.sampled_from(IDEMPOTENT))
def test_normal_forms_stay_as_they_are(value: bytes, kind: str) -> None:
    once = TRANSFORMATIONS[kind](value)
    assert TRANSFORMATIONS[kind](once) == once


@given(value=st.binary(max_size=100))
def test_decoders_undo_their_encoders(value: bytes) -> None:
    assert TRANSFORMATIONS["URL_DECODE"](quote_from_bytes(value, safe="").encode()) == value
    assert TRANSFORMATIONS["BASE64_DECODE"](base64.b64encode(value)) == value
    assert TRANSFORMATIONS["HEX_DECODE"](value.hex().encode()) == value


@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=50))
def test_html_entities_are_decoded(text: str) -> None:
    assert TRANSFORMATIONS["HTML_ENTITY_DECODE"](html.escape(text).encode()) == text.encode()


def test_order_is_by_priority_and_unknown_types_are_errors() -> None:
    order = compile_transformations(
        [{"Priority": 2, "Type": "LOWERCASE"}, {"Priority": 0, "Type": "NONE"}, {"Priority": 1, "Type": "URL_DECODE"}],
        where="rule r",
    )
    assert order == (TRANSFORMATIONS["URL_DECODE"], TRANSFORMATIONS["LOWERCASE"])
    with pytest.raises(LocalError, match="rule r: text transformation CMD_LINE_WIN"):
        compile_transformations([{"Priority": 0, "Type": "CMD_LINE_WIN"}], where="rule r")
