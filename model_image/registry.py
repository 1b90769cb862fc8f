"""The loaded models, and which of them a request means."""

from dataclasses import dataclass
from typing import TypeVar

from model_image.answers import Model
from model_image.api_errors import ApiError
from model_image.batching.encoder_loop import Candidates, EncoderLoop, Vector
from model_image.batching.generation_loop import GenerationLoop
from model_image.metrics import Load
from model_image.scopes import Scopes
from model_image.vocabulary import Vocabulary

GENERATIVE_TASKS = ("chat", "completions")
Loop = TypeVar("Loop")


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A model that answers: its facts, its tokenizer, and one running loop per kind of computation it does."""

    name: str
    version: str
    tasks: tuple[str, ...]
    created: int
    context_length: int
    vocabulary: int
    tokenizer: Vocabulary
    stop_tokens: frozenset[int]
    labels: tuple[str, ...]
    generation: GenerationLoop | None = None
    embeddings: EncoderLoop[Vector] | None = None
    classification: EncoderLoop[list[float]] | None = None
    masks: EncoderLoop[list[Candidates]] | None = None

    @property
    def generation_loop(self) -> GenerationLoop:
        """The loop of a model that serves completions or chat."""
        return _there(self.generation)

    @property
    def embedding_loop(self) -> EncoderLoop[Vector]:
        """The loop of a model that serves embeddings or keywords."""
        return _there(self.embeddings)

    @property
    def classification_loop(self) -> EncoderLoop[list[float]]:
        """The loop of a model that serves sentiment."""
        return _there(self.classification)

    @property
    def mask_loop(self) -> EncoderLoop[list[Candidates]]:
        """The loop of a model that serves fill-mask or augmentation."""
        return _there(self.masks)

    def load(self) -> Load:
        """How busy it is."""
        loops = [loop for loop in (self.generation, self.embeddings, self.classification, self.masks) if loop]
        return Load(
            model=self.name,
            running=sum(loop.running for loop in loops),
            waiting=sum(loop.waiting for loop in loops),
            cache_usage=self.generation.cache_usage if self.generation else None,
        )

    def stop(self) -> None:
        """Ends its loops."""
        for loop in (self.generation, self.embeddings, self.classification, self.masks):
            if loop is not None:
                loop.stop()

    def describe(self) -> Model:
        """Its entry in /v1/models."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "modelkeep",
            "version": self.version,
            "tasks": list(self.tasks),
            "context_length": self.context_length,
        }


class Registry:
    """The models of one server; empty until they are loaded."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}
        self.ready = False

    def add(self, model: ServedModel) -> None:
        """Adds a model that has answered once."""
        self._models[model.name] = model

    @property
    def models(self) -> list[ServedModel]:
        """In the order of the settings."""
        return list(self._models.values())

    def stop(self) -> None:
        """Ends every loop; no request is served after it."""
        self.ready = False
        for model in self.models:
            model.stop()

    def visible(self, scopes: Scopes) -> list[ServedModel]:
        """The models a consumer may use."""
        return [model for model in self.models if scopes.allow_model(model.name)]

    def find(self, name: str, scopes: Scopes) -> ServedModel:
        """A model by its name. Raises ApiError: 404 where there is none, 403 where it is not allowed."""
        model = self._models.get(name)
        if model is None:
            names = _listed(self.visible(scopes))
            raise ApiError("model_not_found", f"no model of this name is served; there are: {names}", param="model")
        scopes.check_model(model.name)
        return model

    def resolve(self, name: str | None, *, task: str, scopes: Scopes) -> ServedModel:
        """The model that a request for `task` means; without a name the only one there is. Raises ApiError."""
        scopes.check_task(task)
        able = [model for model in self.visible(scopes) if task in model.tasks]
        if name is None:
            return _only_one(able, task)
        model = self.find(name, scopes)
        if task in model.tasks:
            return model
        if task == "chat" and model.generation and not model.tokenizer.has_chat_template:
            message = f"model {model.name} has no chat template, so it cannot chat; use /v1/completions"
            raise ApiError("unsupported", message, param="model")
        message = f"model {model.name} does not serve {task}; models that do: {_listed(able)}"
        raise ApiError("model_not_found", message, param="model")

    def generator(self, name: str | None, *, scopes: Scopes) -> ServedModel:
        """A model that can write text: the named one, or else the first that chats or completes. Raises ApiError."""
        if name is not None and self.find(name, scopes).generation is not None:
            return self.find(name, scopes)
        for task in GENERATIVE_TASKS:
            for model in self.visible(scopes):
                if task in model.tasks:
                    return model
        message = "method 'generate' needs a model that serves chat or completions, and there is none; use 'fill_mask'"
        raise ApiError("unsupported", message, param="method")


def _only_one(able: list[ServedModel], task: str) -> ServedModel:
    if not able:
        raise ApiError("model_not_found", f"no model here serves {task}", param="model")
    if len(able) > 1:
        message = f"field 'model' is required, since several models serve {task}: {_listed(able)}"
        raise ApiError("invalid_value", message, param="model")
    return able[0]


def _listed(models: list[ServedModel]) -> str:
    return ", ".join(model.name for model in models) or "none"


def _there(value: Loop | None) -> Loop:
    if value is None:
        raise LookupError("this model does not compute that; tasks are checked before a model is used")
    return value
