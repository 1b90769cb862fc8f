"""The gate: what a trained model must reach before it is made into an artefact."""

from collections.abc import Mapping
from dataclasses import dataclass

from model_image.errors import GateError
from model_image.train_recipe import GateRule, TrainRecipe


@dataclass(frozen=True)
class Verdict:
    """A rule of the gate and what came of it; `holds` is None where there is no version in production to judge by."""

    rule: str
    value: float
    holds: bool | None


def judge(recipe: TrainRecipe, metrics: Mapping[str, float]) -> list[Verdict]:
    """One verdict for each rule of the configuration."""
    return [_judge(rule, metrics) for rule in recipe.evaluation.gate]


def _judge(rule: GateRule, metrics: Mapping[str, float]) -> Verdict:
    words = "at least" if rule.at_least is not None else "at most"
    text = f"{rule.metric} {words} {rule.bound}" + (f" {rule.margin:+g}" if rule.margin else "")
    bound = metrics.get(rule.bound) if isinstance(rule.bound, str) else rule.bound
    value = metrics.get(rule.metric)
    if bound is None or value is None:
        return Verdict(rule=text, value=float("nan") if value is None else value, holds=None)
    limit = bound + rule.margin
    if isinstance(rule.bound, str):
        text += f" = {limit:g}"
    return Verdict(rule=text, value=value, holds=value >= limit if rule.at_least is not None else value <= limit)


def refuse(recipe: TrainRecipe, verdicts: list[Verdict]) -> None:
    """Raises GateError naming every rule that does not hold, in one line."""
    missed = [f"{verdict.rule}, found {verdict.value:g}" for verdict in verdicts if verdict.holds is False]
    if missed:
        raise GateError(
            f"{recipe.name} {recipe.version} does not pass its gate: {'; '.join(missed)}. No artefact was made; train "
            f"it better, or change evaluation.gate"
        )
