"""What an instance says of itself to its autoscaling group; written to each instance as it stands and run as root.

It runs on the Python of the machine image, 3.9, with nothing but the standard library and the AWS CLI, which signs.
GROUP, REGION, HEALTH_URL, SERVER_UNIT, CACHE and CACHE_OWNER are its environment.
"""

import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

LAUNCH_HOOK = "ready"
TERMINATION_HOOK = "drained"
METADATA = "http://169.254.169.254/latest"
DISKS = Path("/dev/disk/by-id")
POLL_SECONDS = 5


def main(command: str) -> None:
    """Run one of the commands."""
    {"cache": cache, "follow": follow, "give-up": give_up}[command]()


def cache() -> None:
    """Put models on the instance's own NVMe disk where it has one, which is encrypted by its hardware."""
    place, owner = Path(os.environ["CACHE"]), int(os.environ["CACHE_OWNER"])
    disks = sorted({each.resolve() for each in DISKS.glob("*NVMe_Instance_Storage_*")})
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if disks and not place.is_mount():
        disk = str(disks[0])
        if run("blkid", disk).returncode != 0:  # nothing on it yet; after a restart there is
            run("mkfs.xfs", "-q", disk).check_returncode()
        run("mount", "-o", "noatime,nosuid,nodev,noexec", disk, str(place)).check_returncode()
    os.chown(place, owner, owner)
    place.chmod(0o700)


def follow() -> None:
    """Let the group take the instance into service once its server is ready, and let it go once that has drained."""
    while not is_ready() and not is_leaving():
        time.sleep(POLL_SECONDS)
    if not is_leaving():
        complete(LAUNCH_HOOK, "CONTINUE")
    while not is_leaving():
        time.sleep(POLL_SECONDS)
    run("systemctl", "stop", os.environ["SERVER_UNIT"]).check_returncode()
    complete(TERMINATION_HOOK, "CONTINUE")


def give_up() -> None:
    """Have the group replace the instance, whose server does not start however often it is tried."""
    if not complete(LAUNCH_HOOK, "ABANDON"):
        aws("set-instance-health", "--health-status", "Unhealthy").check_returncode()


def complete(hook: str, result: str) -> bool:
    """Whether the instance was waiting at this hook, and does so no more."""
    group = ("--auto-scaling-group-name", os.environ["GROUP"])
    done = aws("complete-lifecycle-action", "--lifecycle-hook-name", hook, "--lifecycle-action-result", result, *group)
    if done.returncode != 0 and "No active Lifecycle Action" not in done.stderr:
        sys.exit(done.stderr)  # systemd starts this again
    return done.returncode == 0


def is_ready() -> bool:
    """Whether the server answers that it can serve."""
    # The instance has made the certificate itself, and the call does not leave it.
    unverified = ssl._create_unverified_context()  # noqa: S323
    try:
        with urllib.request.urlopen(os.environ["HEALTH_URL"], timeout=5, context=unverified) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def is_leaving() -> bool:
    """Whether the group is taking the instance out, as its metadata tells."""
    return metadata("meta-data/autoscaling/target-lifecycle-state") == "Terminated"


def metadata(path: str) -> str:
    """A value of the instance's metadata, asked for with a token of its own."""
    token = ask("PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    return ask("GET", path, {"X-aws-ec2-metadata-token": token})


def ask(method: str, path: str, headers: "dict[str, str]") -> str:
    """The text of an answer of the metadata service."""
    request = urllib.request.Request(f"{METADATA}/{path}", method=method, headers=headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return str(answer.read().decode())


def aws(operation: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """A call to Auto Scaling about this instance."""
    instance = metadata("meta-data/instance-id")
    return run("aws", "autoscaling", operation, *options, "--instance-id", instance, "--region", os.environ["REGION"])


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    """A command's outcome."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(sys.argv[1])
