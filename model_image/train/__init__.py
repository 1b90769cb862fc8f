"""From data and one configuration file to a verified model artefact."""

import argparse
import sys

from model_image.errors import Interrupted
from model_image.train import command


def main(argv: list[str]) -> int:
    """`python -m model_image train`: the exit code; raises ModelImageError, which the caller says in one line."""
    parser = argparse.ArgumentParser(prog="python -m model_image train", description=__doc__)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(argv))
    except Interrupted as stopped:
        sys.stderr.write(f"model_image train: {stopped}\n")
        return stopped.exit_code
