"""A mixed load on a stack, and what its servers, its records and its counters say of it afterwards."""

from __future__ import annotations

import random
import re
import ssl
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
from botocore.config import Config

from ops.usage_month import Month
from ops.usage_records import Records, read_records

# route, body, whether it streams, whether the client leaves after the first bytes
Call = tuple[str, Mapping[str, Any], bool, bool]
_SAMPLE = re.compile(r"^(modelkeep_\w+)\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
_TOKENS = ("modelkeep_prompt_tokens_total", "modelkeep_generation_tokens_total")
_ENDED = ("modelkeep_request_success_total", "modelkeep_request_failure_total")


def mixed_calls(luck: random.Random) -> Call:
    """One request of whatever kind: streamed, whole, refused, or left by its client."""
    text = " ".join(luck.choice(("the", "river", "quick", "stone", "over")) for _ in range(luck.randint(1, 24)))
    tokens = luck.randint(1, 16)
    generation = {"model": "tiny-gpt2", "prompt": text, "max_tokens": tokens}
    chat = {"model": "tiny-chat", "messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    return luck.choice(
        (
            ("completions", generation, False, False),
            ("completions", {**generation, "n": 2}, False, False),
            ("completions", {**generation, "stream": True}, True, False),
            ("completions", {**generation, "stream": True, "max_tokens": 60}, True, True),
            ("completions", {**generation, "max_tokens": 100_000}, False, False),  # more than the model takes
            ("chat/completions", chat, False, False),
            ("chat/completions", {**chat, "stream": True}, True, False),
            ("embeddings", {"model": "tiny-embed", "input": [text] * luck.randint(1, 4)}, False, False),
            ("sentiment", {"model": "tiny-sentiment", "input": text}, False, False),
            ("fill-mask", {"model": "tiny-mlm", "input": f"{text} [MASK]"}, False, False),
            ("keywords", {"model": "tiny-embed", "input": text}, False, False),
        )
    )


@dataclass
class Load:
    """Clients that call one after the other for so many seconds; `statuses` is what they were answered."""

    api_url: str
    token: str
    clients: int
    seconds: float
    statuses: Counter[int] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        """Load, and return once every answer is over."""
        until = time.monotonic() + self.seconds
        threads = [threading.Thread(target=self._client, args=(seed, until)) for seed in range(self.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, seed: int, until: float) -> None:
        luck = random.Random(seed)
        with httpx.Client(timeout=60, headers={"authorization": f"Bearer {self.token}"}) as client:
            while time.monotonic() < until:
                status = self._call(client, *mixed_calls(luck))
                with self._lock:
                    self.statuses[status] += 1

    def _call(self, client: httpx.Client, route: str, body: Mapping[str, Any], streams: bool, leaves: bool) -> int:
        if not streams:
            return client.post(f"{self.api_url}/{route}", json=body).status_code
        with client.stream("POST", f"{self.api_url}/{route}", json=body) as answer:
            for _ in answer.iter_bytes():
                if leaves:
                    break
            return answer.status_code


@dataclass(frozen=True)
class Counted:
    """What all servers have counted since their start: tokens by model, and requests that are over."""

    prompt: Counter[str]
    completion: Counter[str]
    requests: int

    def since(self, before: Counted) -> Counted:
        """What was added since then."""
        return Counted(
            prompt=self.prompt - before.prompt,
            completion=self.completion - before.completion,
            requests=self.requests - before.requests,
        )


def counted(instances: Mapping[str, Any] | list[Mapping[str, Any]]) -> Counted:
    """The counters of every server, by its own /metrics."""
    tokens: dict[str, Counter[str]] = {name: Counter() for name in _TOKENS}
    requests = 0
    # A server's certificate is its own, made when it starts, as on an instance; the balancer does not verify it either.
    context = ssl._create_unverified_context()  # noqa: S323
    for instance in instances:
        with urllib.request.urlopen(f"{instance['url']}/metrics", context=context, timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
        for name, labels, value in _SAMPLE.findall(text):
            if name in tokens:
                tokens[name][dict(re.findall(r'(\w+)="([^"]*)"', labels))["model_name"]] += int(float(value))
            elif name in _ENDED:
                requests += int(float(value))
    return Counted(prompt=tokens[_TOKENS[0]], completion=tokens[_TOKENS[1]], requests=requests)


def client_of(status: Mapping[str, Any], environment: Mapping[str, str], service: str) -> Any:
    """A client of the stack's emulators, as the account's root."""
    return boto3.client(
        service,
        endpoint_url=status["endpoints"][service],
        region_name="eu-west-1",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        verify=environment["AWS_CA_BUNDLE"],
        config=Config(s3={"addressing_style": "path"}, proxies={}),
    )


def records_of(s3: Any, *, bucket: str, month: Month, consumer: str, until: int, seconds: float) -> Records:
    """The consumer's records once there are `until` of them, or as many as there are after so long."""
    deadline = time.monotonic() + seconds
    while True:
        found = read_records(s3, bucket=bucket, month=month)
        own = found.table.filter([each == consumer for each in found.table["consumer"].to_pylist()])
        if own.num_rows >= until or time.monotonic() > deadline:
            return Records(month=month, table=own, unreadable=found.unreadable)
        time.sleep(0.5)
