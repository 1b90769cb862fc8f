"""Gives an encoder a masked-language head with tied embeddings: one flat loop, accuracy on held-out masked tokens."""

from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BertForMaskedLM

from model_image.progress import Progress
from model_image.recipes import TrainRecipe
from model_image.train.classification import encode
from model_image.train.encoder import finetuning_groups, set_dropout
from model_image.train.running import Pace, batches_by_length, computing, padded, prepare, rate_at

SMOOTHING = 0.1


def train_masked_lm(
    recipe: TrainRecipe,
    *,
    train_texts: list[str],
    heldout_texts: list[str],
    base: Path,
    directory: Path,
    progress: Progress,
) -> dict[str, float]:
    """Train, evaluate and save into `directory`; returns the metrics."""
    prepare(seed=recipe.seed, threads=recipe.threads)
    settings = recipe.optimisation
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = BertForMaskedLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
    model.bert.embeddings.requires_grad_(False)  # the head is tied to them: they are the meaning it starts from
    set_dropout(model, settings.dropout)
    texts = encode(tokenizer, train_texts, length=recipe.tokenizer.max_tokens)
    start_head(model, texts)

    optimiser = torch.optim.AdamW(finetuning_groups(model, settings), betas=settings.betas, fused=True)
    batches = batches_by_length([len(text) for text in texts], batch=settings.batch, seed=recipe.seed)
    chance = torch.Generator().manual_seed(recipe.seed)
    pace = Pace(steps=recipe.budget.steps, max_minutes=recipe.budget.max_minutes)
    loss = torch.tensor(float("nan"))
    step = 0
    model.train()
    for step in pace:
        factor = rate_at(step, steps=pace.steps, warmup=settings.warmup_steps, shape="linear")
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        tokens, attention = padded([texts[row] for row in next(batches)], pad=tokenizer.pad_token_id)
        masked, places = mask(tokens, tokenizer, probability=settings.mask_probability, chance=chance)
        with computing(settings.precision):
            logits = masked_logits(model, masked, attention, places)
        loss = cross_entropy(logits.float(), tokens[places])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimiser.step()
        rate = pace.tokens_per_second(int(attention.sum()))
        progress.step(step=step, steps=pace.steps, loss=loss.item(), tokens_per_second=rate)

    progress.phase("evaluating")
    heldout = encode(tokenizer, heldout_texts, length=recipe.tokenizer.max_tokens)
    metrics = evaluate(model, tokenizer, heldout, probability=settings.mask_probability, batch=recipe.evaluation.batch)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return {**metrics, "train_loss": loss.item(), "steps": float(step), "train_tokens": float(pace.tokens)}


@torch.no_grad()
def start_head(model: BertForMaskedLM, texts: list[list[int]]) -> None:
    """
    Start the head where little is left to learn: the transform as identity, the bias as log frequency of each token.

    With the encoder's own embeddings as output matrix, the first step then predicts by frequency and by meaning.
    """
    head = model.cls.predictions
    torch.nn.init.eye_(head.transform.dense.weight)
    torch.nn.init.zeros_(head.transform.dense.bias)
    every = torch.tensor([token for text in texts for token in text[1:-1]], dtype=torch.long)
    counts = torch.bincount(every, minlength=head.bias.numel()).float()
    head.bias.copy_(((counts + SMOOTHING) / counts.sum()).log())


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
    model: BertForMaskedLM, tokenizer: Any, texts: list[list[int]], *, probability: float, batch: int
) -> dict[str, float]:
    """Accuracy (first guess, and among the first five) and nats on masked tokens of held-out texts."""
    model.train(mode=False)
    chance = torch.Generator().manual_seed(1)
    order = sorted(texts, key=len)
    first = among = count = 0
    nats = 0.0
    for start in range(0, len(order), batch):
        tokens, attention = padded(order[start : start + batch], pad=tokenizer.pad_token_id)
        masked, places = mask(tokens, tokenizer, probability=probability, chance=chance)
        logits, true = masked_logits(model, masked, attention, places), tokens[places]
        guesses = logits.topk(5, dim=-1).indices
        first += int((guesses[:, 0] == true).sum())
        among += int((guesses == true[:, None]).any(-1).sum())
        count += len(true)
        nats += cross_entropy(logits, true, reduction="sum").item()
    return {
        "heldout_masked_accuracy": first / count,
        "heldout_masked_accuracy_top5": among / count,
        "heldout_nats_per_masked_token": nats / count,
    }
