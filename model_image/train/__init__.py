"""From data and one configuration file to a verified model artefact."""

import argparse
import os
import sys

from model_image.errors import Interrupted, ModelImageError
from model_image.train import command


def main(argv: list[str]) -> int:
    """`python -m model_image train`: the exit code; raises ModelImageError, which the caller says in one line."""
    parser = argparse.ArgumentParser(prog="python -m model_image train", description=__doc__)
    command.add_arguments(parser)
    # Of the processes of one machine, which torchrun numbers, one says what stopped all of them.
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return command.run(parser.parse_args(argv), argv)
    except Interrupted as stopped:
        if speaks:
            sys.stderr.write(f"model_image train: {stopped}\n")
        return stopped.exit_code
    except ModelImageError:
        if speaks:
            raise
        return 1
