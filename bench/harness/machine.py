"""What the machine is, without its name or its paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16")


def describe() -> dict[str, str]:
    """Processor, the instructions that matter to a model, memory and versions."""
    info = Path("/proc/cpuinfo").read_text()
    flags = set(_field(info, "flags").split())
    return {
        "processor": ", ".join(
            [_field(info, "model name"), f"family {_field(info, 'cpu family')}", f"model {_field(info, 'model')}"]
        ),
        "instructions": " ".join(flag for flag in _FLAGS if flag in flags),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def _field(info: str, name: str) -> str:
    for line in info.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"
