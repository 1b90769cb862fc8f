"""The training configuration: one YAML file, typed; every key's own words go into its JSON schema for editors."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model_image.manifest import ModelName, Sha256, Task, Version

DatasetName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
BaseModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}/[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
MetricName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
TrainingTask = Literal["causal-lm", "masked-lm", "sequence-classification"]

# What a model is measured by on held-out rows, and the baselines beside it. The version in production has the first
# ones too, as production_accuracy for heldout_accuracy.
MEASURES: dict[TrainingTask, tuple[str, ...]] = {
    "causal-lm": ("heldout_bits_per_byte", "heldout_perplexity", "heldout_nats_per_token"),
    "masked-lm": ("heldout_masked_accuracy", "heldout_masked_accuracy_top5", "heldout_nats_per_masked_token"),
    "sequence-classification": ("heldout_accuracy", "heldout_macro_f1", "heldout_calibration_error"),
}
BASELINES: dict[TrainingTask, tuple[str, ...]] = {
    "causal-lm": ("heldout_zlib_bits_per_byte", "heldout_ngram_bits_per_byte"),
    "masked-lm": ("heldout_majority_masked_accuracy",),
    "sequence-classification": ("heldout_majority_accuracy", "heldout_vader_accuracy"),
}


def in_production(measure: str) -> str:
    """How a measure is called when it is that of the version in production."""
    return f"production_{measure.removeprefix('heldout_')}"


class Part(BaseModel):
    """A part of a recipe: unknown keys are refused, and docstrings describe its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DatasetPart(Part):
    """A data set, or its first `max_rows` training rows: the rows of a data set are mixed."""

    name: DatasetName
    """Its directory under --data, which holds a dataset.json."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """How many of its training rows are read; all by default."""
    digest: Sha256 | None = None
    """The `digest` of its dataset.json, where nothing but exactly this data may be trained on."""


class Data(Part):
    """Which data sets are read, and which of their columns and labels."""

    datasets: Annotated[tuple[DatasetPart, ...], Field(min_length=1)]
    """Read one after the other; the order of training mixes them."""
    column: str = "text"
    """The column that holds the text."""
    label_column: str = "label"
    """The column that holds the label (sequence-classification)."""
    labels: tuple[str, ...] = ()
    """The labels to learn, in the order of the model's outputs; rows with another label are left out."""


class Tokenizer(Part):
    """Length of what the model sees, in tokens; the vocabulary is trained only where there is no base model."""

    max_tokens: Annotated[int, Field(ge=8, le=8192)]
    """causal-lm: texts are packed into blocks of this many tokens. Others: a longer text is cut."""
    vocabulary: Annotated[int, Field(ge=257, le=65536)] | None = None
    """Tokens of the byte-level BPE that is trained for an `architecture`."""


class Architecture(Part):
    """A GPT-2 from scratch."""

    layers: Annotated[int, Field(ge=1, le=96)]
    width: Annotated[int, Field(ge=8, le=16384)]
    heads: Annotated[int, Field(ge=1, le=256)]
    """Must divide `width`."""

    @model_validator(mode="after")
    def heads_divide_width(self) -> "Architecture":
        """Every head gets the same share of the width."""
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} does not divide width {self.width}; choose one that does")
        return self


class Lora(Part):
    """Low-rank adapters in place of training the base's own weights; they are merged into the artefact."""

    rank: Annotated[int, Field(ge=1, le=1024)]
    alpha: Annotated[int, Field(ge=1)]
    """The adapters' output is scaled by alpha / rank."""
    dropout: Fraction = 0.0
    target_modules: tuple[str, ...] = ()
    """Ends of the names of the linear layers to adapt, such as q_proj; all of them by default."""


class Optimisation(Part):
    """AdamW with linear warm-up and decay to zero (masked and classification) or cosine decay (causal)."""

    batch: Annotated[int, Field(ge=1, le=4096)]
    """Rows of one step, over all processes and accumulated parts together."""
    accumulation: Annotated[int, Field(ge=1, le=4096)] = 1
    """Each process computes its rows of a step in so many parts, one after the other, to need less memory."""
    gradient_checkpointing: bool = False
    """Computes activations again in the backward pass: less memory, about a third more time."""
    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)]
    """The highest one, after the warm-up."""
    base_learning_rate: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """The rate of what was trained before; the new head learns at learning_rate. By default both the same."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    gradient_clip: Annotated[float, Field(gt=0.0)] = 1.0
    """The norm that all gradients together are cut to."""
    dropout: Fraction = 0.0
    frozen_layers: Annotated[int, Field(ge=0)] = 0
    """So many layers of the base, from the input on, stay as they are."""
    mask_probability: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the tokens that are hidden (masked-lm)."""
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    """What the forward pass multiplies in; weights stay fp32. auto: bf16 where the processor or GPU computes in it
    natively, fp32 elsewhere; fp32 gives the same numbers on every run of one machine."""


class GateRule(Part):
    """One condition on a held-out measure; a model that misses one is not made into an artefact."""

    metric: MetricName
    at_least: float | MetricName | None = None
    """A number or another metric, such as heldout_majority_accuracy or production_accuracy."""
    at_most: float | MetricName | None = None
    """A number or another metric, such as heldout_ngram_bits_per_byte."""
    margin: float = 0.0
    """Added to what at_least or at_most name: at_least production_accuracy with margin -0.01 allows a point less."""

    @model_validator(mode="after")
    def has_one_bound(self) -> "GateRule":
        """Either from below or from above."""
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"gate rule on {self.metric} needs one of at_least and at_most; add or remove one")
        return self

    @property
    def bound(self) -> float | str:
        """What the metric is compared with."""
        chosen = self.at_least if self.at_least is not None else self.at_most
        assert chosen is not None  # noqa: S101  (the validator made sure)
        return chosen


class Evaluation(Part):
    """How the held-out rows are read, when training stops early, and what the model must reach."""

    batch: Annotated[int, Field(ge=1, le=4096)] = 32
    """How many rows at once."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """At most so many held-out rows of each data set."""
    validation_percent: Annotated[int, Field(ge=0, le=50)] = 0
    """Share of the training rows that is kept out of training, to see while it runs how well it does on new rows."""
    every_steps: Annotated[int, Field(ge=1)] = 50
    """Steps between two looks at the validation rows."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Training stops after so many looks without a lower validation loss; the best weights are kept. Needs
    validation_percent."""
    least_improvement: Annotated[float, Field(ge=0.0)] = 0.0
    """A validation loss (nats) counts as lower when it is lower by more than this."""
    baselines: tuple[Literal["vader"], ...] = ()
    """Others to compare with: vader, the lexicon of vaderSentiment, for the labels negative, neutral and positive."""
    gate: tuple[GateRule, ...] = ()
    """Every rule must hold. One that names a production_ metric is judged where --production is given."""


class Budget(Part):
    """Training stops when the first of these is used up."""

    steps: Annotated[int, Field(ge=1)] | None = None
    """The schedule of the learning rate ends here; without it, it ends with the time."""
    max_minutes: Annotated[float, Field(gt=0.0)] | None = None
    """Minutes of training, those before an interruption included."""
    max_euros: Annotated[float, Field(gt=0.0)] | None = None
    """The same in money, at euros_per_hour."""
    euros_per_hour: Annotated[float, Field(gt=0.0)] | None = None
    """What all machines of the training cost together."""

    @model_validator(mode="after")
    def ends(self) -> "Budget":
        """There is an end, and a price where it is one in money."""
        if self.steps is None and self.max_minutes is None and self.max_euros is None:
            raise ValueError("budget needs one of steps, max_minutes and max_euros; add one")
        if self.max_euros is not None and self.euros_per_hour is None:
            raise ValueError("budget.max_euros needs euros_per_hour; add what the machines cost")
        return self

    @property
    def minutes(self) -> float | None:
        """The shorter of the limits in minutes and in money; None where there is neither."""
        limits = [] if self.max_minutes is None else [self.max_minutes]
        if self.max_euros is not None and self.euros_per_hour is not None:
            limits.append(self.max_euros / self.euros_per_hour * 60)
        return min(limits, default=None)


class Checkpoints(Part):
    """How often the state of training is kept, where --checkpoints says where to; SIGTERM always keeps it."""

    every_steps: Annotated[int, Field(ge=1)] = 200
    keep: Annotated[int, Field(ge=1)] = 2
    """How many of the newest are kept; all go when the artefact is made."""


class Distribution(Part):
    """How many processes train together, one for each GPU; more than one are started by torchrun."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    sharding: Literal["none", "full"] = "none"
    """none: every process holds the whole model (DDP). full: each holds its share of weights, gradients and optimiser
    (FSDP2), for models too large for one GPU."""

    @property
    def processes(self) -> int:
        """All of them."""
        return self.nodes * self.processes_per_node


class TrainRecipe(Part):
    """A model that is trained: from `base`, another model (`name/version`), or from scratch with an `architecture`."""

    kind: Literal["train"]
    name: ModelName
    version: Version
    tasks: Annotated[tuple[Task, ...], Field(min_length=1)]
    """What the server offers the model for."""
    task: TrainingTask
    """What it learns: to go on with a text, to fill in hidden words, or to put a label on a text."""
    licence: str
    """Of the artefact, as an SPDX identifier."""
    base: BaseModelName | None = None
    """name/version of an artefact under --models."""
    architecture: Architecture | None = None
    data: Data
    tokenizer: Tokenizer
    optimisation: Optimisation
    lora: Lora | None = None
    evaluation: Evaluation = Evaluation()
    budget: Budget
    checkpoints: Checkpoints = Checkpoints()
    distribution: Distribution = Distribution()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes every random number: of the first weights, of the order of the rows, of masks and of dropout."""
    threads: Annotated[int, Field(ge=0, le=512)] = 0
    """Computing threads of a process on CPUs; 0 leaves the choice to torch."""

    @model_validator(mode="after")
    def starts_from_one_thing(self) -> "TrainRecipe":
        """From scratch or from a base, and with the keys that its task needs."""
        if (self.base is None) == (self.architecture is None):
            raise ValueError("exactly one of base and architecture is needed; remove one or add one")
        if self.task != "causal-lm" and self.base is None:
            raise ValueError(f"task {self.task} starts from base; use that key")
        if (self.tokenizer.vocabulary is None) != (self.base is not None):
            raise ValueError("tokenizer.vocabulary goes with architecture, not with base; add or remove it")
        if self.task == "sequence-classification" and len(set(self.data.labels)) < 2:
            raise ValueError("data.labels needs at least two different labels; name them")
        if self.lora is not None and self.base is None:
            raise ValueError("lora adapts a base, and there is none; name a base or remove lora")
        if self.optimisation.precision == "fp16" and self.distribution.sharding == "full":
            raise ValueError("optimisation.precision fp16 does not go with sharding full; use bf16")
        return self

    @model_validator(mode="after")
    def can_be_evaluated(self) -> "TrainRecipe":
        """Every metric of the gate is one that its task has, and early stopping has rows to look at."""
        evaluation = self.evaluation
        if evaluation.patience is not None and not evaluation.validation_percent:
            raise ValueError("evaluation.patience needs validation_percent; say how many rows are kept out")
        if "vader" in evaluation.baselines and not set(self.data.labels) <= {"negative", "neutral", "positive"}:
            raise ValueError("evaluation.baselines names vader, which knows negative, neutral and positive alone")
        known = self.metric_names
        for rule in evaluation.gate:
            for name in (rule.metric, rule.bound):
                if isinstance(name, str) and name not in known:
                    raise ValueError(f"gate names {name!r}, which is no metric of {self.task}: {', '.join(known)}")
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The metrics that the gate can name."""
        measures, baselines = MEASURES[self.task], BASELINES[self.task]
        if "vader" not in self.evaluation.baselines:
            baselines = tuple(name for name in baselines if name != "heldout_vader_accuracy")
        return (*measures, *baselines, *(in_production(name) for name in measures))


def json_schema() -> dict[str, Any]:
    """The JSON schema of a training configuration, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TrainRecipe.model_json_schema()}
