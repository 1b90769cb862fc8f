"""How busy this machine's GPUs are, by NVIDIA's own program, which the container runtime mounts beside the driver."""

import asyncio
import shutil
from pathlib import Path

from model_image.errors import ModelImageError

PROGRAM = "nvidia-smi"
TIMEOUT_SECONDS = 5.0
_QUERY = ("--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")


class GpuError(ModelImageError):
    """There is a program to ask, and it does not say."""


def find_program() -> Path | None:
    """The program to ask; None on a machine without NVIDIA's driver."""
    found = shutil.which(PROGRAM)
    return None if found is None else Path(found)


async def gpu_use(program: Path) -> dict[str, float]:
    """Mean use of the GPUs and the memory of the fullest, both in percent; raises GpuError."""
    process = await asyncio.create_subprocess_exec(
        program, *_QUERY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        raise GpuError(f"{PROGRAM} did not answer within {TIMEOUT_SECONDS:g} s; look at the driver") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise GpuError(f"{PROGRAM} ended with {process.returncode}; look at the driver")
    return parse(output.decode("ascii", "replace"))


def parse(text: str) -> dict[str, float]:
    """The metrics in lines of `use, memory used, memory in all`, one line for each GPU; raises GpuError."""
    try:
        rows = [[float(part) for part in line.split(",")] for line in text.splitlines() if line.strip()]
        use, used, total = zip(*rows, strict=True)
        return {
            "GpuUtilization": sum(use) / len(use),
            "GpuMemoryUtilization": max(100.0 * some / whole for some, whole in zip(used, total, strict=True)),
        }
    except (ValueError, ZeroDivisionError):
        raise GpuError(f"{PROGRAM} answered with no percentages and megabytes; look at the driver") from None
