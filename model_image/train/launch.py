"""More than one process: `train` runs torchrun, which starts it again once for each of them."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from model_image.errors import ConfigError
from model_image.train_recipe import Distribution

PORT = 29500
# A spot instance has two minutes: so long the processes may take to keep a checkpoint.
SHUTDOWN_SECONDS = 110
_PR_SET_PDEATHSIG = 1  # of prctl(2)


def torchrun_options(
    distribution: Distribution, arguments: Sequence[str], environment: Mapping[str, str]
) -> list[str] | None:
    """
    What torchrun is told to start the processes of this node; None where there is one, or it has started this one.

    The nodes find each other by AWS Batch's variables (multi-node parallel jobs), or by MASTER_ADDR and NODE_RANK.
    Raises ConfigError without them.
    """
    if distribution.processes == 1 or "RANK" in environment:
        return None
    options = [f"--nproc-per-node={distribution.processes_per_node}", f"--shutdown-timeout={SHUTDOWN_SECONDS}"]
    if distribution.nodes == 1:
        options.append("--standalone")
    else:
        rank = environment.get("AWS_BATCH_JOB_NODE_INDEX", environment.get("NODE_RANK"))
        # AWS Batch gives the main node's address to the others alone.
        address = environment.get("AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS", environment.get("MASTER_ADDR"))
        if address is None and rank is not None and rank == environment.get("AWS_BATCH_JOB_MAIN_NODE_INDEX"):
            address = "127.0.0.1"
        if rank is None or address is None:
            raise ConfigError(
                f"distribution.nodes is {distribution.nodes}: set MASTER_ADDR to the first node's address and "
                f"NODE_RANK to 0, 1, … on each node; AWS Batch sets its own variables"
            )
        options += [f"--nnodes={distribution.nodes}", f"--node-rank={rank}", f"--master-addr={address}"]
        options += [f"--master-port={environment.get('MASTER_PORT', str(PORT))}"]
    return [*options, "-m", "model_image", "train", *arguments]


def start(options: Sequence[str], *, processes: int) -> int:
    """
    Run torchrun here, until all processes of this node have ended: 0, the exit code of the first that failed, or
    128 + the number of the signal that ended it. Each process says by itself what stopped it.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415  (seconds, and only here)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.run import parse_args, run  # noqa: PLC0415

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run(parse_args(list(options)))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        return abs(error.get_first_failure()[1].exitcode)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    finally:  # torchrun leaves its own handlers behind
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def end_with_torchrun(environment: Mapping[str, str]) -> None:
    """On Linux a process that torchrun has started, in a session of its own, is killed when torchrun is gone."""
    if "TORCHELASTIC_RUN_ID" in environment and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
