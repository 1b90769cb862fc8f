"""What a consumer does with the API: one call of each kind, with the official client where it has the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from openai import OpenAI

from infra.settings import Settings
from ops.errors import OpsError

CHAT = "Why is the sky blue? Answer in two sentences."
COMPLETION = "Creates a new"
REVIEWS = ["The plot was thin, but I loved every minute of it.", "The staff was rude and nothing worked."]
ARTICLE = (
    "Amazon S3 stores objects in buckets. A bucket policy says who may read them, encryption keys are managed by the "
    "key management service, and versioning keeps every earlier state of an object."
)
SENTENCE = "the weather was cold and the people stayed at home"
CALL_SECONDS = 120.0


@dataclass(frozen=True)
class Call:
    """One kind of request: what it is called in the summary, the task it needs, and how to make it."""

    title: str
    task: str
    make: Callable[[Consumer, str], str]


class Consumer:
    """A client of the API that has nothing but a URL and a token. `say` is given streamed text as it arrives."""

    def __init__(self, *, api_url: str, token: str, say: Callable[[str], None]) -> None:
        self.api_url = api_url
        self.openai = OpenAI(base_url=api_url, api_key=token, max_retries=0, timeout=CALL_SECONDS)
        self.say = say
        self._token = token

    def post(self, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """A call that OpenAI's client does not know. Raises OpsError with the answer's own message."""
        answer = httpx.post(
            f"{self.api_url}/{route}",
            json=dict(body),
            headers={"authorization": f"Bearer {self._token}"},
            timeout=CALL_SECONDS,
        )
        content: dict[str, Any] = answer.json()
        if answer.status_code != 200:
            raise OpsError(f"/{route} answered {answer.status_code}: {content['error']['message']}")
        return content


def streamed_chat(consumer: Consumer, model: str) -> str:
    stream = consumer.openai.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": CHAT}],
        max_tokens=64,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    tokens = 0
    for chunk in stream:
        if chunk.choices and chunk.choices[0].delta.content:
            consumer.say(chunk.choices[0].delta.content)
        if chunk.usage:
            tokens = chunk.usage.completion_tokens
    consumer.say("\n")
    return f"{tokens} tokens, streamed"


def completion(consumer: Consumer, model: str) -> str:
    answer = consumer.openai.completions.create(model=model, prompt=COMPLETION, max_tokens=32, temperature=0.7, seed=7)
    consumer.say(f"{COMPLETION}{answer.choices[0].text}\n")
    return f"{answer.usage.completion_tokens if answer.usage else 0} tokens"


def embeddings(consumer: Consumer, model: str) -> str:
    answer = consumer.openai.embeddings.create(model=model, input=[ARTICLE, *REVIEWS])
    first = ", ".join(f"{value:.3f}" for value in answer.data[0].embedding[:4])
    consumer.say(f"{first}, …\n")
    return f"{len(answer.data)} vectors of {len(answer.data[0].embedding)}"


def sentiment(consumer: Consumer, model: str) -> str:
    answer = consumer.post("sentiment", {"model": model, "input": REVIEWS})
    for text, found in zip(REVIEWS, answer["data"], strict=True):
        consumer.say(f"{found['label']} {found['score']:.2f}: {text}\n")
    return ", ".join(found["label"] for found in answer["data"])


def keywords(consumer: Consumer, model: str) -> str:
    answer = consumer.post("keywords", {"model": model, "input": ARTICLE, "top_k": 4, "diversity": 0.5})
    found = ", ".join(keyword["text"] for keyword in answer["data"][0]["keywords"])
    consumer.say(f"{found}\n")
    return found


def augmentation(consumer: Consumer, model: str) -> str:
    answer = consumer.post(
        "augment",
        {"model": model, "input": SENTENCE, "n": 2, "method": "fill_mask", "seed": 3, "preserve": ["weather"]},
    )
    variants: list[str] = answer["data"][0]["variants"]
    for variant in variants:
        consumer.say(f"{variant}\n")
    return f"{len(variants)} variants"


CALLS = (
    Call(title="chat, streamed", task="chat", make=streamed_chat),
    Call(title="completion", task="completions", make=completion),
    Call(title="sentiment", task="sentiment", make=sentiment),
    Call(title="keywords", task="keywords", make=keywords),
    Call(title="augmentation", task="augmentation", make=augmentation),
    Call(title="embeddings", task="embeddings", make=embeddings),
)


def model_for(settings: Settings, task: str) -> str:
    """The stack's model for a task; of several, the one that serves the fewest other tasks."""
    serving = [model for model in settings.models if task in model.tasks]
    if not serving:
        raise OpsError(f"no model of the stack serves {task}: add one to modelkeep:models")
    return min(serving, key=lambda model: len(model.tasks)).name
