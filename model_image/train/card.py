"""The model card: README.md of an artefact, written from the facts of the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model_image.artefacts import Manifest, write_atomically
from model_image.train.evaluation import Evaluated
from model_image.train.gate import Verdict
from model_image.train.history import History
from model_image.train.plots import draw_calibration, draw_loss
from model_image.train.rows import Rows
from model_image.train_recipe import BASELINES, MEASURES, TrainRecipe, in_production

CARD, METRICS = "README.md", "metrics.jsonl"
_WHAT = {
    "causal-lm": "A language model that goes on with a text.",
    "masked-lm": "An encoder that fills in hidden words.",
    "sequence-classification": "An encoder that puts a label on a text.",
}
_MEASURES = {
    "heldout_bits_per_byte": "bits per byte (less is better)",
    "heldout_perplexity": "perplexity (less is better)",
    "heldout_nats_per_token": "nats per token (less is better)",
    "heldout_masked_accuracy": "accuracy on masked tokens",
    "heldout_masked_accuracy_top5": "the same, among five guesses",
    "heldout_nats_per_masked_token": "nats per masked token (less is better)",
    "heldout_accuracy": "accuracy",
    "heldout_macro_f1": "macro F1",
    "heldout_calibration_error": "expected calibration error (less is better)",
}
# A baseline, what it is called, and the measure that it is to be compared with.
_BASELINES = {
    "heldout_zlib_bits_per_byte": ("gzip, level 9, on the same text", "heldout_bits_per_byte"),
    "heldout_ngram_bits_per_byte": ("byte 6-gram counted on the training text", "heldout_bits_per_byte"),
    "heldout_majority_masked_accuracy": ("always the most frequent training token", "heldout_masked_accuracy"),
    "heldout_majority_accuracy": ("always the most frequent training label", "heldout_accuracy"),
    "heldout_vader_accuracy": ("VADER, a lexicon with rules", "heldout_accuracy"),
}


@dataclass(frozen=True)
class Facts:
    """What a card is written from; nothing in it depends on the clock or the machine's names."""

    recipe: TrainRecipe
    rows: Rows
    base: Manifest | None
    production: Manifest | None
    evaluated: Evaluated
    metrics: Mapping[str, float]
    verdicts: Sequence[Verdict]
    history: History
    parameters: int
    trained_parameters: int
    heldout_rows: int
    best_step: int
    precision: str
    config_digest: str


def write_card(directory: Path, facts: Facts) -> None:
    """README.md with its plots, and metrics.jsonl."""
    write_atomically(directory / METRICS, facts.history.to_jsonl().encode())
    draw_loss(facts.history, directory / "loss.svg")
    if facts.evaluated.calibration:
        draw_calibration(facts.evaluated.calibration, directory / "calibration.svg")
    recipe = facts.recipe
    parts = [
        f"# {recipe.name} {recipe.version}\n\n{_WHAT[recipe.task]} Licence: {recipe.licence}.",
        f"## Held-out results\n\n{_results(facts)}",
        *([f"## Gate\n\n{_gate(facts.verdicts)}"] if facts.verdicts else []),
        f"## Training\n\n{_training(facts)}\n\n![Loss by step](loss.svg)",
        *(["## Calibration\n\n![Share that is right by probability](calibration.svg)"] if facts.evaluated.calibration
          else []),
        f"## Limits\n\n{_limits(facts)}",
    ]  # fmt: skip
    write_atomically(directory / CARD, ("\n\n".join(parts) + "\n").encode())


def _results(facts: Facts) -> str:
    measures = MEASURES[facts.recipe.task]
    rows = [["**this model**", *(f"**{facts.metrics[name]:.4g}**" for name in measures)]]
    if facts.production is not None:
        title = f"in production: {facts.production.name} {facts.production.version}"
        rows.append([title, *(f"{facts.metrics[in_production(name)]:.4g}" for name in measures)])
    for name in BASELINES[facts.recipe.task]:
        if name in facts.metrics:
            title, measure = _BASELINES[name]
            rows.append([title, *(f"{facts.metrics[name]:.4g}" if each == measure else "" for each in measures)])
    head = [f"{facts.heldout_rows} rows", *(_MEASURES[name] for name in measures)]
    return _table([head, ["---", *["---:"] * len(measures)], *rows])


def _gate(verdicts: Sequence[Verdict]) -> str:
    words = {True: "holds", False: "does not hold", None: "not judged: no version in production was given"}
    rows = [[verdict.rule, f"{verdict.value:.4g}", words[verdict.holds]] for verdict in verdicts]
    return _table([["rule", "found", ""], ["---", "---:", "---"], *rows])


def _training(facts: Facts) -> str:
    recipe, settings, metrics = facts.recipe, facts.recipe.optimisation, facts.metrics
    architecture = recipe.architecture
    start = f"from {recipe.base}, SHA-256 {facts.base.digest}" if facts.base else "from random weights"
    if architecture:
        start += f": GPT-2, {architecture.layers} layers, width {architecture.width}, {architecture.heads} heads"
    learned = f"{facts.parameters:,} parameters"
    if facts.trained_parameters != facts.parameters:
        learned += f", of which {facts.trained_parameters:,} were trained"
    if recipe.lora:
        learned += f" (LoRA of rank {recipe.lora.rank}, alpha {recipe.lora.alpha}, merged)"
    lines = [
        f"task {recipe.task}, {start}",
        learned,
        f"{metrics['steps']:.0f} steps of {settings.batch} rows, {metrics['train_tokens']:,.0f} tokens, last loss "
        f"{metrics['train_loss']:.4g}",
        *([f"weights of step {facts.best_step}, which had the lowest validation loss"]
          if facts.best_step and recipe.evaluation.patience else []),
        f"AdamW, learning rate {settings.learning_rate:g}, {settings.warmup_steps} steps of warm-up, weight decay "
        f"{settings.weight_decay:g}; {facts.precision}; seed {recipe.seed}; {recipe.distribution.processes} processes",
        *(f"data {dataset.manifest.name}: {dataset.manifest.rows} rows, {dataset.manifest.licence}, "
          f"{dataset.manifest.source}; digest {dataset.manifest.digest}" for dataset in facts.rows.datasets),
        f"configuration digest {facts.config_digest}; every step is in {METRICS}, time and speed in manifest.json",
    ]  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def _limits(facts: Facts) -> str:
    recipe = facts.recipe
    lines = [
        "The held-out rows come from the same sources as the training rows: on other text expect less.",
        f"It reads {recipe.tokenizer.max_tokens} tokens of a text.",
    ]
    if recipe.data.labels:
        lines.append(f"It answers {', '.join(recipe.data.labels)} and nothing else, whatever the text is.")
    if recipe.task == "masked-lm" and facts.production is not None:
        lines.append("Accuracies on masked tokens compare between models of one vocabulary alone.")
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
