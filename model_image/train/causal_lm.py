"""Learns to go on with a text: a GPT-2 from scratch with its own byte-level BPE, or a base model; packed blocks."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from model_image.errors import ConfigError, DataError
from model_image.train import adapters
from model_image.train.encoder import set_dropout
from model_image.train.evaluation import Evaluated, bits_per_byte, perplexity
from model_image.train.machine import Machine
from model_image.train.running import Batch, shuffled_batches
from model_image.train.tokens import TokenFile, plain_ids, slices, split_off
from model_image.train_recipe import Architecture, TrainRecipe

END_OF_TEXT = "<|endoftext|>"
Texts = Callable[[], Iterable[str]]


class CausalLoss(torch.nn.Module):
    """A causal model with its loss: the sum over tokens of the nats that the next one is a surprise by."""

    def __init__(self, model: Any) -> None:
        """`model` is transformers' own."""
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """`tokens` and `targets` are [rows, length]; the targets are the tokens one place on."""
        logits = self.model(input_ids=tokens, use_cache=False).logits
        return cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")


class CausalTask:
    """Blocks of `tokenizer.max_tokens` tokens out of all texts one after the other, each text ended by its token."""

    schedule: Literal["linear", "cosine"] = "cosine"

    def __init__(
        self, recipe: TrainRecipe, *, texts: Texts, base: Path | None, machine: Machine, scratch: Path
    ) -> None:
        """
        `texts` gives the training texts, from the first on at each call; `scratch` is for the token file.

        Raises ConfigError for a base that does not fit, DataError on too little text.
        """
        self._recipe = recipe
        self.tokenizer, self.model = _start(recipe, texts=texts, base=base, machine=machine)
        if recipe.lora:
            adapters.inject(self.model, recipe.lora)
        if recipe.optimisation.gradient_checkpointing:
            adapters.checkpoint_gradients(self.model)
        self.module = CausalLoss(self.model)
        encode, end = plain_ids(self.tokenizer), self.tokenizer.eos_token_id
        self._stream = TokenFile.of_node(
            machine, scratch, texts(), lambda chunk: [[*ids, end] for ids in encode(chunk)]
        ).ids
        length = recipe.tokenizer.max_tokens
        if len(self._stream) <= length + 1:
            raise DataError(
                f"{recipe.name}: {len(self._stream)} tokens to train on, needed more than {length + 1}; add rows"
            )
        blocks = (len(self._stream) - 1) // length
        self._training, self._validating = split_off(blocks, percent=recipe.evaluation.validation_percent)

    def groups(self) -> list[dict[str, Any]]:
        """Matrices decay, the rest does not."""
        settings = self._recipe.optimisation
        learning = [weight for weight in self.module.parameters() if weight.requires_grad]
        parts = [
            ([weight for weight in learning if weight.dim() >= 2], settings.weight_decay),
            ([weight for weight in learning if weight.dim() < 2], 0.0),
        ]
        rate = settings.learning_rate
        return [
            {"params": weights, "lr": rate, "peak": rate, "weight_decay": decay} for weights, decay in parts if weights
        ]

    def batches(self) -> Iterator[Batch]:
        """Endless batches of blocks in a mixed order."""
        for numbers in shuffled_batches(self._training, batch=self._recipe.optimisation.batch, seed=self._recipe.seed):
            yield self._batch(numbers)

    def validation(self) -> Iterator[Batch]:
        """The blocks kept out of training."""
        for numbers in slices(self._validating, self._recipe.evaluation.batch):
            yield self._batch(numbers)

    def _batch(self, numbers: list[int]) -> Batch:
        length = self._recipe.tokenizer.max_tokens
        rows = np.stack([self._stream[number * length : (number + 1) * length + 1] for number in numbers])
        ids = torch.from_numpy(rows.astype(np.int64))
        return Batch(
            inputs={"tokens": ids[:, :-1], "targets": ids[:, 1:]},
            predictions=ids[:, 1:].numel(),
            tokens=ids[:, 1:].numel(),
        )

    def save(self, directory: Path) -> None:
        """Weights as safetensors, configuration and tokenizer."""
        adapters.merge(self.model)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def _start(recipe: TrainRecipe, *, texts: Texts, base: Path | None, machine: Machine) -> tuple[Any, Any]:
    """Tokenizer and model before training."""
    length = recipe.tokenizer.max_tokens
    if base is None:
        assert recipe.architecture is not None  # noqa: S101  (the recipe's own validator made sure)
        assert recipe.tokenizer.vocabulary is not None  # noqa: S101  (likewise)
        trained = train_tokenizer(texts(), vocabulary=recipe.tokenizer.vocabulary) if machine.is_main else None
        trained_json = machine.told_by_main(trained.to_str() if trained else None)
        tokenizer = _wrapped(Tokenizer.from_str(trained_json), length=length)
        fresh = make_model(
            recipe.architecture, vocabulary=len(tokenizer), length=length, dropout=recipe.optimisation.dropout
        )
        fresh.set_attn_implementation(machine.attention)
        return tokenizer, fresh
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, attn_implementation=machine.attention, dtype=torch.float32)
    set_dropout(model, recipe.optimisation.dropout)
    longest = model.config.max_position_embeddings
    if length > longest:
        raise ConfigError(f"tokenizer.max_tokens is {length}: the base {recipe.base} reads {longest}; choose fewer")
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"base {recipe.base} has no token that ends a text; take another base")
    if recipe.optimisation.frozen_layers:
        raise ConfigError("optimisation.frozen_layers is for encoders; use lora, or remove it")
    return tokenizer, model


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> Tokenizer:
    """A byte-level BPE (as GPT-2's): any text has tokens, none is unknown. Token 0 ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wrapped(tokenizer: Tokenizer, *, length: int) -> Any:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )


def make_model(architecture: Architecture, *, vocabulary: int, length: int, dropout: float = 0.0) -> GPT2LMHeadModel:
    """A GPT-2 with random weights."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=architecture.width,
        n_layer=architecture.layers,
        n_head=architecture.heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, as one operation instead of six
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config)


@torch.inference_mode()
def evaluate(model: Any, tokenizer: Any, texts: list[str], *, length: int, batch: int) -> Evaluated:
    """Bits per byte and perplexity of held-out texts, every token of which is predicted; one text a line."""
    model.eval()
    end = tokenizer.eos_token_id
    ids = [token for text in plain_ids(tokenizer)(texts) for token in [*text, end]]
    stream = torch.tensor([end, *ids])
    size = sum(len(text.encode()) + 1 for text in texts)
    nats = 0.0
    windows = list(range(0, len(stream) - 1, length))
    for first in range(0, len(windows), batch):
        rows = [stream[start : start + length + 1] for start in windows[first : first + batch]]
        if len({len(row) for row in rows}) > 1:  # only the last window is shorter
            nats += _nats(model, rows[-1:])
            rows = rows[:-1]
        nats += _nats(model, rows)
    return Evaluated(
        {
            "heldout_bits_per_byte": bits_per_byte(nats, size),
            "heldout_perplexity": perplexity(nats, len(ids)),
            "heldout_nats_per_token": nats / len(ids),
        }
    )


def _nats(model: Any, rows: list[torch.Tensor]) -> float:
    ids = torch.stack(rows).to(model.device)
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    return cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="sum").item()
