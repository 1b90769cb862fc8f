"""Malformed and hostile requests over real HTTP: each is refused in the one error shape, which quotes nothing of it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.model_image.server_process import ServerProcess

MARKER = "Zmarkertext"
JSON = {"content-type": "application/json"}
COMPLETIONS, CHAT, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/embeddings"
COMPLETION: dict[str, Any] = {"model": "tiny-gpt2", "prompt": "a", "max_tokens": 1}
MESSAGES: dict[str, Any] = {"model": "tiny-chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def wide(artefacts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that takes bodies of 10 MB, the most that can be set."""
    log = tmp_path_factory.mktemp("wide") / "server.log"
    kinds = [directory for kind, directory in artefacts.items() if kind != "slow"]
    with ServerProcess(kinds, log=log, MODELKEEP_BODY_LIMIT_KB="10240") as process:
        yield process.wait_ready()


@pytest.fixture(scope="module")
def http(wide: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=wide.url, timeout=60) as client:
        yield client


def refused(response: httpx.Response, status: int = 400) -> str:
    """The message of an error in the one shape that quotes nothing."""
    assert response.status_code == status, response.text[:300]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    assert MARKER not in response.text
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    message: str = error["message"]
    assert message.isprintable()
    assert len(message) < 400
    return message


def body(prompt: bytes) -> bytes:
    """A completion with this as its prompt, in JSON; what follows it is right."""
    return b'{"model": "tiny-gpt2", "prompt": ' + prompt + b', "max_tokens": 1}'


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        body(f'"{MARKER}'.encode()),
        body(f'"{MARKER}"'.encode())[:-1],
        body(b'"a"') + body(b'"a"'),
        body(f"{MARKER}".encode()),
        body(f"'{MARKER}'".encode()),
        b"\xef\xbb\xbf" + body(b'"a"'),
        body(b'"a"').decode().encode("utf-16"),
        body(b'"a"').decode().encode("utf-32"),
        body(b'"\xff"'),
        body(b'"\xc0\xaf"'),
        body(b'"\xed\xa0\x80"'),
        body(b'"\xf4\x90\x80\x80"'),
        body(b'"\xe6\x9d"'),
        body(b'"\\ud800"'),
        body(b'"\\udc00\\ud800"'),
        body(b'"\\x41"'),
        body(b'"a\x00b"'),
        body(b'"a\nb"'),
        body(b"\x00"),
        body(b'"a",}'),
        body(b"[1,]"),
        body(b"NaN"),
        body(b"Infinity"),
        body(b"[1, -Infinity]"),
        body(b"1e999"),
        body(b"-1e999"),
        body(b"[1" + b"0" * 400 + b"]"),
        body(b"[01]"),
        body(b"[1.]"),
        body(b"[+1]"),
        body(b"[0x1]"),
        b"[" * 100_000,
        body(b"[" * 100_000 + b"]" * 100_000),
        body(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
        body(b'/* a */ "a"'),
    ],
    ids=lambda content: repr(content[33:80]),
)
def test_what_is_not_json_is_refused_by_its_place(http: httpx.Client, content: bytes) -> None:
    message = refused(http.post(COMPLETIONS, content=content, headers=JSON))

    assert message.startswith("the body is not valid JSON (line 1, column ")


@pytest.mark.parametrize("content", [b"null", b"true", b"1", b'"a"', b"[]", b"[{}]"])
def test_a_body_is_an_object(http: httpx.Client, content: bytes) -> None:
    assert refused(http.post(COMPLETIONS, content=content, headers=JSON)) == "the body must be a JSON object"


@pytest.mark.parametrize(
    "content",
    [
        b'{"model": "tiny-gpt2", "model": "tiny-chat", "prompt": "a"}',
        b'{"model": "tiny-gpt2", "prompt": "a", "model" \n\t: "tiny-gpt2"}',
        b'{"model": "tiny-gpt2", "prompt": "a", "\\u006dodel": "tiny-chat"}',
        b'{"model": "tiny-gpt2", "prompt": "a", "stream": true, "stream_options": {"include_usage": true, '
        b'"include_usage": false}}',
    ],
)
def test_a_name_that_stands_twice_is_refused(http: httpx.Client, content: bytes) -> None:
    message = refused(http.post(COMPLETIONS, content=content, headers=JSON))

    assert message == "the body has a field twice in one object; send each field once"


def test_a_text_may_look_like_names(http: httpx.Client) -> None:
    look_alike = '{"model": "a", "model" : 1, \\"model\\": 2, "a\\\\": 3'

    assert http.post(COMPLETIONS, json=COMPLETION | {"prompt": look_alike}).status_code == 200
    # A text that begins with a colon is where the quick count is wrong.
    nested = [{"role": "user", "content": [{"type": "text", "text": look_alike}, {"type": "text", "text": " :"}]}]
    assert http.post(CHAT, json=MESSAGES | {"messages": nested}).status_code == 200


WRONG: list[tuple[str, dict[str, Any], str]] = [
    # Numbers.
    (COMPLETIONS, COMPLETION | {"max_tokens": 10**18}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"max_tokens": -1}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"max_tokens": 1.0}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"max_tokens": 1e300}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"max_tokens": True}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"max_tokens": "1"}, "max_tokens"),
    (COMPLETIONS, COMPLETION | {"n": 10**9}, "n"),
    (COMPLETIONS, COMPLETION | {"seed": 2**63}, "seed"),
    (COMPLETIONS, COMPLETION | {"seed": -(2**64)}, "seed"),
    (COMPLETIONS, COMPLETION | {"temperature": 1e308}, "temperature"),
    (COMPLETIONS, COMPLETION | {"top_p": -0.1}, "top_p"),
    (COMPLETIONS, COMPLETION | {"logprobs": 2**40}, "logprobs"),
    (COMPLETIONS, COMPLETION | {"frequency_penalty": 1e-300}, "frequency_penalty"),
    # Stop strings.
    (COMPLETIONS, COMPLETION | {"stop": MARKER * 10_000}, "stop"),
    (COMPLETIONS, COMPLETION | {"stop": [MARKER] * 500}, "stop"),
    (COMPLETIONS, COMPLETION | {"stop": ["a", ""]}, "stop"),
    (COMPLETIONS, COMPLETION | {"stop": [[MARKER]]}, "stop"),
    # Prompts without a token, and ids that are none.
    (COMPLETIONS, COMPLETION | {"prompt": ""}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": []}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": ["a", ""]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [[]]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [[1], []]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": None}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": {MARKER: MARKER}}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [-1]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [384]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [2**31]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [2**70]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [True]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [1.0]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [None]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [1, MARKER]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [[1], MARKER]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [[[1]]]}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": ["a"] * 257}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [1] * 200_000}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [1.5] * 200_000}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": [[1]] * 200_000}, "prompt"),
    (COMPLETIONS, COMPLETION | {"prompt": MARKER * 200_000}, "prompt"),
    (EMBEDDINGS, {"model": "tiny-embed", "input": ""}, "input"),
    (EMBEDDINGS, {"model": "tiny-embed", "input": ["a", " \n\u0000"]}, "input"),
    (EMBEDDINGS, {"model": "tiny-embed", "input": [[5], [-5]]}, "input"),
    (EMBEDDINGS, {"model": "tiny-embed", "input": [10**6]}, "input"),
    ("/v1/sentiment", {"input": ""}, "input"),
    ("/v1/sentiment", {"input": []}, "input"),
    ("/v1/sentiment", {"input": "a" * 1_000_001}, "input"),
    ("/v1/keywords", {"input": ["a", ""]}, "input"),
    ("/v1/keywords", {"input": "a " * 100_000, "ngram_range": [1, 5]}, "input"),
    ("/v1/keywords", {"input": "a", "ngram_range": [1, 10**9]}, "ngram_range"),
    ("/v1/augment", {"input": ""}, "input"),
    ("/v1/augment", {"input": "", "method": "generate", "model": "tiny-gpt2"}, "input"),
    ("/v1/augment", {"input": "a " * 100_000, "preserve": ["a" * size for size in range(1, 65)]}, "input"),
    ("/v1/augment", {"input": "a", "preserve": [MARKER] * 65}, "preserve"),
    ("/v1/augment", {"input": "a", "preserve": [MARKER * 100]}, "preserve"),
    ("/v1/fill-mask", {"input": ""}, "input"),
    ("/v1/fill-mask", {"input": "[mask] [MA SK]"}, "input"),
    ("/v1/fill-mask", {"input": "[MASK]" * 100_000}, "input"),
    # The answer would hold the text 1,600 times.
    ("/v1/fill-mask", {"input": "[MASK] " * 16 + "a" * 900_000, "top_k": 100}, "top_k"),
    # Names.
    (COMPLETIONS, COMPLETION | {"model": ""}, "model"),
    (COMPLETIONS, COMPLETION | {"model": MARKER * 10_000}, "model"),
    (COMPLETIONS, COMPLETION | {"model": None}, "model"),
    (COMPLETIONS, COMPLETION | {"model": [MARKER]}, "model"),
    (COMPLETIONS, COMPLETION | {"user": MARKER * 100}, "user"),
    (CHAT, MESSAGES | {"messages": [{"role": MARKER, "content": "a"}]}, "messages"),
    (CHAT, MESSAGES | {"messages": [{"role": "user", "content": [{"type": MARKER}]}]}, "messages"),
    (CHAT, MESSAGES | {"messages": [{"role": "user", "content": []}]}, "messages"),
    (CHAT, MESSAGES | {"messages": [{"role": "user"}] * 2000}, "messages"),
    (CHAT, MESSAGES | {"messages": {}}, "messages"),
    (CHAT, MESSAGES | {"messages": [[]]}, "messages"),
    (CHAT, MESSAGES | {"metadata": {MARKER: MARKER}}, "metadata"),
    (CHAT, MESSAGES | {"tools": [{}] * 10_000}, "tools"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "wrong", "param"), WRONG, ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None
)
def test_a_wrong_value_is_refused_by_its_field(
    http: httpx.Client, path: str, wrong: dict[str, Any], param: str
) -> None:
    response = http.post(path, json=wrong)

    refused(response)
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize("name", ["foo", "a\u0000b", "a\nb", "\u202e", "é", "a" * 50_000, "__class__", "model "])
def test_an_unknown_field_is_named_on_one_line(http: httpx.Client, name: str) -> None:
    message = refused(http.post(COMPLETIONS, json=COMPLETION | {name: MARKER}))

    assert message.startswith("unknown field '")
    in_message = MESSAGES["messages"][0] | {name: MARKER}
    message = refused(http.post(CHAT, json=MESSAGES | {"messages": [in_message]}))
    assert message.startswith("unknown field '")
    assert message.endswith("in 'messages[0]'; remove it")


def test_very_many_unknown_fields_are_one_error(http: httpx.Client) -> None:
    many = {f"field{number}": MARKER for number in range(100_000)}

    assert refused(http.post(COMPLETIONS, json=COMPLETION | many)) == "unknown field 'field0'; remove it"


@pytest.mark.parametrize(
    "name", ["tiny-gpt2\u0000", "tiny-gpt2\n", " tiny-gpt2", "TINY-GPT2", "../tiny-gpt2", "é" * 200]
)
def test_a_name_that_is_not_quite_a_models_is_no_model(http: httpx.Client, name: str) -> None:
    unknown = refused(http.post(COMPLETIONS, json=COMPLETION | {"model": "nope"}), 404)

    assert refused(http.post(COMPLETIONS, json=COMPLETION | {"model": name}), 404) == unknown


@pytest.mark.parametrize(
    "name", ["%00", "tiny-gpt2%0a", "%ff%fe", "..%2ftiny-gpt2", "%F0%9F%99%82", "a" * 20_000, "?" * 9]
)
def test_a_name_in_a_path_is_no_model(http: httpx.Client, name: str) -> None:
    refused(http.get(f"/v1/models/{name}"), 404)


@pytest.mark.parametrize(
    ("path", "given"),
    [
        (COMPLETIONS, COMPLETION | {"prompt": "<|endoftext|>"}),
        (COMPLETIONS, COMPLETION | {"prompt": "a\u0000\u0001\u202e\ufffe\U0010ffff"}),
        (COMPLETIONS, COMPLETION | {"prompt": [0], "temperature": -0.0, "seed": -(2**63)}),
        (COMPLETIONS, COMPLETION | {"temperature": 5e-324}),
        (COMPLETIONS, COMPLETION | {"top_p": 5e-324}),
        (COMPLETIONS, COMPLETION | {"stop": ["\u0000", "é" * 256]}),
        (CHAT, MESSAGES | {"messages": [{"role": "user", "content": "<|im_end|>"}]}),
        (CHAT, MESSAGES | {"messages": [{"role": "user", "content": ""}]}),
        (EMBEDDINGS, {"model": "tiny-embed", "input": "[SEP] [CLS] [MASK] [PAD]"}),
        (EMBEDDINGS, {"model": "tiny-embed", "input": "a" * 900_000}),
        ("/v1/sentiment", {"input": "[SEP]"}),
        ("/v1/keywords", {"input": "a" * 900_000 + " dog"}),
        ("/v1/augment", {"input": "dog [MASK] dog", "n": 1, "seed": 1}),
        ("/v1/augment", {"input": "fox" + " " * 900_000 + "dog", "n": 1, "preserve": [" " * 256, "a" * 255 + "b"]}),
        ("/v1/fill-mask", {"input": "[MASK] [SEP]\u0000", "top_k": 1}),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else None,
)
def test_what_is_odd_but_right_is_answered(http: httpx.Client, path: str, given: dict[str, Any]) -> None:
    response = http.post(path, json=given)

    assert response.status_code == 200, response.text[:300]


def test_only_a_whole_prompt_may_hold_special_tokens(http: httpx.Client) -> None:
    def read(path: str, **fields: Any) -> int:
        tokens: int = http.post(path, json=fields).raise_for_status().json()["usage"]["prompt_tokens"]
        return tokens

    assert read(COMPLETIONS, model="tiny-gpt2", prompt="<|endoftext|>", max_tokens=1) == 1
    turn = {"role": "user", "content": "<|im_end|>"}
    shorter = {"role": "user", "content": ""}
    in_chat = [read(CHAT, model="tiny-chat", messages=[each], max_tokens=1) for each in (turn, shorter)]
    assert in_chat[0] - in_chat[1] > 3
    # "[", "sep" letter by letter, "]", between the two that the model wants around a text; as a token it would be 3.
    assert read(EMBEDDINGS, model="tiny-embed", input="[SEP]") == 7
    assert read("/v1/sentiment", input="[SEP]") == 7
    assert read("/v1/keywords", input="[SEP]") == 7
    assert read("/v1/fill-mask", input="[MASK] [SEP]") == 8


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/json2", "application/jsonp", "application/x-www-form-urlencoded",
                   "multipart/form-data; boundary=application/json", "application/json,text/plain", "\u00e9"],
)  # fmt: skip
def test_another_media_type_is_refused(http: httpx.Client, media_type: str) -> None:
    headers = {"content-type": media_type.encode("latin-1")}

    refused(http.post(COMPLETIONS, content=body(b'"a"'), headers=headers), 415)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", MARKER])
def test_a_compressed_body_is_refused_unread(http: httpx.Client, encoding: str) -> None:
    refused(http.post(COMPLETIONS, content=b"", headers=JSON | {"content-encoding": encoding}), 415)


def test_a_body_over_the_limit_is_refused_however_it_comes(http: httpx.Client) -> None:
    large = body(b'"' + b"a" * 11_000_000 + b'"')

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 100_000):
            yield large[start : start + 100_000]

    refused(http.post(COMPLETIONS, content=large, headers=JSON), 413)
    refused(http.post(COMPLETIONS, content=pieces(), headers=JSON), 413)


@pytest.mark.parametrize("given", [MARKER + " x", "a" * 65, "", "a\tb", "\u00e9", "'; drop", "{}"])
def test_an_odd_request_id_is_replaced(http: httpx.Client, given: str) -> None:
    response = http.get("/v1/models", headers={"x-modelkeep-request-id": given.encode("latin-1")})

    assert response.status_code == 200
    assert len(response.headers["x-request-id"]) == 36


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: 100\r\n\r\n" + body(b'"a"')[:10],
        CHUNKED + b"5\r\n{\"mod\r\n",
        CHUNKED,
        HEAD[:30],
        b"",
    ],
)  # fmt: skip
def test_a_client_that_breaks_off_harms_nobody(wide: ServerProcess, http: httpx.Client, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", wide.port), timeout=30) as connection:
        connection.sendall(sent)

    assert http.post(COMPLETIONS, json=COMPLETION).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1e3\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n",
        CHUNKED + b"f" * 40 + b"\r\n",
        HEAD + b"X-A: a\x00b\r\n\r\n",
        b"POST /v1/completions HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_not_http_ends_at_the_http_server(wide: ServerProcess, http: httpx.Client, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", wide.port), timeout=30) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert http.get("/v1/models").status_code == 200


def test_nothing_of_it_was_logged_and_nothing_failed(wide: ServerProcess, http: httpx.Client) -> None:
    http.post(COMPLETIONS, json=COMPLETION)

    assert MARKER not in wide.log.read_text()
    statuses = {event["status"] for event in wide.events() if event["event"] == "request"}
    assert not [status for status in statuses if status >= 500]
    assert not [event for event in wide.events() if event["level"] == "error"]
