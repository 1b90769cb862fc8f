"""From data and one configuration file to a verified model artefact."""

import argparse
import os
import sys

from model_image.errors import Interrupted, ModelImageError
from model_image.train import command
from model_image.train.launch import end_with_torchrun


def main(argv: list[str]) -> int:
    """`python -m model_image train`: the exit code; raises ModelImageError, which the caller says in one line."""
    parser = argparse.ArgumentParser(prog="python -m model_image train", description=__doc__)
    command.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if arguments.job is not None:
        from model_image.train import job  # noqa: PLC0415  (AWS, which a training on this machine does not need)

        if vars(arguments) != vars(parser.parse_args(["--job", arguments.job])):
            parser.error("--job takes everything from its configuration and its job definition; give nothing else")
        return job.run(arguments.job, os.environ)
    end_with_torchrun(os.environ)
    # Of the processes of one machine, which torchrun numbers, one says what stopped all of them.
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return command.run(arguments, argv)
    except Interrupted as stopped:
        if speaks:
            sys.stderr.write(f"model_image train: {stopped}\n")
        return stopped.exit_code
    except ModelImageError:
        if speaks:
            raise
        return 1
