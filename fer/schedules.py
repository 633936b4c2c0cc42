"""Learning-rate schedules as pure functions of the step.

Nothing here has state: the rate of a step follows from the config, the step's number and, for the plateau, the
validation losses so far. A resumed run therefore continues at exactly the rate it would have had.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fer.config import Config, ScheduleConfig

_PLATEAU_THRESHOLD = 1e-4  # relative improvement that counts, as in torch's ReduceLROnPlateau


def lr_at(config: Config, step: int, steps_per_epoch: int, val_losses: Sequence[float] = ()) -> float:
    """The learning rate of one optimizer step.

    step: counted from 0 over the whole run; val_losses: of the epochs that ended before it, for `plateau` only.
    Step and exponential decay change once an epoch, plateau after an epoch that began after the warm-up, the others at
    every step.
    """
    schedule, base_lr = config.schedule, config.optim.lr
    warmup_steps = round(schedule.warmup_epochs * steps_per_epoch)
    # 1. warm-up: a straight line up to the base rate
    if step < warmup_steps:
        return base_lr * (step + 1) / (warmup_steps + 1)
    # 2. after it, the schedule runs over the steps that are left, counted from 0
    total = max(1, config.train.epochs * steps_per_epoch - warmup_steps)
    judged = val_losses[math.ceil(warmup_steps / steps_per_epoch) :]
    return base_lr * _factor(schedule, step - warmup_steps, total, steps_per_epoch, judged)


def plateau_cuts(val_losses: Sequence[float], patience: int) -> int:
    """How often `plateau` has cut the rate after these epochs.

    A cut follows more than `patience` epochs in a row without an improvement of at least 0.01 %.
    """
    best, waited, cuts = math.inf, 0, 0
    for loss in val_losses:
        if loss < best * (1 - _PLATEAU_THRESHOLD):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            cuts, waited = cuts + 1, 0
    return cuts


def _factor(s: ScheduleConfig, step: int, total: int, steps_per_epoch: int, val_losses: Sequence[float]) -> float:
    epoch = step // steps_per_epoch
    progress = min(step / total, 1.0)
    match s.name:
        case "constant":
            return 1.0
        case "step":
            return s.gamma ** (epoch // s.step_size)
        case "exponential":
            return s.gamma**epoch
        case "polynomial":
            return s.final_fraction + (1 - s.final_fraction) * (1 - progress) ** s.power
        case "cosine":
            return s.final_fraction + (1 - s.final_fraction) * _half_cosine(progress)
        case "one-cycle":
            return _one_cycle(s, step, total)
        case "plateau":
            return s.factor ** plateau_cuts(val_losses, s.patience)


def _half_cosine(progress: float) -> float:
    """1 at progress 0, 0 at progress 1."""
    return (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(s: ScheduleConfig, step: int, total: int) -> float:
    first = 1 / s.div_factor
    last = first / s.final_div_factor
    peak = s.pct_start * total - 1
    if step <= peak:
        return 1 + (first - 1) * _half_cosine(step / peak if peak > 0 else 1.0)
    fall = (step - peak) / max(total - 1 - peak, 1e-9)
    return last + (1 - last) * _half_cosine(min(fall, 1.0))
