"""The one exception family of the model image: a message is one line naming the thing, its value and the remedy."""


class ModelImageError(Exception):
    """Anything that stops `python -m model_image`; shown to the operator as one line, with exit code 1."""


class ArtefactError(ModelImageError):
    """A model artefact is incomplete, altered, unsafe or not to be had."""


class FetchError(ModelImageError):
    """A source of a model or of a data set is missing or is not the pinned one."""


class ConfigError(ModelImageError):
    """A recipe or training configuration has a wrong, missing or unknown value."""


class DataError(ModelImageError):
    """A data set is missing, altered or not of the shape its user needs."""


class TrainingError(ModelImageError):
    """Training cannot go on, for example because the loss is no longer a number."""


class DamagedCheckpointError(ModelImageError):
    """A checkpoint is not whole; an older one may be."""


class GateError(ModelImageError):
    """A trained model does not reach what its configuration asks for."""


class Interrupted(ModelImageError):  # noqa: N818  (an order from outside, not an error of ours)
    """The process was told to stop (SIGINT or SIGTERM) and left nothing half made."""

    def __init__(self, signal_number: int, left: str = "nothing half made was left behind") -> None:
        """Remember which signal it was: the process exits with 128 + its number, as shells expect."""
        super().__init__(f"stopped by signal {signal_number}; {left}")
        self.exit_code = 128 + signal_number
