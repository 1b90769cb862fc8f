"""A job that does as its arguments say: `tell FILE` writes what it is given, `exit CODE...`, one for each attempt."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main(what: str, *rest: str) -> int:
    if what == "tell":
        import boto3

        identity = boto3.client("sts").get_caller_identity()["Arn"]
        Path(rest[0]).write_text(json.dumps({"identity": identity, "environment": dict(os.environ)}))
        return 0
    if what == "exit":
        return int(rest[int(os.environ["AWS_BATCH_JOB_ATTEMPT"]) - 1])
    if what == "node":
        index = os.environ["AWS_BATCH_JOB_NODE_INDEX"]
        told = {name: value for name, value in os.environ.items() if name.startswith("AWS_BATCH_")}
        Path(f"{rest[0]}-{index}").write_text(json.dumps(told))
        if index == "0":
            while not Path(f"{rest[0]}-1").exists():
                time.sleep(0.02)
            return 0
    if what == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(rest[0]).touch()
    time.sleep(600)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
