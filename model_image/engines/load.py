"""From an artefact directory to an engine, its tokenizer and the facts a server needs about them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from model_image.engines.encoder import ClassificationEngine, EmbeddingEngine, MaskEngine, Pooling
from model_image.engines.generation import GenerationEngine
from model_image.engines.tokenizer import Tokenizer
from model_image.errors import ArtefactError

GENERATIVE = frozenset({"completions", "chat"})
_HEADS: dict[str, tuple[str, ...]] = {
    "completions": ("ForCausalLM", "LMHeadModel"),
    "chat": ("ForCausalLM", "LMHeadModel"),
    "sentiment": ("ForSequenceClassification",),
    "fill-mask": ("ForMaskedLM",),
    "augmentation": ("ForMaskedLM",),
    "embeddings": ("Model", "ForMaskedLM"),
    "keywords": ("Model", "ForMaskedLM"),
}
# The pooler of BERT is not read by any task here, so a checkpoint without one is whole.
_UNUSED_WEIGHTS = ("pooler.",)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """
    A model in memory.

    `engines` has one entry per kind of computation: generation, embeddings, classification or masks.
    `cache_bytes_per_token` is the size of one token's keys and values, 0 for encoders.
    """

    tokenizer: Tokenizer
    engines: dict[str, Any]
    context_length: int
    vocabulary: int
    stop_tokens: frozenset[int]
    labels: tuple[str, ...]
    cache_bytes_per_token: int


def prepare_torch(*, threads: int | None) -> None:
    """Sets how many cores a step uses (all that this process may run on, unless said) and quiets the libraries."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_grad_enabled(False)
    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


def load(directory: Path, *, architecture: str, tasks: tuple[str, ...]) -> Loaded:
    """Loads a verified artefact; ArtefactError if it cannot serve its tasks or weights are missing."""
    for task in tasks:
        if not architecture.endswith(_HEADS[task]):
            wanted = " or ".join(_HEADS[task])
            raise ArtefactError(f"{directory} is a {architecture}, but {task} needs one that ends in {wanted}")
    tokenizer = Tokenizer(directory)
    if "chat" in tasks and not tokenizer.has_chat_template:
        raise ArtefactError(f"{directory} has no chat template; take chat out of its tasks, or add the template")
    model = _load_model(directory, architecture)
    config = model.config
    return Loaded(
        tokenizer=tokenizer,
        engines=_engines(model, directory, tokenizer, tasks),
        context_length=_context_length(directory, config, tokenizer),
        vocabulary=config.vocab_size,
        stop_tokens=_stop_tokens(model),
        labels=tuple(config.id2label[place] for place in sorted(config.id2label)) if "sentiment" in tasks else (),
        cache_bytes_per_token=_cache_bytes_per_token(config) if GENERATIVE & set(tasks) else 0,
    )


def _load_model(directory: Path, architecture: str) -> Any:
    """The model in float32 on a CPU (bfloat16 is several times slower there), as stored on a GPU."""
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ArtefactError(f"{directory} names the architecture {architecture}, which transformers does not have")
    on_gpu = torch.cuda.is_available()
    try:
        model, report = kind.from_pretrained(
            directory,
            dtype="auto" if on_gpu else torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtefactError(f"{directory} does not load ({type(error).__name__}); publish the model again") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(_UNUSED_WEIGHTS))
    if missing or report["mismatched_keys"]:
        first = missing[0] if missing else next(iter(report["mismatched_keys"]))
        raise ArtefactError(f"{directory} lacks weights of {architecture}, first {first}; publish the model again")
    return model.eval().to("cuda" if on_gpu else "cpu")


def _engines(model: Any, directory: Path, tokenizer: Tokenizer, tasks: tuple[str, ...]) -> dict[str, Any]:
    engines: dict[str, Any] = {}
    if GENERATIVE & set(tasks):
        engines["generation"] = GenerationEngine(model)
    if {"embeddings", "keywords"} & set(tasks):
        pooling, normalise = _pooling(directory)
        encoder = model.base_model
        engines["embeddings"] = EmbeddingEngine(encoder, pad=tokenizer.pad_token, pooling=pooling, normalise=normalise)
    if "sentiment" in tasks:
        engines["classification"] = ClassificationEngine(model, pad=tokenizer.pad_token)
    if {"fill-mask", "augmentation"} & set(tasks):
        if tokenizer.mask_token is None:
            raise ArtefactError(f"{directory} has a tokenizer without a mask token; publish it with its own tokenizer")
        engines["masks"] = MaskEngine(model, pad=tokenizer.pad_token)
    return engines


def _pooling(directory: Path) -> tuple[Pooling, bool]:
    """What sentence-transformers' files say; without them, mean and length 1, as its most used models."""
    settings = _read_json(directory / "1_Pooling" / "config.json")
    modules = _read_json(directory / "modules.json")
    normalise = modules is None or any(module["type"].endswith("Normalize") for module in modules)
    if settings is None:
        return "mean", normalise
    known: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max"
    }  # fmt: skip
    asked = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value]
    if len(asked) != 1 or asked[0] not in known:
        raise ArtefactError(
            f"{directory}/1_Pooling/config.json asks for {asked}; this server knows one of {list(known)}"
        )
    return known[asked[0]], normalise


def _context_length(directory: Path, config: Any, tokenizer: Tokenizer) -> int:
    """The tokens a text may have: the least of what the positions, the tokenizer and sentence-transformers allow."""
    limits = [config.max_position_embeddings, tokenizer.max_length]
    sentence = _read_json(directory / "sentence_bert_config.json")
    if sentence is not None and sentence.get("max_seq_length"):
        limits.append(sentence["max_seq_length"])
    return int(min(limits))


def _stop_tokens(model: Any) -> frozenset[int]:
    """The ids that end a text, from the generation settings and the configuration."""
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config):
        ids = getattr(source, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
    return frozenset(found)


def _cache_bytes_per_token(config: Any) -> int:
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * size * 4)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
