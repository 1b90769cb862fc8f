"""A GPT-2 from scratch: its own byte-level BPE, one flat loop, bits per byte on held-out text."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from model_image.errors import DataError
from model_image.progress import Progress
from model_image.recipes import Architecture, Evaluation, TrainRecipe
from model_image.train.evaluation import bits_per_byte, zlib_bits_per_byte
from model_image.train.running import Pace, computing, prepare, rate_at

END_OF_TEXT = "<|endoftext|>"


def train_causal_lm(
    recipe: TrainRecipe, *, train_texts: list[str], heldout_texts: list[str], directory: Path, progress: Progress
) -> dict[str, float]:
    """Train, evaluate and save into `directory`; returns the metrics. Raises DataError on too little text."""
    assert recipe.architecture is not None  # noqa: S101  (the recipe's own validator made sure)
    assert recipe.tokenizer.vocabulary is not None  # noqa: S101  (likewise)
    prepare(seed=recipe.seed, threads=recipe.threads)
    progress.phase("training the tokenizer")
    tokenizer = train_tokenizer(train_texts, vocabulary=recipe.tokenizer.vocabulary)
    length = recipe.tokenizer.max_tokens
    stream = as_stream(tokenizer, train_texts)
    if len(stream) <= length + 1:
        raise DataError(f"{recipe.name}: {len(stream)} tokens to train on, needed more than {length + 1}; add rows")
    model = make_model(recipe.architecture, vocabulary=tokenizer.get_vocab_size(), length=length)

    settings = recipe.optimisation
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    rest = [weight for weight in model.parameters() if weight.dim() < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    places = torch.Generator().manual_seed(recipe.seed)
    pace = Pace(steps=recipe.budget.steps, max_minutes=recipe.budget.max_minutes)
    loss = torch.tensor(float("nan"))
    step = 0
    for step in pace:
        factor = rate_at(step, steps=pace.steps, warmup=settings.warmup_steps, shape="cosine")
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        starts = torch.randint(len(stream) - length - 1, (settings.batch,), generator=places).tolist()
        tokens = torch.stack([stream[start : start + length] for start in starts])
        targets = torch.stack([stream[start + 1 : start + length + 1] for start in starts])
        with computing(settings.precision):
            logits = model(input_ids=tokens, use_cache=False).logits
        loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.gradient_clip)
        optimiser.step()
        rate = pace.tokens_per_second(tokens.numel())
        progress.step(step=step, steps=pace.steps, loss=loss.item(), tokens_per_second=rate)

    progress.phase("evaluating")
    metrics = evaluate(model, tokenizer, heldout_texts, length=length, evaluation=recipe.evaluation)
    save(model, tokenizer, directory=directory, length=length)
    return {**metrics, "train_loss": loss.item(), "steps": float(step), "train_tokens": float(pace.tokens)}


def train_tokenizer(texts: list[str], *, vocabulary: int) -> Tokenizer:
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


def as_stream(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """All texts as one row of token ids, each text followed by token 0."""
    encodings = tokenizer.encode_batch(texts)
    return torch.tensor([token for encoding in encodings for token in [*encoding.ids, 0]], dtype=torch.long)


def make_model(architecture: Architecture, *, vocabulary: int, length: int) -> GPT2LMHeadModel:
    """A GPT-2 with random weights and no dropout: within such a budget it sees no text often enough to overfit."""
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=length,
        n_embd=architecture.width,
        n_layer=architecture.layers,
        n_head=architecture.heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, as one operation instead of six
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.set_attn_implementation("eager")  # the fused kernel's backward pass is slow in bf16 on a processor
    return model


@torch.inference_mode()
def evaluate(
    model: GPT2LMHeadModel, tokenizer: Tokenizer, texts: list[str], *, length: int, evaluation: Evaluation
) -> dict[str, float]:
    """Bits per byte of the held-out texts, every token of which is predicted, and zlib's for the same text."""
    model.train(mode=False)
    stream = torch.cat([torch.tensor([0]), as_stream(tokenizer, texts)])
    size = sum(len(text.encode()) + 1 for text in texts)
    nats = 0.0
    windows = list(range(0, len(stream) - 1, length))
    for first in range(0, len(windows), evaluation.batch):
        rows = [stream[start : start + length + 1] for start in windows[first : first + evaluation.batch]]
        if len({len(row) for row in rows}) > 1:  # only the last window is shorter
            nats += _nats(model, rows[-1:])
            rows = rows[:-1]
        nats += _nats(model, rows)
    return {
        "heldout_bits_per_byte": bits_per_byte(nats, size),
        "heldout_zlib_bits_per_byte": zlib_bits_per_byte(texts),
        "heldout_nats_per_token": nats / (len(stream) - 1),
    }


def _nats(model: GPT2LMHeadModel, rows: list[torch.Tensor]) -> float:
    batch = torch.stack(rows)
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()


def save(model: GPT2LMHeadModel, tokenizer: Tokenizer, *, directory: Path, length: int) -> None:
    """Weights as safetensors, configuration and tokenizer."""
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=length,
        clean_up_tokenization_spaces=False,
    )
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
