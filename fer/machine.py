"""What this machine has to compute with, known without loading torch."""

from __future__ import annotations

import os

import psutil


def physical_cores() -> int:
    """Cores that this process may use, two hyperthreads counted once; at least 1."""
    physical = psutil.cpu_count(logical=False) or 1
    try:
        allowed = len(psutil.Process().cpu_affinity())
    except (AttributeError, psutil.Error):  # macOS has no affinity
        allowed = psutil.cpu_count() or 1
    return max(1, min(physical, allowed))


def gpus() -> list[str]:
    """The names by which CUDA knows this machine's NVIDIA GPUs, those of `CUDA_VISIBLE_DEVICES` where it is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        return [str(i) for i in range(len(os.listdir("/proc/driver/nvidia/gpus")))]
    except OSError:
        return []
