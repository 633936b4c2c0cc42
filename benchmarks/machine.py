"""What a figure was measured on: the processor, its peak, versions, memory."""

from __future__ import annotations

import platform
import resource
import statistics
import sys
import time
from typing import Any

import torch

from fer.device import cpu_bf16_speedup, device_name, physical_cores

_SIDE = 2048


def describe() -> dict[str, Any]:
    """Hardware and versions, to stand beside every figure."""
    return {
        "processor": device_name(torch.device("cpu")),
        "cores": physical_cores(),
        "cpu_bf16_speedup": round(cpu_bf16_speedup(), 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def gemm_gflops(precision: str, turns: int = 7) -> float:
    """GFLOP/s of a 2048 x 2048 matrix product in 'fp32' or 'bf16' with all of torch's threads: the median, first left out."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    a = torch.randn(_SIDE, _SIDE).to(kind)
    b = torch.randn(_SIDE, _SIDE).to(kind)
    seconds = []
    for _ in range(turns + 1):
        began = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - began)
    return 2 * _SIDE**3 / statistics.median(seconds[1:]) / 1e9


def peak_memory_mb() -> float:
    """The most memory that this process has held, MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
