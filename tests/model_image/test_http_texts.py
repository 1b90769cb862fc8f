"""The routes over texts: embeddings, sentiment, keywords, fill-mask, augmentation."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

TEXT = "The quick brown fox jumps over the lazy dog. A model server answers requests."


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_embeddings_are_the_same_numbers_in_both_encodings(client: httpx.Client) -> None:
    body = {"model": "tiny-embed", "input": ["a fox", "the dog", "a fox"]}

    floats = [entry["embedding"] for entry in post(client, "/v1/embeddings", body)["data"]]
    encoded = post(client, "/v1/embeddings", body | {"encoding_format": "base64"})["data"]

    for numbers, entry in zip(floats, encoded, strict=True):
        assert np.allclose(np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4"), numbers, atol=1e-6)
        assert np.linalg.norm(numbers) == pytest.approx(1, abs=1e-5)
    assert np.allclose(floats[0], floats[2], atol=1e-5)
    assert not np.allclose(floats[0], floats[1], atol=1e-2)


def test_embeddings_take_token_ids(client: httpx.Client) -> None:
    answer = post(client, "/v1/embeddings", {"model": "tiny-embed", "input": [[5, 6], [7, 8, 9]]})

    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_sentiment_names_the_likeliest_label(client: httpx.Client) -> None:
    answer = post(client, "/v1/sentiment", {"input": ["great product", "rude staff"]})

    assert answer["model"] == "tiny-sentiment"
    for index, entry in enumerate(answer["data"]):
        assert entry["index"] == index
        assert set(entry["scores"]) == {"negative", "positive"}
        assert sum(entry["scores"].values()) == pytest.approx(1)
        assert entry["score"] == entry["scores"][entry["label"]] == max(entry["scores"].values())


def test_keywords_point_into_the_text(client: httpx.Client) -> None:
    (entry,) = post(client, "/v1/keywords", {"input": TEXT, "top_k": 4, "ngram_range": [1, 3]})["data"]

    assert len(entry["keywords"]) == 4
    for keyword in entry["keywords"]:
        assert TEXT[keyword["start"] : keyword["end"]] == keyword["text"]
        assert 1 <= len(keyword["text"].split()) <= 3
        assert "." not in keyword["text"]
        assert keyword["text"].split()[0].lower() not in {"the", "a", "over"}
    scores = [keyword["score"] for keyword in entry["keywords"]]
    assert scores == sorted(scores, reverse=True)


def test_without_diversity_keywords_are_the_nearest(client: httpx.Client) -> None:
    (few,) = post(client, "/v1/keywords", {"input": TEXT, "top_k": 2, "diversity": 0})["data"]
    (many,) = post(client, "/v1/keywords", {"input": TEXT, "top_k": 50, "diversity": 0})["data"]

    assert few["keywords"] == many["keywords"][:2]


def test_a_text_of_stop_words_has_no_keywords(client: httpx.Client) -> None:
    assert post(client, "/v1/keywords", {"input": "and the of"})["data"] == [{"index": 0, "keywords": []}]


def test_masks_are_filled_one_by_one(client: httpx.Client) -> None:
    body = {"input": ["The [MASK] fox [MASK].", "no [MASK]"], "top_k": 3}

    data = post(client, "/v1/fill-mask", body)["data"]

    assert [(entry["index"], entry["mask"]) for entry in data] == [(0, 0), (0, 1), (1, 0)]
    for entry in data:
        scores = [candidate["score"] for candidate in entry["candidates"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
    first, second = data[0]["candidates"][0], data[1]["candidates"][0]
    assert first["text"] == f"The {first['token']} fox [MASK]."
    assert second["text"] == f"The [MASK] fox {second['token']}."


def test_a_text_without_a_mask_is_refused_with_the_mask_to_write(client: httpx.Client) -> None:
    response = client.post("/v1/fill-mask", json={"input": "no mask"})

    assert response.status_code == 400
    assert "write [MASK]" in response.json()["error"]["message"]


def test_augmentation_changes_words_but_not_preserved_ones(client: httpx.Client) -> None:
    body = {"input": TEXT, "n": 4, "method": "fill_mask", "seed": 5, "preserve": ["FOX", "lazy dog", "server"]}

    (entry,) = post(client, "/v1/augment", body)["data"]
    (again,) = post(client, "/v1/augment", body)["data"]

    assert entry == again
    assert len(set(entry["variants"])) == 4
    for variant in entry["variants"]:
        assert variant != TEXT
        assert "fox" in variant
        assert "lazy dog" in variant
        assert "server" in variant
        assert len(variant.split()) == len(TEXT.split())
    (other,) = post(client, "/v1/augment", body | {"seed": 6})["data"]
    assert other != entry


def test_nothing_to_change_gives_no_variants(client: httpx.Client) -> None:
    body = {"input": "1 fox", "preserve": ["fox"], "method": "fill_mask"}

    assert post(client, "/v1/augment", body)["data"] == [{"index": 0, "variants": []}]


def test_generation_augments_with_a_chat_or_a_completing_model(client: httpx.Client) -> None:
    body = {"input": "The quick brown fox", "method": "generate", "n": 2, "seed": 1}

    by_chat = post(client, "/v1/augment", body)
    by_completion = post(client, "/v1/augment", body | {"model": "tiny-gpt2", "preserve": ["fox"]})

    assert by_chat["model"] == "tiny-chat"
    assert len(set(by_chat["data"][0]["variants"])) == 2
    assert by_chat["data"] == post(client, "/v1/augment", body)["data"]
    assert by_completion["model"] == "tiny-gpt2"
    assert all(variant.startswith("The quick brown fox ") for variant in by_completion["data"][0]["variants"])
