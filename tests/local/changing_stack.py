"""A stack of a small program that changes, on the running emulators, with its API calls watched."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.calls import Caller
from local.emulators import Emulators
from local.engine import Deployment, plan, up
from local.errors import LocalError
from local.state import load_state

Project = Callable[..., Path]

_names = (f"changing{number}" for number in itertools.count())  # automatic names follow from the project's


class ChangingStack:
    """One stack whose program changes; remembers the API calls of the last `up`."""

    def __init__(
        self, project: Project, emulators: Emulators, state_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.emulators = emulators
        self.state_file = state_file
        self.operations: list[str] = []
        self.failing: dict[str, Exception] = {}
        self._project = project
        self.project_name = next(_names)
        original = Caller.__call__

        def watched(caller: Caller, service: str, operation: str, /, **parameters: Any) -> dict[str, Any]:
            if operation in self.failing:
                raise self.failing[operation]
            if not operation.startswith(("Describe", "Get", "List")):
                self.operations.append(operation)
            return original(caller, service, operation, **parameters)

        monkeypatch.setattr(Caller, "__call__", watched)

    def up(self, program: str) -> dict[str, str]:
        """Deploy as the plan says; the operations by resource name, those that change nothing left out."""
        root = self._project(f"import pulumi, pulumi_aws as aws\n{program}", name=self.project_name)
        planned = plan(root=root, stack="dev", emulators=self.emulators, state_file=self.state_file)
        self.operations.clear()
        done = up(root=root, stack="dev", emulators=self.emulators, state_file=self.state_file)
        assert sorted(planned.steps, key=lambda step: step.urn) == sorted(done.steps, key=lambda step: step.urn)
        return _operations(done)

    def deployment(self, program: str) -> Deployment:
        """Deploy, and what came of it."""
        root = self._project(f"import pulumi, pulumi_aws as aws\n{program}", name=self.project_name)
        self.operations.clear()
        return up(root=root, stack="dev", emulators=self.emulators, state_file=self.state_file)

    def fails(self, program: str, match: str, **failing: Exception) -> None:
        """Deploy while some API operations raise; the deployment ends with a LocalError that matches."""
        root = self._project(f"import pulumi, pulumi_aws as aws\n{program}", name=self.project_name)
        self.failing = failing
        self.operations.clear()
        with pytest.raises(LocalError, match=match):
            up(root=root, stack="dev", emulators=self.emulators, state_file=self.state_file)
        self.failing = {}

    def names(self) -> dict[str, str]:
        """The id of every resource that exists, by its name."""
        return {record.name: record.id for record in load_state(self.state_file).resources if record.custom}


def _operations(deployment: Deployment) -> dict[str, str]:
    return {step.name: step.operation for step in deployment.steps if step.operation != "same"}
