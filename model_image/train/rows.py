"""The rows that a recipe asks for out of its data sets, one after the other, never all in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from model_image.errors import DataError
from model_image.train.datasets import Dataset
from model_image.train_recipe import DatasetPart, TrainRecipe

Split = Literal["train", "heldout"]


@dataclass(frozen=True)
class Rows:
    """A recipe's data sets, in the order of `data.datasets`."""

    recipe: TrainRecipe
    datasets: Sequence[Dataset]

    def check(self) -> None:
        """Raises DataError for data other than pinned, a column that is missing, or a label that never comes."""
        data = self.recipe.data
        columns = (data.column, data.label_column) if data.labels else (data.column,)
        for part, dataset in self._parts():
            if part.digest is not None and part.digest != dataset.manifest.digest:
                raise DataError(
                    f"data set {part.name} has the digest {dataset.manifest.digest}, {self.recipe.name} asks for "
                    f"{part.digest}; push that data, or correct data.datasets"
                )
            for column in columns:
                if column not in dataset.manifest.columns:
                    there = ", ".join(dataset.manifest.columns)
                    raise DataError(
                        f"data set {part.name} has no column {column!r}, only {there}; correct the configuration"
                    )
        splits: tuple[Split, ...] = ("train", "heldout") if data.labels else ()
        for split in splits:
            missing = set(data.labels) - {label for _, label in self.labelled(split)}
            if missing:
                raise DataError(
                    f"{self.recipe.name}: no {split} row has the label {min(missing)!r}; correct data.labels"
                )

    def texts(self, split: Split) -> Iterator[str]:
        """The texts of a split."""
        for part, dataset in self._parts():
            for row in islice(dataset.rows(split), self._limit(part, split)):
                yield row[self.recipe.data.column]

    def labelled(self, split: Split) -> Iterator[tuple[str, str]]:
        """(text, label) of the rows whose label is one of the recipe's."""
        data = self.recipe.data
        for part, dataset in self._parts():
            rows: Iterator[tuple[Any, Any]] = (
                (row[data.column], row[data.label_column]) for row in dataset.rows(split)
            )
            yield from islice((row for row in rows if row[1] in data.labels), self._limit(part, split))

    def _parts(self) -> Iterator[tuple[DatasetPart, Dataset]]:
        return zip(self.recipe.data.datasets, self.datasets, strict=True)

    def _limit(self, part: DatasetPart, split: Split) -> int | None:
        return part.max_rows if split == "train" else self.recipe.evaluation.max_rows
