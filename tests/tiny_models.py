"""Tiny random models as true artefact directories: every kind the server serves, made in a second each.

The weights are random but fixed by a seed, so what a model answers is nonsense and always the same.
"""

import json
import os
import re
import string
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = (
    "The quick brown fox jumps over the lazy dog near the river bank every morning.",
    "A model server answers requests, one token after another, until the text is complete.",
    "Great product, works well and arrived quickly. Terrible service, slow and rude staff.",
    "Amazon simple storage stores objects in buckets; each object has a key and a version.",
    "Größe, café, naïve, smörgåsbord, 東京 and emoji 🙂 are words that take several bytes.",
)


def gpt2(
    models: Path,
    *,
    name: str = "tiny-gpt2",
    version: str = "1",
    context: int = 256,
    layers: int = 2,
    ends: bool = True,
) -> Path:
    """A GPT-2 with its own byte-level BPE and no chat template: completions; without `ends` it writes to its limit."""
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=_byte_level_bpe(["<|endoftext|>"]), eos_token="<|endoftext|>", bos_token="<|endoftext|>"
    )
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=context, n_embd=48, n_layer=layers, n_head=4,
        bos_token_id=0, eos_token_id=0 if ends else None, initializer_range=0.3,
    )  # fmt: skip
    return _save(models, name, version, ["completions"], model=lambda: GPT2LMHeadModel(config), tokenizer=tokenizer)


def llama(models: Path, *, name: str = "tiny-chat", version: str = "1", context: int = 256, layers: int = 2) -> Path:
    """A Llama with grouped query heads and a chat template: chat and completions."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=_byte_level_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=context,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    return _save(
        models, name, version, ["chat", "completions"], model=lambda: LlamaForCausalLM(config), tokenizer=tokenizer
    )


def bert_embeddings(models: Path, *, name: str = "tiny-embed", version: str = "1") -> Path:
    """A BERT encoder: embeddings and keywords."""
    from transformers import BertModel

    return _bert(models, name, version, ["embeddings", "keywords"], BertModel)


def bert_sentiment(models: Path, *, name: str = "tiny-sentiment", version: str = "1") -> Path:
    """A BERT sequence classifier with the labels negative and positive: sentiment."""
    from transformers import BertForSequenceClassification

    def make(config: Any) -> Any:
        config.id2label = {0: "negative", 1: "positive"}
        config.label2id = {"negative": 0, "positive": 1}
        return BertForSequenceClassification(config)

    return _bert(models, name, version, ["sentiment"], make)


def bert_mlm(models: Path, *, name: str = "tiny-mlm", version: str = "1") -> Path:
    """A BERT masked language model: fill-mask and augmentation."""
    from transformers import BertForMaskedLM

    return _bert(models, name, version, ["fill-mask", "augmentation"], BertForMaskedLM)


KINDS: dict[str, Callable[..., Path]] = {
    "gpt2": gpt2,
    "llama": llama,
    "bert_embeddings": bert_embeddings,
    "bert_sentiment": bert_sentiment,
    "bert_mlm": bert_mlm,
}


def write_all(models: Path) -> dict[str, Path]:
    """One artefact of every kind under `models/<name>/<version>`, by kind."""
    return {kind: build(models) for kind, build in KINDS.items()}


def settings_models(directories: Iterable[Path]) -> list[dict[str, object]]:
    """The value of MODELKEEP_MODELS (and of the `models` setting) for these artefact directories."""
    manifests = [json.loads((directory / "manifest.json").read_text()) for directory in directories]
    return [{key: manifest[key] for key in ("name", "version", "tasks")} for manifest in manifests]


def _bert(models: Path, name: str, version: str, tasks: Sequence[str], make: Callable[[Any], Any]) -> Path:
    from transformers import BertConfig, BertTokenizer

    tokenizer = BertTokenizer(tokenizer_object=_wordpiece(), do_lower_case=True)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=128, initializer_range=0.3,
    )  # fmt: skip
    return _save(models, name, version, tasks, model=lambda: make(config), tokenizer=tokenizer)


def _save(
    models: Path, name: str, version: str, tasks: Sequence[str], *, model: Callable[[], Any], tokenizer: Any
) -> Path:
    import torch

    from model_image.artefacts import write_manifest

    directory = models / name / version
    directory.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        made = model()
    made.eval().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    write_manifest(directory, name=name, version=version, tasks=tasks, architecture=type(made).__name__)
    return directory


def _byte_level_bpe(special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _wordpiece() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    # A vocabulary spelled out: training one does not give the same ids twice.
    words = sorted(set(re.findall(r"[^\W_]+|[^\w\s]", unicodedata.normalize("NFKC", " ".join(SENTENCES)).lower())))
    letters = sorted({letter for word in words for letter in word} | set(string.ascii_lowercase + string.digits))
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {piece: token for token, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
