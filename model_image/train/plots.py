"""The plots of a model card, as SVG; drawn twice from the same numbers they are the same files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from model_image.train.evaluation import CalibrationBin
from model_image.train.history import History

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9822b", "#b4bcc6"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "modelkeep",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw_loss(history: History, file: Path) -> None:
    """Loss of each step, its moving mean, and the validation loss, in nats for each prediction."""
    steps, losses = history.column("loss")
    with rc_context(_STYLE):
        figure = Figure(figsize=(6, 3), layout="constrained")
        axis = figure.subplots()
        axis.plot(steps, losses, color=_GREY, linewidth=0.8, label="training, each step")
        axis.plot(steps, _moving_mean(losses), color=_BLUE, linewidth=1.5, label="training, moving mean")
        looks, validation = history.column("validation_loss")
        if looks:
            axis.plot(looks, validation, color=_ORANGE, linewidth=1.5, marker="o", markersize=3, label="validation")
        axis.set_xlabel("step")
        axis.set_ylabel("loss (nats)")
        axis.legend(frameon=False)
        _write(figure, file)


def draw_calibration(bins: Sequence[CalibrationBin], file: Path) -> None:
    """How often answers are right against how sure the model is of them; a perfect model lies on the diagonal."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.6, 3.6), layout="constrained")
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=_GREY, linewidth=0.8)
        axis.plot(
            [each.confidence for each in bins],
            [each.accuracy for each in bins],
            color=_BLUE,
            marker="o",
            markersize=4,
        )
        for each in bins:
            axis.annotate(f"{each.count}", (each.confidence, each.accuracy), fontsize=7, xytext=(4, -9),
                          textcoords="offset points")  # fmt: skip
        axis.set_xlabel("probability of the answer")
        axis.set_ylabel("share that is right")
        _write(figure, file)


def _write(figure: Figure, file: Path) -> None:
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


def _moving_mean(values: list[float]) -> list[float]:
    """Each value's mean with those before it, over a twentieth of all."""
    width = max(1, len(values) // 20)
    means = []
    total = 0.0
    for number, value in enumerate(values):
        total += value - (values[number - width] if number >= width else 0.0)
        means.append(total / min(number + 1, width))
    return means
