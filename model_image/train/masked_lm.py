"""Gives an encoder a masked-language head with tied embeddings: accuracy on held-out masked tokens."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BertForMaskedLM

from model_image.train import adapters
from model_image.train.causal_lm import Texts
from model_image.train.encoder import encoder_ids, finetuning_groups, set_dropout
from model_image.train.evaluation import Evaluated
from model_image.train.machine import Machine
from model_image.train.running import Batch, batches_by_length, padded
from model_image.train.tokens import TokenFile, slices, split_off
from model_image.train_recipe import TrainRecipe

SMOOTHING = 0.1


class MaskedLoss(torch.nn.Module):
    """A masked model with its loss: the sum over the masked tokens of the nats that each is a surprise by."""

    def __init__(self, model: BertForMaskedLM) -> None:
        """`model` is transformers' own."""
        super().__init__()
        self.model = model

    def forward(
        self, tokens: torch.Tensor, attention: torch.Tensor, places: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        """All are [rows, length]: what is shown, where tokens are, where they are masked, and what they were."""
        logits = masked_logits(self.model, tokens, attention, places)
        return cross_entropy(logits.float(), targets[places], reduction="sum")


class MaskedTask:
    """Texts of like length together, some of their tokens hidden, others each time."""

    schedule: Literal["linear", "cosine"] = "linear"

    def __init__(self, recipe: TrainRecipe, *, texts: Texts, base: Path, machine: Machine, scratch: Path) -> None:
        """`texts` gives the training texts; `scratch` is for the token file. Raises ConfigError."""
        self._recipe = recipe
        settings = recipe.optimisation
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = BertForMaskedLM.from_pretrained(base, attn_implementation=machine.attention, dtype=torch.float32)
        set_dropout(self.model, settings.dropout)
        encode = encoder_ids(self.tokenizer, length=recipe.tokenizer.max_tokens)
        self._texts = TokenFile.of_node(machine, scratch, texts(), encode)
        self.counts = count_tokens(self._texts, vocabulary=self.model.config.vocab_size)
        start_head(self.model, self.counts)
        if recipe.lora:
            adapters.inject(self.model, recipe.lora)
        self.model.bert.embeddings.requires_grad_(False)  # the head is tied to them: they are what it starts from
        if settings.gradient_checkpointing:
            adapters.checkpoint_gradients(self.model)
        self.module = MaskedLoss(self.model)
        self._training, self._validating = split_off(len(self._texts), percent=recipe.evaluation.validation_percent)

    def groups(self) -> list[dict[str, Any]]:
        """The head and the encoder, each at its own rate."""
        return finetuning_groups(self.model, self._recipe.optimisation)

    def batches(self) -> Iterator[Batch]:
        """Endless batches of texts of like length."""
        lengths = self._texts.lengths
        settings, seed = self._recipe.optimisation, self._recipe.seed
        numbers = batches_by_length([int(lengths[row]) for row in self._training], batch=settings.batch, seed=seed)
        for step, chosen in enumerate(numbers, start=1):
            yield self._batch([self._training[number] for number in chosen], seed=seed + step * 2**20)

    def validation(self) -> Iterator[Batch]:
        """The texts kept out of training, each masked in the same places every time."""
        for first, rows in enumerate(slices(self._validating, self._recipe.evaluation.batch)):
            yield self._batch(rows, seed=first)

    def _batch(self, rows: list[int], *, seed: int) -> Batch:
        tokens, attention = padded([self._texts[row] for row in rows], pad=self.tokenizer.pad_token_id)
        chance = torch.Generator().manual_seed(seed)
        probability = self._recipe.optimisation.mask_probability
        shown, places = mask(tokens, self.tokenizer, probability=probability, chance=chance)
        return Batch(
            inputs={"tokens": shown, "attention": attention, "places": places, "targets": tokens},
            predictions=int(places.sum()),
            tokens=int(attention.sum()),
        )

    def save(self, directory: Path) -> None:
        """Weights as safetensors, configuration and tokenizer."""
        adapters.merge(self.model)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def count_tokens(texts: TokenFile, *, vocabulary: int) -> torch.Tensor:
    """How often each token is in the texts, without those that begin and end a text."""
    counts = torch.zeros(vocabulary, dtype=torch.long)
    for rows in slices(list(range(len(texts))), 10_000):
        every = [token for row in rows for token in texts[row][1:-1]]
        counts += torch.bincount(torch.tensor(every, dtype=torch.long), minlength=vocabulary)
    return counts


@torch.no_grad()
def start_head(model: BertForMaskedLM, counts: torch.Tensor) -> None:
    """
    Start the head where little is left to learn: the transform as identity, the bias as log frequency of each token.

    With the encoder's own embeddings as output matrix, the first step then predicts by frequency and by meaning.
    """
    head = model.cls.predictions
    torch.nn.init.eye_(head.transform.dense.weight)
    torch.nn.init.zeros_(head.transform.dense.bias)
    frequencies = counts.float()
    head.bias.copy_(((frequencies + SMOOTHING) / frequencies.sum()).log())


def mask(
    tokens: torch.Tensor, tokenizer: Any, *, probability: float, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Hide tokens as BERT does (Devlin et al. 2018): of those picked 80 % become the mask token, 10 % a random one.

    Returns the tokens to show and the places picked, both [rows, length]; one place at least, so that there is a loss.
    """
    special = torch.isin(tokens, torch.tensor(tokenizer.all_special_ids))
    places = (torch.rand(tokens.shape, generator=chance) < probability) & ~special
    if not places.any():
        places.view(-1)[(~special).view(-1).long().argmax()] = True
    kind = torch.rand(tokens.shape, generator=chance)
    anything = torch.randint(len(tokenizer), tokens.shape, generator=chance)
    shown = tokens.masked_fill(places & (kind < 0.8), tokenizer.mask_token_id)
    return torch.where(places & (kind >= 0.9), anything, shown), places


def masked_logits(
    model: BertForMaskedLM, tokens: torch.Tensor, attention: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """Logits [places, vocabulary]: the head, by far the widest layer, runs on the picked places alone."""
    hidden = model.bert(input_ids=tokens, attention_mask=attention).last_hidden_state
    logits: torch.Tensor = model.cls(hidden[places])
    return logits


@torch.inference_mode()
def evaluate(
    model: BertForMaskedLM, tokenizer: Any, texts: list[str], *, length: int, batch: int, probability: float
) -> Evaluated:
    """Accuracy (first guess, and among the first five) and nats on masked tokens of held-out texts."""
    model.train(mode=False)
    chance = torch.Generator().manual_seed(1)
    order = sorted(encoder_ids(tokenizer, length=length)(texts), key=len)
    first = among = 0
    nats = 0.0
    masked_tokens: Counter[int] = Counter()
    for start in range(0, len(order), batch):
        tokens, attention = padded(order[start : start + batch], pad=tokenizer.pad_token_id)
        shown, places = mask(tokens, tokenizer, probability=probability, chance=chance)
        true = tokens[places].to(model.device)
        inputs = [each.to(model.device) for each in (shown, attention, places)]
        logits = masked_logits(model, *inputs)
        guesses = logits.topk(5, dim=-1).indices
        first += int((guesses[:, 0] == true).sum())
        among += int((guesses == true[:, None]).any(-1).sum())
        nats += cross_entropy(logits, true, reduction="sum").item()
        masked_tokens.update(true.tolist())
    count = masked_tokens.total()
    return Evaluated(
        {
            "heldout_masked_accuracy": first / count,
            "heldout_masked_accuracy_top5": among / count,
            "heldout_nats_per_masked_token": nats / count,
        },
        masked_tokens=masked_tokens,
    )
