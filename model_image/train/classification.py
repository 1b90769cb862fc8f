"""Fine-tunes an encoder to put a label on a text: one flat loop, accuracy and macro F1 on held-out rows."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from model_image.progress import Progress
from model_image.recipes import TrainRecipe
from model_image.train.encoder import finetuning_groups, set_dropout
from model_image.train.evaluation import accuracy, macro_f1, majority
from model_image.train.running import Pace, batches_by_length, computing, padded, prepare, rate_at

Labelled = list[tuple[str, str]]


def train_classification(
    recipe: TrainRecipe,
    *,
    train_rows: Labelled,
    heldout_rows: Labelled,
    base: Path,
    directory: Path,
    progress: Progress,
) -> dict[str, float]:
    """Train on (text, label) rows, evaluate and save into `directory`; returns the metrics."""
    prepare(seed=recipe.seed, threads=recipe.threads)
    settings, labels = recipe.optimisation, list(recipe.data.labels)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        attn_implementation="eager",  # the fused kernel's backward pass is slow in bf16 on a processor
        dtype=torch.float32,
    )
    set_dropout(model, settings.dropout)
    texts = encode(tokenizer, [text for text, _ in train_rows], length=recipe.tokenizer.max_tokens)
    targets = [labels.index(label) for _, label in train_rows]

    optimiser = torch.optim.AdamW(finetuning_groups(model, settings), betas=settings.betas, fused=True)
    batches = batches_by_length([len(text) for text in texts], batch=settings.batch, seed=recipe.seed)
    pace = Pace(steps=recipe.budget.steps, max_minutes=recipe.budget.max_minutes)
    loss = torch.tensor(float("nan"))
    step = 0
    model.train()
    for step in pace:
        factor = rate_at(step, steps=pace.steps, warmup=settings.warmup_steps, shape="linear")
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        rows = next(batches)
        tokens, attention = padded([texts[row] for row in rows], pad=tokenizer.pad_token_id)
        with computing(settings.precision):
            logits = model(input_ids=tokens, attention_mask=attention).logits
        loss = cross_entropy(logits.float(), torch.tensor([targets[row] for row in rows]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimiser.step()
        rate = pace.tokens_per_second(int(attention.sum()))
        progress.step(step=step, steps=pace.steps, loss=loss.item(), tokens_per_second=rate)

    progress.phase("evaluating")
    true = [labels.index(label) for _, label in heldout_rows]
    heldout = encode(tokenizer, [text for text, _ in heldout_rows], length=recipe.tokenizer.max_tokens)
    predicted = predict(model, heldout, pad=tokenizer.pad_token_id, batch=recipe.evaluation.batch)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return {
        "heldout_accuracy": accuracy(predicted, true),
        "heldout_macro_f1": macro_f1(predicted, true),
        "heldout_majority_accuracy": majority(true, of=targets),
        "heldout_rows": float(len(true)),
        "train_loss": loss.item(),
        "steps": float(step),
        "train_tokens": float(pace.tokens),
    }


def encode(tokenizer: Any, texts: list[str], *, length: int) -> list[list[int]]:
    """Token ids of each text with the tokenizer's own start and end, cut to `length`."""
    ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    return ids


@torch.inference_mode()
def predict(model: Any, texts: list[list[int]], *, pad: int, batch: int) -> list[int]:
    """The most probable class of every text."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    found = [0] * len(texts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        tokens, attention = padded([texts[row] for row in rows], pad=pad)
        answers = model(input_ids=tokens, attention_mask=attention).logits.argmax(-1).tolist()
        for row, answer in zip(rows, answers, strict=True):
            found[row] = answer
    return found
