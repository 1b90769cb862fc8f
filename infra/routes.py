"""The API's routes below its stage: the one list that the gateway, the firewall and the settings go by."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from infra.field_types import Task

# The stage's name is part of the path that the servers see, and so is the version that clients call.
STAGE = "v1"


@dataclass(frozen=True)
class Route:
    """One method on one path below the stage, and the task that it is for; None where every consumer may call it."""

    method: str
    path: str
    task: Task | None = None

    @property
    def name(self) -> str:
        """The route as people write it, such as `POST /chat/completions`."""
        return f"{self.method} {self.path}"

    @property
    def slug(self) -> str:
        """The route's part in the names of its resources, such as `post-chat-completions`."""
        return "-".join([self.method.lower(), *(part.strip("{}") for part in self.path.split("/") if part)])

    @property
    def pattern(self) -> str:
        """The route as a policy of the API names it, such as `GET/models/*`."""
        return self.method + re.sub(r"\{[^}]*\}", "*", self.path)

    @property
    def path_parameters(self) -> list[str]:
        """The names in braces."""
        return [part.strip("{}") for part in self.path.split("/") if part.startswith("{")]


ROUTES = (
    Route("GET", "/models"),
    Route("GET", "/models/{model}"),
    Route("GET", "/usage"),
    Route("POST", "/completions", task="completions"),
    Route("POST", "/chat/completions", task="chat"),
    Route("POST", "/embeddings", task="embeddings"),
    Route("POST", "/sentiment", task="sentiment"),
    Route("POST", "/keywords", task="keywords"),
    Route("POST", "/augment", task="augmentation"),
    Route("POST", "/fill-mask", task="fill-mask"),
)


def resource_paths(routes: Sequence[Route]) -> list[str]:
    """Every path that needs a resource, parents before children: `/chat` stands before `/chat/completions`."""
    paths: dict[str, None] = {}
    for route in routes:
        parts = route.path.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            paths.setdefault("/" + "/".join(parts[:end]))
    return list(paths)
