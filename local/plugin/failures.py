"""Failures as gRPC statuses that Pulumi's engine understands: one line, without secret values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import any_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import provider_pb2, status_pb2

from local.calls import ApiError
from local.errors import HalfMadeError, LocalError
from local.plugin.properties import Properties
from local.secrecy import redacted

DETAILS_KEY = "grpc-status-details-bin"
HALF_MADE = "__halfMade"  # the output that says so to the next run; the CLI shows no name of two underscores


class PluginError(Exception):
    """What ends a call: a status code, one line, and a message of details where the engine reads some."""

    def __init__(self, code: grpc.StatusCode, text: str, *, details: Any = None) -> None:
        super().__init__(text)
        self.code = code
        self.details = details

    def metadata(self) -> tuple[tuple[str, bytes], ...]:
        """The trailing metadata in which gRPC carries a status with details."""
        if self.details is None:
            return ()
        packed = any_pb2.Any()
        packed.Pack(self.details)
        status = status_pb2.Status(code=self.code.value[0], message=str(self), details=[packed])
        return ((DETAILS_KEY, status.SerializeToString()),)


@contextlib.contextmanager
def told(*properties: Properties) -> Iterator[None]:
    """Raises what fails inside as PluginError, in one line without the secrets of `properties`.

    The engine takes INTERNAL and UNKNOWN for "who knows what became of the resource". After a refusal that is known, so
    a LocalError is FAILED_PRECONDITION, unless the call's answer was lost. A half-made resource stands in the details:
    the engine keeps it, and the next run replaces it.
    """
    try:
        yield
    except PluginError:
        raise
    except HalfMadeError as error:
        reason = line(str(error), *properties)
        details = provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id,
            properties=properties[0].outputs({**error.outputs, HALF_MADE: True}),
            inputs=properties[0].outputs(properties[0].values),
            reasons=[reason],
        )
        raise PluginError(grpc.StatusCode.UNKNOWN, reason, details=details) from error
    except LocalError as error:
        is_lost = isinstance(error, ApiError) and error.lost
        code = grpc.StatusCode.UNKNOWN if is_lost else grpc.StatusCode.FAILED_PRECONDITION
        raise PluginError(code, line(str(error), *properties)) from error
    except Exception as error:
        text = f"the local provider failed with {type(error).__name__}: {error}"
        raise PluginError(grpc.StatusCode.INTERNAL, line(text, *properties)) from error


def line(text: str, *properties: Properties) -> str:
    """`text` in one line, without what is secret in `properties`."""
    for each in properties:
        text = redacted(text, each.values, each.secrets)
    return " ".join(text.split())
