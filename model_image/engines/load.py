"""From an artefact directory to an engine, its tokenizer and the facts a server needs about them."""

import ctypes
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from model_image.engines.encoder import ClassificationEngine, EmbeddingEngine, MaskEngine, Pooling
from model_image.engines.fitting import SAMPLE, fit_encoder, fit_generation
from model_image.engines.forward import Forward
from model_image.engines.key_values import head_size, key_heads
from model_image.engines.linear import Weights
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
_KINDS = {
    "embeddings": {"embeddings", "keywords"},
    "classification": {"sentiment"},
    "masks": {"fill-mask", "augmentation"},
}
# Of mallopt(3); a block of more than 32 MiB cannot be kept.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK, _MOST_KEPT = 32 << 20, 256 << 20
_GPU_PART = 0.85
_MOST_CPU_BYTES = 2 << 30
# The pooler of BERT is not read by any task here, so a checkpoint without one is whole.
_UNUSED_WEIGHTS = ("pooler.",)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """
    A model in memory.

    `engines` has one entry per kind of computation: generation, embeddings, classification or masks. `packed` says
    whether its texts are computed without padding; `cache_tokens` how many tokens' keys and values fit the memory, 0
    for an encoder; `quality` what int8 weights changed.
    """

    tokenizer: Tokenizer
    engines: dict[str, Any]
    context_length: int
    vocabulary: int
    stop_tokens: frozenset[int]
    labels: tuple[str, ...]
    packed: bool
    cache_tokens: int
    quality: dict[str, float]


def prepare_torch(*, threads: int | None) -> None:
    """Sets how many cores a step uses (all that this process may run on, unless said) and quiets the libraries."""
    _keep_freed_memory()
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.set_grad_enabled(False)
    quiet: Any = transformers.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()


def _keep_freed_memory() -> None:
    """
    Has the C library keep the memory of a step's results for the next step's.

    It gives large blocks back to the system at once, which then clears every page anew: 12,000 page faults in a batch
    of an int8 encoder, and about 6 % of its time. C libraries other than glibc have no such switch.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is not None:
        change(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
        change(_M_TRIM_THRESHOLD, _MOST_KEPT)


def load(
    directory: Path,
    *,
    architecture: str,
    tasks: tuple[str, ...],
    weights: Weights = "float32",
    cache_bytes: int | None = None,
    share: float = 1.0,
    most_running: int = 32,
) -> Loaded:
    """
    Loads a verified artefact.

    The keys and values of generation take `cache_bytes` at most (None: this model's `share` of what the machine spares,
    and room for one context in any case), and no more than `most_running` texts can use. Raises ArtefactError if the
    artefact cannot serve its tasks, weights are missing, or one full context has no room.
    """
    for task in tasks:
        if not architecture.endswith(_HEADS[task]):
            wanted = " or ".join(_HEADS[task])
            raise ArtefactError(f"{directory} is a {architecture}, but {task} needs one that ends in {wanted}")
    tokenizer = Tokenizer(directory)
    if "chat" in tasks and not tokenizer.has_chat_template:
        raise ArtefactError(f"{directory} has no chat template; take chat out of its tasks, or add the template")
    model = _load_model(directory, architecture)
    if tokenizer.largest_id >= model.config.vocab_size:
        raise ArtefactError(
            f"{directory} has a tokenizer with ids up to {tokenizer.largest_id}, but its model has "
            f"{model.config.vocab_size} tokens; resize its embeddings or drop the added tokens, then publish it again"
        )
    context = _context_length(directory, model.config, tokenizer)
    if GENERATIVE & set(tasks):
        cache_tokens = min(_cache_tokens(model, context, cache_bytes, share), most_running * context)
        sample = tokenizer.encode(SAMPLE).ids[:context]
        engine, quality = fit_generation(
            model, name=architecture, weights=weights, cache_tokens=cache_tokens, sample=sample
        )
        engines: dict[str, Any] = {"generation": engine}
        packed = True
    else:
        kinds = tuple(kind for kind, served in _KINDS.items() if served & set(tasks))
        # Half of the context, since where positions begin, and so how long a text may be, is found out with it.
        sample = tokenizer.encode(SAMPLE).ids[: context // 2]
        pad = tokenizer.pad_token if model.config.pad_token_id is None else model.config.pad_token_id
        forward, quality = fit_encoder(model, kinds=kinds, weights=weights, pad=pad, sample=sample)
        engines = _encoder_engines(forward, kinds, directory, tokenizer)
        context = min(context, model.config.max_position_embeddings - forward.first_position)
        packed, cache_tokens = forward.packed, 0
    return Loaded(
        tokenizer=tokenizer,
        engines=engines,
        context_length=context,
        vocabulary=model.config.vocab_size,
        stop_tokens=_stop_tokens(model),
        labels=_labels(model.config) if "sentiment" in tasks else (),
        packed=packed,
        cache_tokens=cache_tokens,
        quality=quality,
    )


def _load_model(directory: Path, architecture: str) -> Any:
    """The model in float32 on a CPU, in bfloat16 on a GPU, which is what FlashAttention computes in."""
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ArtefactError(f"{directory} names the architecture {architecture}, which transformers does not have")
    on_gpu = torch.cuda.is_available()
    try:
        model, report = kind.from_pretrained(
            directory,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
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


def _encoder_engines(forward: Forward, kinds: tuple[str, ...], directory: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    engines: dict[str, Any] = {}
    if "embeddings" in kinds:
        pooling, normalise = _pooling(directory)
        engines["embeddings"] = EmbeddingEngine(forward, pooling=pooling, normalise=normalise)
    if "classification" in kinds:
        engines["classification"] = ClassificationEngine(forward)
    if "masks" in kinds:
        if tokenizer.mask_token is None:
            raise ArtefactError(f"{directory} has a tokenizer without a mask token; publish it with its own tokenizer")
        engines["masks"] = MaskEngine(forward)
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
    # Longer texts have other frequencies, which transformers would choose for all texts of a step at once.
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        limits.append(rope.get("original_max_position_embeddings") or config.original_max_position_embeddings)
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


def _labels(config: Any) -> tuple[str, ...]:
    return tuple(config.id2label[place] for place in sorted(config.id2label))


def _cache_tokens(model: Any, context: int, cache_bytes: int | None, share: float) -> int:
    """The tokens whose keys and values fit; ArtefactError if not even one full context does."""
    config = model.config
    per_token = 2 * config.num_hidden_layers * key_heads(config) * head_size(config) * model.dtype.itemsize
    if cache_bytes is None:
        return max(context, int(share * _spare_bytes(model.device) // per_token))
    if cache_bytes // per_token < context:
        raise ArtefactError(
            f"MODELKEEP_KV_CACHE_MB is {cache_bytes >> 20}, one full context of {type(model).__name__} takes "
            f"{(per_token * context >> 20) + 1}; raise it"
        )
    return int(cache_bytes // per_token)


def _spare_bytes(device: torch.device) -> float:
    """What keys and values may take of a GPU that has its models, or of a machine that has other things to hold."""
    if device.type == "cuda":
        return _GPU_PART * torch.cuda.mem_get_info(device)[0]
    return min(_MOST_CPU_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 8)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None
