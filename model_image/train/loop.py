"""The training loop, for every task: one step after the other, to be read from top to bottom."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, Protocol

import torch

from model_image import places
from model_image.errors import Interrupted
from model_image.progress import Progress
from model_image.train import state
from model_image.train.checkpoints import Checkpoints, Kept
from model_image.train.history import History
from model_image.train.machine import Machine
from model_image.train.running import Batch, Pace, rate_at
from model_image.train_recipe import Evaluation, TrainRecipe


class Task(Protocol):
    """What is trained, and on what."""

    schedule: Literal["linear", "cosine"]

    @property
    def module(self) -> torch.nn.Module:
        """Takes the inputs of a batch; gives the sum of the losses (nats) over its predictions."""

    def groups(self) -> list[dict[str, Any]]:
        """AdamW's parameter groups; each has the highest learning rate of its weights as `peak`."""

    def batches(self) -> Iterator[Batch]:
        """Endless, and the same every time."""

    def validation(self) -> Iterator[Batch]:
        """The rows that are kept out of training, the same every time; none by default."""


@dataclass
class Training:
    """One training: the model and its optimiser, and how far it is."""

    task: Task
    recipe: TrainRecipe
    machine: Machine
    checkpoints: Checkpoints
    progress: Progress
    pace: Pace
    step: int = 0
    train_loss: float = float("nan")
    finished: bool = False
    best_step: int = 0
    best_loss: float = float("inf")
    # The weights at best_step; the main process alone has them.
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: History = field(default_factory=History)

    def run(self) -> torch.nn.Module:
        """
        Train until the budget is used up or the validation loss no longer falls; the module as it was before, trained.

        Goes on from the newest checkpoint. Told to stop, it keeps one, where they are on, and raises Interrupted.
        """
        module, settings, machine = self.task.module, self.recipe.optimisation, self.machine
        self.called = machine.place(module)
        self.optimiser = torch.optim.AdamW(self.task.groups(), betas=settings.betas, fused=True)
        self.update = machine.accelerator.prepare_optimizer(self.optimiser)
        self._resume()
        batches = islice(self.task.batches(), self.step, None)
        with self.checkpoints.signals() as told:
            for step in () if self.finished else self.pace.steps(after=self.step):
                batch, steps = next(batches), self.pace.expected_steps(step)
                factor = rate_at(step, steps=steps, warmup=settings.warmup_steps, shape=self.task.schedule)
                for group in self.optimiser.param_groups:
                    group["lr"] = group["peak"] * factor
                norm = self._learn(step, batch)
                self.pace.tokens += batch.tokens
                rate = self.pace.tokens_per_second
                self.progress.step(step=step, steps=steps, loss=self.train_loss, tokens_per_second=rate)
                self._look(step, steps, {"learning_rate": settings.learning_rate * factor, "gradient_norm": norm})
                is_told, self.pace.seconds = machine.agreed(told=told(), seconds=self.pace.now())
                if is_told or step % self.recipe.checkpoints.every_steps == 0:
                    self._keep(told_to_stop=is_told)
                if self.finished:
                    break
            self.finished = True
            self._keep(told_to_stop=machine.agreed(told=told(), seconds=0.0)[0])
        places.end_if_told()
        if self.best_step:
            state.restore_weights(module, self.best, machine=machine, kind=state.BEST)
        return module

    def _learn(self, step: int, batch: Batch) -> float:
        """One step on one batch: forward and backward, then the optimiser. Returns the norm of the gradients."""
        machine, settings = self.machine, self.recipe.optimisation
        self.task.module.train()
        machine.start_step(step)
        loss = torch.zeros((), device=machine.device)
        for number, share in enumerate(machine.shares(batch), start=1):
            with machine.accumulating(self.called, last=number == settings.accumulation):
                part = self.called(**share.inputs) * (share.weight / batch.predictions)
            machine.backward(part)
            loss += part.detach()
        norm = machine.clip([weight for _, weight in state.learning(self.task.module)], settings.gradient_clip)
        self.update.step()
        self.update.zero_grad()
        self.step, self.train_loss = step, machine.total(loss)
        return norm

    def _look(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Records the step, after a look at the validation rows when it is time for one."""
        evaluation = self.recipe.evaluation
        loss = None
        if evaluation.validation_percent and step % evaluation.every_steps == 0:
            loss = self._validation_loss()
            if loss < self.best_loss - evaluation.least_improvement:
                self.best_step, self.best_loss = step, loss
                best = state.weights(self.task.module, kind=state.BEST) if evaluation.patience else {}
                self.best = best if self.machine.is_main else {}
            self.finished = _is_enough(evaluation, step=step, best_step=self.best_step)
        values = {"loss": self.train_loss, **values, "tokens": self.pace.tokens}
        self.history.add(step=step, steps=steps, values=values, validation_loss=loss)

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """Nats for each prediction on the rows kept out of training."""
        self.task.module.eval()
        nats, predictions = torch.zeros((), device=self.machine.device), 0
        for batch in self.task.validation():
            for share in self.machine.shares(batch):
                with self.machine.accelerator.autocast():
                    nats += self.called(**share.inputs) * share.weight
            predictions += batch.predictions
        self.machine.end_evaluation(self.called)
        return self.machine.total(nats) / max(predictions, 1)

    def _resume(self) -> None:
        """Goes on from the newest checkpoint, where there is one."""
        tensors: dict[str, torch.Tensor] = {}

        def newest() -> tuple[Kept, History] | None:
            found = self.checkpoints.newest(self.progress.phase)
            tensors.update(found.tensors if found else {})
            return (found.kept, found.history) if found else None

        found = self.machine.on_main(newest)
        if found is None:
            return
        told, self.history = found
        state.restore(self.task.module, self.optimiser, tensors, machine=self.machine)
        self.best = {name: value for name, value in tensors.items() if name.startswith(state.BEST)}
        self.step, self.train_loss, self.finished = told.step, told.train_loss, told.finished
        self.best_step = told.best_step
        self.best_loss = float("inf") if told.best_loss is None else told.best_loss
        self.pace.go_on(tokens=told.tokens, seconds=told.seconds)
        self.progress.phase(f"going on after step {self.step}")

    def _keep(self, *, told_to_stop: bool) -> None:
        """Keeps a checkpoint, where they are on; raises Interrupted after it when told to stop."""
        if not self.checkpoints.on:
            return
        tensors = {**state.collect(self.task.module, self.optimiser), **self.best}
        kept = Kept(
            step=self.step,
            tokens=self.pace.tokens,
            seconds=self.pace.seconds,
            train_loss=self.train_loss,
            finished=self.finished,
            best_step=self.best_step,
            best_loss=self.best_loss if self.best_step else None,
        )
        place = self.machine.on_main(lambda: self.checkpoints.write(kept, tensors, self.history))
        if told_to_stop:
            raise Interrupted(
                self.checkpoints.signal, f"step {self.step} is kept in {place}; the same command goes on from there"
            )


def _is_enough(evaluation: Evaluation, *, step: int, best_step: int) -> bool:
    """Whether the validation loss has not fallen for as many looks as the patience goes."""
    return evaluation.patience is not None and (step - best_step) // evaluation.every_steps >= evaluation.patience
