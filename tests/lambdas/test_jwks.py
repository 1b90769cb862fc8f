"""The issuer's keys: where they come from, how often, and what of a key set counts."""

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas import jwks as module
from lambdas import jwt
from lambdas.jwks import Https, IssuerUnreachable, Keys, read_keys
from local.certificate import make_certificate
from tests.lambdas.signing_in import ISSUER, JWKS_URI, Web, jwk, jwks, private_key

DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_of(web: Web, clock: Clock | None = None, *, jwks_uri: str | None = JWKS_URI) -> tuple[Keys, list[str]]:
    warnings: list[str] = []
    keys = Keys(issuer=ISSUER, jwks_uri=jwks_uri, fetch=web, warn=warnings.append, clock=clock or Clock())
    return keys, warnings


class TestHowOften:
    def test_once_and_then_from_memory(self) -> None:
        web = Web()
        keys, _ = keys_of(web)
        for _ in range(5):
            assert keys.find("ours").modulus == private_key().public_key().public_numbers().n
        assert web.asked == [JWKS_URI]

    def test_again_after_an_hour_with_the_keys_of_then(self) -> None:
        web, clock = Web(), Clock()
        keys, _ = keys_of(web, clock)
        keys.find("ours")
        web.documents[JWKS_URI] = jwks(jwk("next"))
        clock.now = module.KEEP_SECONDS
        keys.find("ours")
        clock.now += 1
        with pytest.raises(jwt.BadToken):
            keys.find("ours")  # withdrawn by the issuer
        assert len(web.asked) == 2

    def test_a_new_key_is_found_and_unknown_ones_ask_once_a_minute(self) -> None:
        web, clock = Web(), Clock()
        keys, _ = keys_of(web, clock)
        keys.find("ours")
        web.documents[JWKS_URI] = jwks(jwk(), jwk("next"))
        for number in range(100):
            with pytest.raises(jwt.BadToken):
                keys.find(f"guess-{number}")
        assert len(web.asked) == 1
        clock.now = module.PAUSE_SECONDS
        for number in range(100):
            with pytest.raises(jwt.BadToken):
                keys.find(f"guess-{number}")
        assert keys.find("next")
        assert len(web.asked) == 2

    def test_an_issuer_that_is_gone_is_told_and_its_keys_hold_for_a_day(self) -> None:
        web, clock = Web(), Clock()
        keys, warnings = keys_of(web, clock)
        keys.find("ours")
        web.documents[JWKS_URI] = IssuerUnreachable("gone")
        clock.now = module.KEEP_SECONDS + 1
        assert keys.find("ours")
        assert warnings == ["gone"]
        clock.now = module.KEEP_AT_MOST + 1
        with pytest.raises(IssuerUnreachable):
            keys.find("ours")

    def test_without_any_keys_nobody_comes_in_and_it_is_tried_again_soon(self) -> None:
        web, clock = Web({JWKS_URI: IssuerUnreachable("gone")}), Clock()
        keys, _ = keys_of(web, clock)
        for _ in range(3):
            with pytest.raises(IssuerUnreachable):
                keys.find("ours")
        assert len(web.asked) == 1
        web.documents[JWKS_URI] = jwks()
        clock.now = module.PAUSE_WITHOUT_KEYS_SECONDS
        assert keys.find("ours")

    def test_a_token_without_a_key_id_means_the_only_key(self) -> None:
        assert keys_of(Web())[0].find(None)
        with pytest.raises(jwt.BadToken):
            keys_of(Web({JWKS_URI: jwks(jwk(), jwk("next"))}))[0].find(None)


class TestDiscovery:
    def test_the_issuers_own_document_says_where_the_keys_are(self) -> None:
        web = Web({DISCOVERY: json.dumps({"issuer": ISSUER, "jwks_uri": JWKS_URI}).encode(), JWKS_URI: jwks()})
        keys, _ = keys_of(web, jwks_uri=None)
        assert keys.find("ours")
        assert web.asked == [DISCOVERY, JWKS_URI]

    @pytest.mark.parametrize(
        "document",
        [
            {"issuer": "https://other.test", "jwks_uri": JWKS_URI},
            {"issuer": ISSUER},
            {"issuer": ISSUER, "jwks_uri": 7},
            [],
        ],
    )
    def test_a_document_of_another_issuer_counts_for_nothing(self, document: Any) -> None:
        keys, _ = keys_of(Web({DISCOVERY: json.dumps(document).encode(), JWKS_URI: jwks()}), jwks_uri=None)
        with pytest.raises(IssuerUnreachable):
            keys.find("ours")


class TestKeySets:
    def test_only_rsa_keys_for_signatures_count(self) -> None:
        found = read_keys(
            jwks(
                jwk(),
                jwk(kid="encrypts", use="enc"),
                jwk(kid="other-algorithm", alg="PS256"),
                {"kty": "EC", "kid": "curve", "crv": "P-256", "x": "AA", "y": "AA"},
                {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
                jwk(kid="small", n="AQAB"),
                jwk(kid="even", e="AQAA"),
                jwk(kid=7),
                jwk(kid="spelled", n="+/=="),
            )
        )
        assert list(found) == ["ours"]

    def test_what_is_left_out_of_a_key_is_its_default(self) -> None:
        key = {name: value for name, value in jwk().items() if name in ("kty", "n", "e")}
        assert list(read_keys(jwks(key))) == [None]

    def test_a_key_id_twice_is_nobodys(self) -> None:
        with pytest.raises(IssuerUnreachable, match="twice"):
            read_keys(jwks(jwk(), jwk("mallory", kid="ours")))

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"keys": 7}', b"\xff", b'{"keys":' + b"[" * 3000])
    def test_what_is_no_key_set(self, content: bytes) -> None:
        with pytest.raises(IssuerUnreachable):
            read_keys(content)

    def test_too_many_keys(self) -> None:
        with pytest.raises(IssuerUnreachable):
            read_keys(jwks(*[jwk(kid=str(number)) for number in range(module.MOST_KEYS + 1)]))

    @given(
        keys=st.lists(
            st.dictionaries(
                st.sampled_from(["kty", "n", "e", "kid", "use", "alg"]),
                st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["RSA", "sig", "RS256", "AQAB"]),
            ),
            max_size=4,
        )
    )
    @settings(deadline=None)
    def test_any_key_set_is_read_or_refused(self, keys: list[dict[str, Any]]) -> None:
        assert read_keys(json.dumps({"keys": keys}).encode()) == {}


class _Issuer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/keys")
            self.end_headers()
            return
        content = jwks() if self.path == "/keys" else b"x" * (module.LONGEST_DOCUMENT + 1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ssl.SSLContext]]:
    certificate, key = make_certificate(tmp_path_factory.mktemp("issuer"), host="127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Issuer)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    server.socket = serving.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", ssl.create_default_context(cafile=str(certificate))
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


class TestHttps:
    def test_a_verified_issuer_answers(self, issuer: tuple[str, ssl.SSLContext]) -> None:
        assert read_keys(Https(context=issuer[1])(f"{issuer[0]}/keys"))

    @pytest.mark.parametrize("path", ["/moved", "/long", "/missing\n"])
    def test_redirects_and_floods_are_refused(self, issuer: tuple[str, ssl.SSLContext], path: str) -> None:
        with pytest.raises(IssuerUnreachable):
            Https(context=issuer[1])(issuer[0] + path)

    def test_without_a_certificate_that_is_trusted_nothing_is_read(self, issuer: tuple[str, ssl.SSLContext]) -> None:
        with pytest.raises(IssuerUnreachable, match="does not answer"):
            Https()(f"{issuer[0]}/keys")

    @pytest.mark.parametrize("url", ["http://127.0.0.1/keys", "file:///etc/hostname", "ftp://x", ""])
    def test_nothing_but_https(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(IssuerUnreachable, match="no https address"):
            Https()(url)
