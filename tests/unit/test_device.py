"""What this machine makes of device, precision and threads; the same answer every time."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from fer import device
from fer.config import RuntimeConfig
from fer.errors import DeviceError
from fer.files import PROJECT_ROOT


@pytest.mark.parametrize(("speedup", "precision"), [(2.7, "bf16"), (1.1, "fp32"), (0.5, "fp32")])
def test_auto_takes_bf16_only_where_it_pays(monkeypatch: pytest.MonkeyPatch, speedup: float, precision: str) -> None:
    monkeypatch.setattr(device, "has_cpu_bf16", lambda: True)
    monkeypatch.setattr(device, "cpu_bf16_speedup", lambda: speedup)
    assert device.resolve(RuntimeConfig(device="cpu")).precision == precision


def test_auto_does_not_measure_where_the_processor_has_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_cpu_bf16", lambda: False)
    monkeypatch.setattr(device, "cpu_bf16_speedup", lambda: pytest.fail("measured for nothing"))
    assert device.resolve(RuntimeConfig(device="cpu")).precision == "fp32"


def test_the_measured_speedup_is_the_same_each_time() -> None:
    if not device.has_cpu_bf16():
        pytest.skip("this processor has no bf16")
    device.cpu_bf16_speedup.cache_clear()
    first = device.cpu_bf16_speedup()
    device.cpu_bf16_speedup.cache_clear()
    assert device.cpu_bf16_speedup() == pytest.approx(first, rel=0.3)


def test_measuring_leaves_the_thread_count_alone() -> None:
    before = torch.get_num_threads()
    device.cpu_bf16_speedup.cache_clear()
    device.cpu_bf16_speedup()
    assert torch.get_num_threads() == before


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(DeviceError, match="fp16"):
        device.resolve(RuntimeConfig(device="cpu", precision="fp16"))


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"'cuda' is not to be had on this machine\. Available: cpu"):
        device.resolve(RuntimeConfig(device="cuda"))


def test_freed_memory_is_kept_where_asked_for() -> None:
    """In a process of its own, since this one would keep what it frees from then on."""
    code = """
import sys, psutil, torch
from fer.device import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
before = psutil.Process().memory_info().rss
step = [torch.ones(16 * 2**20, dtype=torch.uint8) for _ in range(6)]
del step
print((psutil.Process().memory_info().rss - before) / 2**20)
"""
    left = {}
    for way in ("keep", "give-back"):
        command = [sys.executable, "-c", code, way]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
        left[way] = float(done.stdout)
    assert left["give-back"] < 20
    if platform.libc_ver()[0] == "glibc":
        assert left["keep"] > 90
