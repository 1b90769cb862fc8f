"""Prompts for a model of the benchmark, cut with its own tokenizer."""

from __future__ import annotations

from pathlib import Path

from bench.harness.models import prompt_text
from bench.harness.workload import Prompts
from model_image.places import prepare_transformers


def prompts_of(directory: Path) -> Prompts:
    """The prompts of the artefact in a directory."""
    prepare_transformers()
    from tokenizers import Tokenizer  # noqa: PLC0415  (reads the environment when it is loaded)

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Prompts(
        prompt_text(),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False).ids,
        decode=tokenizer.decode,
    )
