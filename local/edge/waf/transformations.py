"""Text transformations, as "Text transformation options" in the AWS WAF Developer Guide describes them."""

import base64
import binascii
import hashlib
import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from local.edge.waf.inspected import Transform
from local.edge.waf.members import members, required
from local.errors import LocalError

WHITE = b" \t\n\r\f\v"
BASE64_TEXT = re.compile(rb"[A-Za-z0-9+/]*")
ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|([0-7]{1,3})|(.))", re.DOTALL)
CSS_ESCAPE = re.compile(rb"\\(?:([0-9A-Fa-f]{1,6})[ \t\n\r\f]?|(\n)|(.))", re.DOTALL)
UNICODE_ESCAPE = re.compile(rb"%u([0-9A-Fa-f]{4})")
FULL_WIDTH = 0xFF00  # the full-width ASCII block, which URL_DECODE_UNI and JS_DECODE fold to ASCII


def _compress(value: bytes) -> bytes:
    return re.sub(rb"[ \t\n\r\f\v\xa0]+", b" ", value.replace(b"\xc2\xa0", b" "))


def _command_line(value: bytes) -> bytes:
    value = re.sub(rb"[\\\"'^]", b"", value)
    value = re.sub(rb"[,;]", b" ", value)
    value = re.sub(rb"\s+", b" ", value)
    return re.sub(rb" +(?=[/(])", b"", value).lower()


def _html_entities(value: bytes) -> bytes:
    return html.unescape(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogatepass")


def _url_decode(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))


def _code_point(digits: bytes) -> bytes:
    number = int(digits, 16)
    if FULL_WIDTH < number < FULL_WIDTH + 0x5F:
        number = number - FULL_WIDTH + 0x20
    return chr(number).encode("utf-8", "surrogatepass") if number < 0x110000 else b""


def _url_decode_unicode(value: bytes) -> bytes:
    return _url_decode(UNICODE_ESCAPE.sub(lambda found: _code_point(found[1]), value))


def _base64(value: bytes) -> bytes:
    """Decode up to the first character that is not base64, as a strict decoder does; nothing decodes to nothing."""
    found = BASE64_TEXT.match(value)
    return _padded(found.group() if found else b"")


def _base64_forgiving(value: bytes) -> bytes:
    return _padded(re.sub(rb"[^A-Za-z0-9+/]", b"", value.replace(b"-", b"+").replace(b"_", b"/")))


def _padded(value: bytes) -> bytes:
    if len(value) % 4 == 1:
        value = value[:-1]
    return base64.b64decode(value + b"=" * (-len(value) % 4))


def _hex_decode(value: bytes) -> bytes:
    text = re.sub(rb"\s+", b"", value)
    try:
        return binascii.unhexlify(text)
    except binascii.Error:
        return value


def _sql_hex(value: bytes) -> bytes:
    return re.sub(rb"0[xX]((?:[0-9A-Fa-f]{2})+)", lambda found: binascii.unhexlify(found[1]), value)


def _escape(found: re.Match[bytes]) -> bytes:
    if found[1] is not None:
        return bytes([int(found[1], 16)])
    if found[2] is not None:
        return _code_point(found[2])
    if found[3] is not None:
        return bytes([int(found[3], 8) & 0xFF])
    return ESCAPES.get(found[4], found[4])


def _css_escape(found: re.Match[bytes]) -> bytes:
    return _code_point(found[1]) if found[1] is not None else b"" if found[2] is not None else found[3]


def _comments(value: bytes, replacement: bytes) -> bytes:
    """Each `/* … */` becomes one replacement, and so does an opened comment that never ends."""
    return re.sub(rb"/\*.*?(?:\*/|\Z)", replacement, value, flags=re.DOTALL)


def _normalise(value: bytes) -> bytes:
    """Drop repeated slashes, `.` segments, and `..` segments with what they cancel, but none at the beginning."""
    absolute, trailing = value.startswith(b"/"), value.endswith(b"/")
    kept: list[bytes] = []
    for part in value.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b".." and kept and kept[-1] != b"..":
            kept.pop()
        elif part != b".." or not absolute:
            kept.append(part)
    path = (b"/" if absolute else b"") + b"/".join(kept)
    return path + b"/" if trailing and kept else path


def _to_unicode(value: bytes) -> bytes:
    text = value.decode("utf-8", "surrogateescape")
    return "".join(c if ord(c) < 0x80 else f"%u{ord(c):04x}" for c in text).encode("ascii")


TRANSFORMATIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "BASE64_DECODE": _base64,
    "BASE64_DECODE_EXT": _base64_forgiving,
    "CMD_LINE": _command_line,
    "COMPRESS_WHITE_SPACE": _compress,
    "CSS_DECODE": lambda value: CSS_ESCAPE.sub(_css_escape, value),
    "ESCAPE_SEQ_DECODE": lambda value: ESCAPE.sub(_escape, value),
    "HEX_DECODE": _hex_decode,
    "HTML_ENTITY_DECODE": _html_entities,
    "JS_DECODE": lambda value: ESCAPE.sub(_escape, value),
    "LOWERCASE": bytes.lower,
    "MD5": lambda value: hashlib.md5(value, usedforsecurity=False).digest(),
    "NORMALIZE_PATH": _normalise,
    "NORMALIZE_PATH_WIN": lambda value: _normalise(value.replace(b"\\", b"/")),
    "REMOVE_NULLS": lambda value: value.replace(b"\0", b""),
    "REMOVE_WHITESPACE": lambda value: re.sub(rb"[ \t\n\r\f\v\xa0]+", b"", value.replace(b"\xc2\xa0", b"")),
    "REPLACE_COMMENTS": lambda value: _comments(value, b" "),
    "REPLACE_NULLS": lambda value: value.replace(b"\0", b" "),
    "SHA256": lambda value: hashlib.sha256(value).digest(),
    "SQL_HEX_DECODE": _sql_hex,
    "TRIM": lambda value: value.strip(WHITE),
    "TRIM_LEFT": lambda value: value.lstrip(WHITE),
    "TRIM_RIGHT": lambda value: value.rstrip(WHITE),
    "UPPERCASE": bytes.upper,
    "URL_DECODE": _url_decode,
    "URL_DECODE_UNI": _url_decode_unicode,
    "UTF8_TO_UNICODE": _to_unicode,
}


def compile_transformations(specs: Sequence[Mapping[str, Any]], *, where: str) -> tuple[Transform, ...]:
    """The transformations in order of priority, `NONE` left out; raises LocalError for a type not known."""
    found: list[tuple[int, str]] = []
    for spec in specs:
        known = members(spec, known=("Priority", "Type"), where=f"{where} text transformation")
        kind = required(known, "Type", where=f"{where} text transformation")
        if kind != "NONE" and kind not in TRANSFORMATIONS:
            choices = ", ".join(sorted(TRANSFORMATIONS))
            raise LocalError(f"{where}: text transformation {kind} is not emulated; known here: {choices}")
        found.append((int(required(known, "Priority", where=f"{where} text transformation")), kind))
    return tuple(TRANSFORMATIONS[kind] for _, kind in sorted(found) if kind != "NONE")
