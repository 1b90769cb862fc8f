"""Fine-tunes an encoder to put a label on a text: accuracy, macro F1 and calibration on held-out rows."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from model_image.errors import ConfigError
from model_image.train import adapters
from model_image.train.encoder import encoder_ids, finetuning_groups, set_dropout
from model_image.train.evaluation import Evaluated, accuracy, calibration, calibration_error, macro_f1
from model_image.train.machine import Machine
from model_image.train.running import Batch, batches_by_length, padded
from model_image.train.tokens import TokenFile, slices, split_off
from model_image.train_recipe import TrainRecipe

Labelled = Iterable[tuple[str, str]]


class ClassificationLoss(torch.nn.Module):
    """A classifier with its loss: the sum over texts of the nats that the label is a surprise by."""

    def __init__(self, model: Any) -> None:
        """`model` is transformers' own."""
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor, attention: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """`tokens` and `attention` are [rows, length], `targets` [rows]."""
        logits = self.model(input_ids=tokens, attention_mask=attention).logits
        return cross_entropy(logits.float(), targets, reduction="sum")


class ClassificationTask:
    """Texts of like length together, each with the number of its label."""

    schedule: Literal["linear", "cosine"] = "linear"

    def __init__(
        self,
        recipe: TrainRecipe,
        *,
        rows: Callable[[], Labelled],
        base: Path,
        machine: Machine,
        scratch: Path,
    ) -> None:
        """`rows` gives (text, label); `scratch` is for the token file. Raises ConfigError."""
        self._recipe = recipe
        settings, labels = recipe.optimisation, list(recipe.data.labels)
        self.tokenizer = AutoTokenizer.from_pretrained(base)
        self.model = AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
            attn_implementation=machine.attention,
            dtype=torch.float32,
        )
        set_dropout(self.model, settings.dropout)
        if recipe.lora:
            adapters.inject(self.model, recipe.lora)
        if settings.gradient_checkpointing:
            adapters.checkpoint_gradients(self.model)
        self.module = ClassificationLoss(self.model)
        encode = encoder_ids(self.tokenizer, length=recipe.tokenizer.max_tokens)
        self._texts = TokenFile.of_node(machine, scratch, (text for text, _ in rows()), encode)
        self.targets = [labels.index(label) for _, label in rows()]
        self._training, self._validating = split_off(len(self._texts), percent=recipe.evaluation.validation_percent)

    def groups(self) -> list[dict[str, Any]]:
        """The head and the encoder, each at its own rate."""
        return finetuning_groups(self.model, self._recipe.optimisation)

    def batches(self) -> Iterator[Batch]:
        """Endless batches of texts of like length."""
        lengths = self._texts.lengths
        settings, seed = self._recipe.optimisation, self._recipe.seed
        for chosen in batches_by_length([int(lengths[row]) for row in self._training], batch=settings.batch, seed=seed):
            yield self._batch([self._training[number] for number in chosen])

    def validation(self) -> Iterator[Batch]:
        """The texts kept out of training."""
        for rows in slices(self._validating, self._recipe.evaluation.batch):
            yield self._batch(rows)

    def _batch(self, rows: list[int]) -> Batch:
        tokens, attention = padded([self._texts[row] for row in rows], pad=self.tokenizer.pad_token_id)
        targets = torch.tensor([self.targets[row] for row in rows])
        inputs = {"tokens": tokens, "attention": attention, "targets": targets}
        return Batch(inputs=inputs, predictions=len(rows), tokens=int(attention.sum()))

    def save(self, directory: Path) -> None:
        """Weights as safetensors, configuration and tokenizer."""
        adapters.merge(self.model)
        self.model.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)


def evaluate(
    model: Any, tokenizer: Any, rows: list[tuple[str, str]], *, labels: tuple[str, ...], length: int, batch: int
) -> Evaluated:
    """Accuracy, macro F1 and expected calibration error of (text, label) rows. Raises ConfigError on other labels."""
    order = {str(label): int(number) for number, label in model.config.id2label.items()}
    missing = [label for label in labels if label not in order]
    if missing:
        raise ConfigError(
            f"the model knows the labels {', '.join(order)}, not {missing[0]!r}; compare models of one task"
        )
    true = [order[label] for _, label in rows]
    ids = encoder_ids(tokenizer, length=length)([text for text, _ in rows])
    chances = probabilities(model, ids, pad=tokenizer.pad_token_id, batch=batch)
    sure, predicted = (each.tolist() for each in chances.max(dim=-1))
    bins = calibration(sure, [left == right for left, right in zip(predicted, true, strict=True)])
    return Evaluated(
        {
            "heldout_accuracy": accuracy(predicted, true),
            "heldout_macro_f1": macro_f1(predicted, true),
            "heldout_calibration_error": calibration_error(bins),
        },
        calibration=bins,
    )


@torch.inference_mode()
def probabilities(model: Any, texts: list[list[int]], *, pad: int, batch: int) -> torch.Tensor:
    """The probability of each class for every text, [texts, classes], on the CPU."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = torch.zeros(len(texts), model.config.num_labels)
    for rows in slices(order, batch):
        tokens, attention = padded([texts[row] for row in rows], pad=pad)
        logits = model(input_ids=tokens.to(model.device), attention_mask=attention.to(model.device)).logits
        found[rows] = logits.float().softmax(-1).cpu()
    return found
