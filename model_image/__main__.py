"""`python -m model_image serve|train|fetch|openapi|bring|watch`: what the container runs."""

import importlib.metadata
import os
import sys
import time

from model_image.errors import ModelImageError

USAGE = "usage: python -m model_image serve|train|fetch|openapi|bring|watch [options]"


def main(argv: list[str]) -> int:
    """Runs a subcommand; its exit code: 0, 1 for a failure, 2 for wrong usage or settings."""
    command, *rest = argv or [""]
    if command in {"-h", "--help"}:
        sys.stdout.write(f"{USAGE}\n")
        return 0
    run = _COMMANDS.get(command)
    if run is None:
        sys.stderr.write(f"model_image: {command!r} is not a command; {USAGE}\n")
        return 2
    try:
        return run(rest)
    except ModelImageError as error:
        sys.stderr.write(f"model_image {command}: {error}\n")
        return 1


# Each command imports what it needs and no more: training brings libraries that a server does not need.


def _serve(rest: list[str]) -> int:
    started = time.monotonic()
    from model_image.settings import SettingsError, read_settings  # noqa: PLC0415

    if rest:
        sys.stderr.write(
            f"model_image serve takes no options ({rest[0]!r} given); settings are MODELKEEP_* variables\n"
        )
        return 2
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"model_image serve: {error}\n")
        return 2
    from model_image import serve  # noqa: PLC0415

    return serve.main(settings, started=started)


def _train(rest: list[str]) -> int:
    # Threads that spin while waiting for each other halve the speed on a busy machine; torch reads this at its import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from model_image import train  # noqa: PLC0415

    return train.main(rest)


def _fetch(rest: list[str]) -> int:
    from model_image import fetch  # noqa: PLC0415

    return fetch.main(rest)


def _openapi(rest: list[str]) -> int:
    if rest:
        sys.stderr.write(f"model_image openapi takes no options ({rest[0]!r} given)\n")
        return 2
    from model_image.openapi import render  # noqa: PLC0415

    sys.stdout.write(render(version=importlib.metadata.version("modelkeep")))
    return 0


def _bring(rest: list[str]) -> int:
    from model_image import bring  # noqa: PLC0415

    return bring.main(rest, os.environ)


def _watch(rest: list[str]) -> int:
    from model_image import watch  # noqa: PLC0415

    return watch.main(rest, os.environ)


_COMMANDS = {
    "serve": _serve,
    "train": _train,
    "fetch": _fetch,
    "openapi": _openapi,
    "bring": _bring,
    "watch": _watch,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
