"""The official client works with nothing but its base URL and key set."""

from collections.abc import Iterator

import openai
import pytest

from tests.model_image.server_process import ServerProcess


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_chat(api: openai.OpenAI) -> None:
    first = api.chat.completions.create(
        model="tiny-chat", messages=[{"role": "user", "content": "Hello"}], max_completion_tokens=8, seed=1
    )
    answer = first.choices[0].message
    stream = api.chat.completions.create(
        model="tiny-chat",
        messages=[{"role": "user", "content": "Hello"}],
        max_completion_tokens=8,
        seed=1,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == answer.content
    assert chunks[-1].usage == first.usage
    # The client's own message object goes back in, as programs that keep a history do.
    again = api.chat.completions.create(
        model="tiny-chat",
        messages=[
            {"role": "user", "content": "Hello"},
            answer.to_dict(),  # type: ignore[list-item]
            {"role": "user", "content": "More"},
        ],
        max_tokens=2,
    )
    assert again.usage is not None
    assert first.usage is not None
    assert again.usage.prompt_tokens > first.usage.prompt_tokens


def test_completions(api: openai.OpenAI) -> None:
    whole = api.completions.create(model="tiny-gpt2", prompt="The", max_tokens=6, temperature=0, logprobs=2)
    stream = api.completions.create(model="tiny-gpt2", prompt="The", max_tokens=6, temperature=0, stream=True)

    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    assert whole.choices[0].logprobs is not None
    assert len(whole.choices[0].logprobs.tokens or []) == 6


def test_embeddings_and_models(api: openai.OpenAI) -> None:
    # Without encoding_format the client asks for base64 and decodes it itself.
    vectors = api.embeddings.create(model="tiny-embed", input=["a fox", "a dog"]).data

    assert [len(entry.embedding) for entry in vectors] == [32, 32]
    assert {model.id for model in api.models.list()} >= {"tiny-chat", "tiny-gpt2", "tiny-embed"}
    assert api.models.retrieve("tiny-chat").id == "tiny-chat"


def test_errors_arrive_as_their_own_classes(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model of this name"):
        api.completions.create(model="nope", prompt="a")
    with pytest.raises(openai.BadRequestError, match="best_of"):
        api.completions.create(model="tiny-gpt2", prompt="a", best_of=4)
    with pytest.raises(openai.BadRequestError) as caught:
        api.completions.create(model="tiny-gpt2", prompt="a", max_tokens=5000)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.request_id
    with pytest.raises(openai.PermissionDeniedError, match="does not allow the model tiny-gpt2"):
        api.completions.create(model="tiny-gpt2", prompt="a", extra_headers={"x-modelkeep-models": "other"})
