"""What a run will cost on this machine, by timing a few of its own steps."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from fer.config import Config
from fer.data.dataset import load
from fer.device import Runtime, device_name, is_out_of_memory, keep_freed_memory, resolve, torch_threads
from fer.errors import ConfigError
from fer.evaluate import compute_logits
from fer.train import Learner

_WARM_STEPS = 2
_PATIENCE = 3  # times the seconds asked for, to see three steps


def estimate(config: Config, *, seconds: float = 1.5, sharing: int = 1) -> dict[str, Any]:
    """Seconds an epoch and in all, from about `seconds` of training steps on noise of the run's batch size.

    Keys: epoch_seconds, total_seconds, images_per_sec (training), device, device_name, precision, threads; where the first
    epochs have a frozen backbone, frozen_epoch_seconds too, while epoch_seconds is of one in which all learns. The machine's
    other load counts, as it will in the run. Weights that the run would begin from are not asked for. sharing: runs that may
    train at a time, which share the cores out.
    Raises DataError, DeviceError, and ConfigError where memory runs out.
    """
    data = load(config.data.name).with_val_fraction(config.data.val_fraction)
    num_train, num_val = len(data.indices("train")), len(data.indices("val"))
    runtime = resolve(config.runtime, sharing=sharing)
    batch = min(config.train.batch_size, num_train)
    frozen = config.frozen_epochs
    try:
        with torch_threads(runtime.threads):
            timed = {
                epoch: _time_steps(config, runtime, batch, len(data.classes), seconds, epoch)
                for epoch in {config.train.freeze_epochs, 0}
            }
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"Memory ran out in a step with train.batch_size={batch}. Choose a smaller one, or a smaller network."
        ) from error
    cost = {epoch: step * num_train / batch + num_val / val_speed for epoch, (step, val_speed) in timed.items()}
    step_seconds, epoch_seconds = timed[config.train.freeze_epochs][0], cost[config.train.freeze_epochs]
    return {
        "epoch_seconds": epoch_seconds,
        **({"frozen_epoch_seconds": cost[0]} if frozen else {}),
        "total_seconds": epoch_seconds * (config.train.epochs - frozen) + cost[0] * frozen,
        "images_per_sec": batch / step_seconds,
        "device": runtime.device.type,
        "device_name": device_name(runtime.device),
        "precision": runtime.precision,
        "threads": runtime.threads,
    }


def _time_steps(
    config: Config, runtime: Runtime, batch: int, num_classes: int, seconds: float, epoch: int
) -> tuple[float, float]:
    """Seconds of a training step of this epoch, counted from 0, and pictures validated a second."""
    keep_freed_memory()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (batch, 48, 48), dtype=np.uint8)).to(runtime.device)
    labels = torch.from_numpy(rng.integers(0, num_classes, batch))
    learner = Learner.fresh(config, labels, num_classes, runtime)
    labels = labels.to(runtime.device)
    learner.begin_epoch(epoch)

    def step() -> None:
        learner.step(images, labels, config.optim.lr, 0)[0].item()  # wait for the device

    began = time.perf_counter()
    for _ in range(_WARM_STEPS):
        step()
        if time.perf_counter() - began > seconds:  # beside steps as long as these, what the first one loads is little
            break
    began, spent, steps = time.perf_counter(), 0.0, 0
    while steps < 200 and spent < (seconds if steps >= 3 else _PATIENCE * seconds):
        step()
        steps, spent = steps + 1, time.perf_counter() - began
    step_seconds = spent / steps
    began = time.perf_counter()
    compute_logits(learner.model, learner.preprocess, images)
    return step_seconds, batch / (time.perf_counter() - began)
