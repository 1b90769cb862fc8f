"""Stops training when its Spot instance is about to go; written to each instance as it stands and run as root.

ECS drains services alone, so that AWS Batch's jobs would run until the power is cut. Stopped in time, training keeps a
checkpoint, and Batch starts it again elsewhere. It runs on the Python of the machine image, 3.9, with nothing but the
standard library. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

import subprocess
import time
import urllib.request

METADATA = "http://169.254.169.254/latest"
POLL_SECONDS = 5
# Of the two minutes that a notice comes ahead.
STOP_SECONDS = 110
TASK_LABEL = "com.amazonaws.ecs.task-arn"


def main() -> None:
    """Wait for the notice, then stop every task's container; a task that ends meanwhile is none any more."""
    while not is_interrupted():
        time.sleep(POLL_SECONDS)
    listed = run("docker", "ps", "--quiet", "--filter", f"label={TASK_LABEL}")
    listed.check_returncode()
    containers = listed.stdout.split()
    if containers:
        run("docker", "stop", "--time", str(STOP_SECONDS), *containers)


def is_interrupted() -> bool:
    """Whether there is a notice; where none is, the metadata service answers 404."""
    try:
        token = ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
        return bool(ask("GET", "meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}))
    except OSError:
        return False


def ask(method: str, path: str, headers: "dict[str, str]") -> str:
    """The text of an answer of the metadata service."""
    request = urllib.request.Request(f"{METADATA}/{path}", method=method, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return str(answer.read().decode())


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    """A command's outcome."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main()
