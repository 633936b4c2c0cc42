"""Where a run computes and in what precision: what was asked for, against what this machine has."""

from __future__ import annotations

import contextlib
import ctypes
import math
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import fer
from fer.config import RuntimeConfig
from fer.errors import DeviceError
from fer.machine import physical_cores

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # from malloc.h


@dataclass(frozen=True)
class Runtime:
    """A device, the precision of the training passes, and CPU threads: what really is used, never 'auto'."""

    device: torch.device
    precision: str
    threads: int

    def autocast(self) -> contextlib.AbstractContextManager:
        """The context in which a training forward pass runs."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        kind = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=kind)


def resolve(config: RuntimeConfig, *, sharing: int = 1, cpus: int = 0) -> Runtime:
    """What this machine makes of the settings; sharing: how many runs compute here at once, to share out the cores.

    cpus: how many cores a scheduler has given to this run, 0 where none has.

    Raises DeviceError that names what there is.
    """
    device = _device(config.device)
    threads = config.threads or (min(cpus, physical_cores()) if cpus else max(1, physical_cores() // sharing))
    return Runtime(device, _precision(config.precision, device), threads)


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Compute with this many CPU threads inside the body."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for a training loop that asks for the same sizes at each step.

    The C library gives large blocks back to the system at once and gets them anew, page by page, at the next step: 12,600
    page faults a step of the baseline, a sixth of its time. Only for a process that ends with its training.
    Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        set_option = ctypes.CDLL("libc.so.6").mallopt
        set_option(_M_MMAP_THRESHOLD, 32 * 2**20)  # the highest that glibc takes: blocks below it come from the heap
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)
        set_option(_M_TOP_PAD, 64 * 2**20)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, or a GPU's, ran out."""
    said = ("can't allocate memory", "MPS backend out of memory")  # by a CPU and by Apple's GPU, in a RuntimeError
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in said)


def has_cpu_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware (AVX512-BF16 or AMX)."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@lru_cache(maxsize=1)
def cpu_bf16_speedup() -> float:
    """How many times faster this processor multiplies bf16 matrices than fp32 ones; about 0.2 s to measure, once.

    The instruction alone does not decide: of two processors with AVX512-BF16, one was 2.7 times faster in bf16 and
    one was half as fast. The processor time of one thread is compared, the two kinds taking turns and the best of each
    counting, so that other programs at work do not change the answer.
    """
    matrices = [torch.ones(384, 384, dtype=kind) for kind in (torch.float32, torch.bfloat16)]
    best = [math.inf, math.inf]
    with torch_threads(1):
        for _ in range(20):
            for i, a in enumerate(matrices):
                best[i] = min(best[i], _seconds_of(lambda a=a: a @ a))
    return best[0] / best[1]


def device_name(device: torch.device) -> str:
    """The processor's or GPU's own name, such as 'NVIDIA H200'."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@lru_cache(maxsize=1)
def versions() -> dict[str, Any]:
    """Versions and the git commit that a result was made with."""
    return {
        "versions": {"fer": fer.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "git_commit": _git_commit(),
    }


def _device(wanted: str) -> torch.device:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted == "auto":
        wanted = next(name for name in ("cuda", "mps", "cpu") if available[name])
    if not available[wanted]:
        names = ", ".join(n for n, there in available.items() if there)
        raise DeviceError(
            f"The device '{wanted}' is not to be had on this machine. Available: {names}. Set runtime.device to one of them or to auto."
        )
    return torch.device(wanted)


def _precision(wanted: str, device: torch.device) -> str:
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if device.type == "cpu" and has_cpu_bf16() and cpu_bf16_speedup() > 1.2 else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise DeviceError(
            "The precision 'fp16' is not to be had on the CPU. Set runtime.precision to auto, fp32 or bf16."
        )
    return wanted


def _seconds_of(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def _git_commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(fer.__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
