"""How what is made is changed and deleted through the AWS API: the vocabulary of the tables in this package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.types.spec import Follow, Inputs, Made, fill


@dataclass(frozen=True)
class Changed(Made):
    """A resource that is being changed: `inputs` are the new ones, `old` the former, `answer` its outputs so far.

    `names` are the inputs of this change that differ; `mapped` gives an operation's parameters for inputs as the row
    maps them, `creation` those of the creating operation.
    """

    old: Inputs
    names: frozenset[str]
    service: str
    operation: str
    mapped: Callable[[str, Inputs], dict[str, Any]]
    creation: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Change:
    """A call that changes `inputs` in place, or all that nothing else changes when `inputs` is empty.

    `send` may give outputs that change with it. `whole` says that it sets all of them anew, so that one that is no
    longer given goes back to AWS's default; without it, taking an input away replaces the resource. So does what `can`
    says no to, asked with the old and the new inputs: a change that the emulator does not make.
    """

    inputs: tuple[str, ...]
    send: Callable[[Changed], Mapping[str, Any] | None]
    whole: bool = False
    can: Callable[[Inputs, Inputs], bool] | None = None


Delete = tuple[str, Mapping[str, Any]] | Callable[[Made], object]


@dataclass(frozen=True)
class Lifecycle:
    """How a type is changed and deleted, beside the row that makes it.

    `changes` are what can be changed in place, beside tags and the row's `steering`; a change of anything else, and of
    what stands in `replaces`, replaces the resource. `volatile` are outputs that a change may change. `delete` is an
    operation with its parameters as a template over `{id}`, outputs and inputs, or a function; `delete_first` says that
    two of them cannot be beside one another.
    """

    delete: Delete
    changes: tuple[Change, ...] = ()
    replaces: frozenset[str] = frozenset()
    volatile: frozenset[str] = frozenset()
    delete_first: bool = False


def resend(*inputs: str) -> Change:
    """The creating operation again, which puts what it is given in place of what was there."""

    def send(changed: Changed) -> None:
        changed.call(changed.service, changed.operation, **changed.creation())

    return Change(inputs=inputs, send=send, whole=True)


def modify(
    operation: str,
    *inputs: str,
    whole: bool = False,
    reshape: Callable[[Inputs], Inputs] | None = None,
    **identity: str,
) -> Change:
    """An operation that takes those of `inputs` that changed, or all of them when `whole`.

    `identity` are its other parameters, as a template over `{id}`, outputs and inputs.
    """

    def send(changed: Changed) -> None:
        values = {name: changed.inputs[name] for name in inputs if name in changed.inputs}
        if not whole:
            values = {name: value for name, value in values.items() if name in changed.names}
        parameters = changed.mapped(operation, reshape(values) if reshape else values)
        named = fill(identity, {**changed.answer, **changed.inputs, "id": changed.id})
        changed.call(changed.service, operation, **{**parameters, **named})

    return Change(inputs=inputs, send=send, whole=whole)


def again(follow: Follow) -> Change:
    """What follows creation, once more with the new values."""

    def send(changed: Changed) -> None:
        follow.send(changed)

    return Change(inputs=follow.inputs, send=send)


def nothing(made: Made) -> None:
    """The deletion of what AWS keeps: it ends with something else, or belongs to the account."""
