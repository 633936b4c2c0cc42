"""Training one run: the loop, its saves, and going on after an interruption.

Data order, learning rate and the random numbers of augmentation are pure functions of seed, epoch and step, so what a resumed run needs beside weights and
optimizer is where it stood. `resume.pt` holds all of it in one atomic file; every other file can be made again from it.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import gc
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from fer import access
from fer.augment import augment, mixup_draws, step_draws
from fer.checkpoint import save_checkpoint
from fer.config import Config
from fer.data.dataset import Dataset, load
from fer.device import Runtime, device_name, is_out_of_memory, keep_freed_memory, resolve, torch_threads, versions
from fer.errors import CheckpointError, DataError, FerError, RunError, TrainingError
from fer.evaluate import compute_logits, report_of
from fer.files import write_atomic, write_json_atomic
from fer.metrics import cross_entropy, macro_f1, top1
from fer.models import build_model
from fer.models.cpu import fast_forward
from fer.models.inputs import Preprocess, seen_side, to_tensor
from fer.models.summary import summarise as summarise_model
from fer.models.transfer import Transfer, load_first_weights
from fer.optim import build_optimizer, set_rate
from fer.pretrained import weights_record
from fer.repair import RECORDED, write_checksums
from fer.runs import SCHEMA, Run, RunStore, epoch_in_words, hold
from fer.schedules import lr_at

_REPORT_SECONDS = 0.5  # between two looks at the loss, each of which waits for the device
_STATUS_SECONDS = 1.0
_SAVE_SECONDS = 300.0  # between two saves inside a long epoch
_RESERVE_BYTES = 64 * 1024
_CLASSES = 7  # of the pictures on which a smaller batch is tried; what a step takes hardly depends on it


@dataclass(frozen=True)
class Progress:
    """Where a run stands. epoch: from 1; loss, top1: running means of this epoch; seconds_left: None before
    a speed is known, and in frozen epochs that others follow."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    top1: float
    images_per_sec: float
    seconds_left: float | None


@dataclass
class Watcher:
    """What a caller wants to hear of: each progress, each epoch's metrics, each line for the log; and when to stop."""

    on_progress: Callable[[Progress], None] = lambda _p: None
    on_epoch: Callable[[Mapping[str, Any]], None] = lambda _row: None
    log: Callable[[str], None] = lambda _line: None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class Learner:
    """A network with its optimizer: what one training step needs and changes. The run's loop and `fer.cost` share it.

    class_weights: (num_classes,) of the loss, or None where all count alike; mean: the running mean of the weights, or None;
    fast: what computes the model's logits from uint8 images faster than the model does, or None; side: how many rows and
    columns of a picture the network is given, those that it sees.
    """

    config: Config
    runtime: Runtime
    model: nn.Module
    preprocess: Preprocess
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    class_weights: torch.Tensor | None
    mean: nn.Module | None
    fast: Callable[[torch.Tensor], torch.Tensor] | None
    side: int

    @classmethod
    def fresh(
        cls,
        config: Config,
        labels: torch.Tensor,
        num_classes: int,
        runtime: Runtime,
        *,
        trained_in: RunStore | None = None,
    ) -> Learner:
        """The network with the first weights of the config's seed, on the device; labels: (N,) of the training split.

        trained_in: give the network the weights that the config names, those of a run from this store; without it stays
        random, which asks for no file. Raises ConfigError, CheckpointError, RunError.
        """
        torch.manual_seed(config.seed)
        model = build_model(config.model, num_classes)
        if trained_in:
            load_first_weights(model, config.model, trained_in)
        is_fast = config.runtime.arithmetic == "fast"
        model.to(device=runtime.device, memory_format=torch.channels_last if is_fast else torch.contiguous_format)
        preprocess = Preprocess.for_channels(config.model.channels)
        return cls(
            config,
            runtime,
            model,
            preprocess,
            build_optimizer(config, model),
            torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16"),
            rarity(labels, num_classes).to(runtime.device) if config.train.balance == "loss" else None,
            copy.deepcopy(model).requires_grad_(False) if config.train.ema_decay else None,
            fast_forward(model, preprocess) if is_fast and runtime.device.type == "cpu" else None,
            seen_side(model) if is_fast else 48,
        )

    @property
    def shown(self) -> nn.Module:
        """The network that is validated and kept: the running mean where there is one."""
        return self.model if self.mean is None else self.mean

    def begin_epoch(self, epoch: int) -> None:
        """Make ready for the steps of an epoch, counted from 0: training mode, and a backbone that stands still in the first ones."""
        self.model.train()
        if isinstance(self.model, Transfer):
            self.model.freeze(epoch < self.config.train.freeze_epochs)

    def step(
        self, images: torch.Tensor, labels: torch.Tensor, lr: float, number: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimizer step on images (B, 48, 48) uint8 and labels (B,) int64; number: of the step, from 0 over the run.

        Returns the mean cross entropy before the step and the number that was right, both () on the device: nothing here
        waits for it. That cross entropy is plain, without the smoothing and weights of the loss that is minimised, so that
        it can be compared with other runs; of pictures blended by mixup, the larger share counts.
        """
        train, draws = self.config.train, step_draws(self.config.seed, number)
        images = augment(images, self.config.augment, draws)
        share, partner = 1.0, None
        if self.config.augment.mixup:
            share, partner = mixup_draws(len(labels), self.config.augment.mixup, draws)
            partner = partner.to(labels.device)
        with self.runtime.autocast():
            logits = self._logits(images, share, partner)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = self._loss(logits, labels)
        if partner is not None:
            loss = share * loss + (1 - share) * self._loss(logits, labels[partner])
        set_rate(self.optimizer, lr)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        if train.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.mean is not None and train.ema_decay:
            _follow(self.mean, self.model, min(train.ema_decay, (1 + number) / (10 + number)))
        logits = logits.detach()
        is_plain = partner is None and self.class_weights is None and not train.label_smoothing
        plain = loss.detach() if is_plain else functional.cross_entropy(logits, labels)
        return plain, (logits.argmax(1) == labels).sum()

    def _logits(self, images: torch.Tensor, share: float, partner: torch.Tensor | None) -> torch.Tensor:
        images = images[:, : self.side, : self.side]
        if self.fast and partner is None:
            return self.fast(images)
        inputs = self.preprocess(images)
        if self.config.runtime.arithmetic == "plain":
            inputs = inputs.contiguous()
        return self.model(inputs if partner is None else share * inputs + (1 - share) * inputs[partner])

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        smoothing, weights = self.config.train.label_smoothing, self.class_weights
        if weights is None or not smoothing:
            return functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
        # PyTorch would give each class's part of the smoothing that class's own weight, so most of it to the rarest.
        losses = functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        of_each = weights[labels]
        return (of_each * losses).sum() / of_each.sum()


@torch.no_grad()
def _follow(mean: nn.Module, model: nn.Module, decay: float) -> None:
    """Let the running mean take one step towards the weights, and towards the statistics of batch norm that go with them.

    The first steps move it faster than `decay` says, as it begins at weights that know nothing.
    """
    for kept, now in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now, 1 - decay)
        else:  # a count of batches
            kept.copy_(now)


@dataclass
class TrainState:
    """Where a run stands. epoch: epochs that ended; step: steps done in the one that runs."""

    sums: torch.Tensor  # (2,): sum of losses, number right, over this epoch's pictures so far
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0  # spent on this epoch so far
    best_epoch: int = 0  # the first with the highest validation top-1; 0: none has ended
    best_top1: float = -1.0
    finite_steps: torch.Tensor | None = None  # (): this epoch's steps up to the first whose loss is no number
    history: list[Mapping[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Split:
    """Pictures of one split on the device: images (N, 48, 48) uint8, labels (N,) int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)


def picture_order(seed: int, epoch: int, n: int) -> torch.Tensor:
    """The order in which epoch `epoch` (from 0) visits n pictures: (n,) int64, the same for ever for one seed."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)


def balanced_order(seed: int, epoch: int, labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """As `picture_order`, but each class comes about as often as the others: (n,) drawn with replacement from the n pictures."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    weights = rarity(labels, num_classes)[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def rarity(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """(num_classes,) float32: n / (num_classes * count) of each class, 1 where all are equally frequent; 0 for one that is absent."""
    counts = torch.bincount(labels, minlength=num_classes).to(torch.float32)
    return torch.where(counts > 0, len(labels) / (num_classes * counts.clamp(min=1)), 0.0)


def fit(store: RunStore, run_id: str, watcher: Watcher | None = None) -> Run:
    """Train a queued run to its end, from its last save where there is one.

    Holds the run's lock throughout. A stop request ends it as `stopped`, saved within the epoch. Whatever goes wrong
    is written into the status as `failed` with its reason before it is raised. Raises FerError.
    """
    watcher = watcher or Watcher()
    access.require("training a run")
    store.get(run_id)  # taking the lock would make the folder of a run that does not exist
    with hold(store.folder(run_id) / "run.lock"):
        run = store.get(run_id)
        if run.config is None:
            raise RunError(f"Run '{run_id}' cannot be read: {'; '.join(run.problems)}.")
        if run.state != "queued":
            raise RunError(
                f"Run '{run_id}' is {run.status.get('state')}; only a queued run can be started. To go on with one, use: python -m fer runs resume {run_id}"
            )
        job = os.environ.get("FER_RAY_JOB")
        if job and job != (run.on_ray or {}).get("job"):
            raise RunError(f"Run '{run_id}' was queued anew since this Ray job was made for it; another one trains it.")
        status: dict[str, Any] = {**run.status, "state": "running", "started": time.time(), "error": None}
        for passed in ("finished", "reserved", "try_instead", "turn", "worker"):
            status.pop(passed, None)
        if os.environ.get("FER_WORKER"):
            status["worker"] = os.environ["FER_WORKER"]  # whose runs these are, should that worker die
        try:
            store.write_status(run_id, status)
        except OSError as error:
            raise TrainingError(f"Run '{run_id}' could not begin. {_reason(error, run)}") from error
        reserve = _Reserve(run.path / ".reserve")
        try:
            reserve.take()
            _Fit(store, run, run.config, watcher, status).train()
        except BaseException as error:
            reserve.free()
            reason = _reason(error, run)
            _write_failure(store, run, status, reason, watcher)
            if reason is not error and isinstance(reason, FerError):
                raise reason from error
            raise
        finally:
            reserve.free()
    return store.get(run_id)


class _Reserve:
    """Some space on the disk that is given back when the disk is full, so that the run can still say so."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> None:
        with open(self.path, "wb") as file:
            file.write(bytes(_RESERVE_BYTES))
            file.flush()
            os.fsync(file.fileno())

    def free(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def _write_failure(
    store: RunStore, run: Run, status: dict[str, Any], reason: BaseException | str, watcher: Watcher
) -> None:
    """Say in the status that the run failed and why; where nothing can be written any more, at least in the log."""
    status.update(state="failed", error=str(reason), finished=time.time())
    if isinstance(reason, TrainingError) and reason.try_instead:
        status["try_instead"] = dict(reason.try_instead)
    try:
        store.write_status(run.id, status)
    except OSError as error:
        with contextlib.suppress(OSError):
            watcher.log(f"The status could not be written ({error}); it will be shown as lost. The reason: {reason}")


class _Fit:
    """One process's work on one run: what `fit` sets up, and the loop over it."""

    def __init__(self, store: RunStore, run: Run, config: Config, watcher: Watcher, status: dict[str, Any]) -> None:
        self.store, self.run, self.config, self.watcher, self.status = store, run, config, watcher, status
        self.data = self._load_data()
        saved = self._read_resume()
        self.runtime = self._runtime(saved)
        keep_freed_memory()
        self.train_split, self.val_split = self._split("train"), self._split("val")
        labels = self.train_split.labels.cpu()
        fresh_in = None if saved else store
        self.learner = Learner.fresh(config, labels, len(self.data.classes), self.runtime, trained_in=fresh_in)
        if fresh_in and (first := weights_record(config.model, fresh_in)):
            status["first_weights"] = first
        self.steps = math.ceil(len(self.train_split) / config.train.batch_size)
        device = self.runtime.device
        self.state = TrainState(
            torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
        )
        if saved:
            self._restore(saved)
        self._last_report = self._last_status = 0.0
        self._last_save = time.monotonic()

    # --- setting up ------------------------------------------------------------------------------------------------

    def _load_data(self) -> Dataset:
        data = load(self.config.data.name).with_val_fraction(self.config.data.val_fraction)
        if data.fingerprint != self.run.fingerprint:
            raise DataError(
                f"The data set '{data.name}' has changed since this run was made (fingerprint {data.fingerprint[:8]}, "
                f"the run expects {self.run.fingerprint[:8]}). Import the old data again, or clone the run to train on the new."
            )
        return data

    def _runtime(self, saved: Mapping[str, Any] | None) -> Runtime:
        at_once = int(os.environ.get("FER_SHARING", "1"))  # runs that the worker may start beside this one
        sharing = max(at_once, len(self.store.held()))  # this run's own lock is one of them
        runtime = resolve(self.config.runtime, sharing=sharing, cpus=int(os.environ.get("FER_CPUS", "0")))
        if saved and saved["device"] == runtime.device.type:  # go on with the arithmetic it began with
            runtime = Runtime(runtime.device, saved["precision"], saved["threads"])
        return runtime

    def _split(self, name: str) -> Split:
        images, labels = self.data.subset(name)
        device = self.runtime.device
        return Split(to_tensor(images, device), torch.from_numpy(labels.astype(np.int64)).to(device))

    # --- the loop --------------------------------------------------------------------------------------------------

    def train(self) -> None:
        """From where the state stands to the last epoch, then the report."""
        self._announce()
        epochs = self.config.train.epochs
        with torch_threads(self.runtime.threads):
            while self.state.epoch < epochs and not self._out_of_patience():
                if not self._train_one_epoch():
                    self._check_weights()
                    self._save_resume()
                    self.watcher.log(
                        f"stopped in epoch {self.state.epoch + 1} after step {self.state.step} of {self.steps}; saved"
                    )
                    self._end("stopped")
                    return
                self._end_epoch()
            report = report_of(self.run, self.data, "val", device=self.runtime.device.type)
            self.store.save_report(self.run.id, self.data.fingerprint, "val", report)
        write_checksums(self.run.path)
        if self.state.epoch < epochs:
            self.watcher.log(f"ended early: no better val top-1 in {self.config.train.patience} epochs")
        self.watcher.log(f"finished: best val top-1 {self.state.best_top1:.2%} in epoch {self.state.best_epoch}")
        self._end("finished")  # last, here and above, so that whoever sees that it ended finds all of its log

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return patience is not None and self.state.epoch - self.state.best_epoch >= patience

    def _order(self) -> torch.Tensor:
        """The pictures of the epoch that the state stands in, in the order of their turn: (n,) on the CPU."""
        seed, epoch = self.config.seed, self.state.epoch
        if self.config.train.balance == "sampling":
            return balanced_order(seed, epoch, self.train_split.labels.cpu(), len(self.data.classes))
        return picture_order(seed, epoch, len(self.train_split))

    def _train_one_epoch(self) -> bool:
        """Train the epoch that the state stands in, from its step on. Returns False where a stop was asked for."""
        state, batch = self.state, self.config.train.batch_size
        images, labels = self.train_split.images, self.train_split.labels
        order = self._order().to(images.device)
        val_losses = [row["val_loss"] for row in state.history]
        self.learner.begin_epoch(state.epoch)
        began, before, first = time.monotonic(), state.seconds, state.step
        while state.step < self.steps:
            lr = lr_at(self.config, state.epoch * self.steps + state.step, self.steps, val_losses)
            chosen = order[state.step * batch : (state.step + 1) * batch]
            self._step(images[chosen], labels[chosen], lr)
            state.step += 1
            now = time.monotonic()
            state.seconds = before + now - began
            if now - self._last_report >= _REPORT_SECONDS:
                self._last_report = now
                self._report((state.step - first) * batch / max(now - began, 1e-9))
                if self._stop_requested():
                    return False
                if now - self._last_save >= _SAVE_SECONDS:
                    self._check_weights()
                    self._save_resume()
        self._check_finite()  # waits for the device
        state.seconds = before + time.monotonic() - began
        return True

    def _step(self, images: torch.Tensor, labels: torch.Tensor, lr: float) -> None:
        """One optimizer step; images (B, 48, 48) uint8, labels (B,)."""
        state = self.state
        loss, right = self.learner.step(images, labels, lr, state.epoch * self.steps + state.step)
        state.sums += torch.stack((loss * len(labels), right)).to(state.sums.dtype)
        if state.finite_steps is None:
            state.finite_steps = torch.full((), state.step, dtype=torch.int64, device=state.sums.device)
        state.finite_steps += state.sums[0].isfinite()  # the sum stays what it is once it is no number

    def _end_epoch(self) -> None:
        """Validate, keep the weights, write the epoch's line, save. In this order, so that no kill can lose or double one."""
        state = self.state
        began = time.monotonic()
        logits = compute_logits(self.learner.shown, self.learner.preprocess, self.val_split.images)
        labels = self.val_split.labels.cpu().numpy()
        if not np.isfinite(logits).all():  # the last step broke the weights: save none of them
            raise self._not_finite()
        predicted = logits.argmax(axis=1)
        loss_sum, right = state.sums.tolist()
        row = {
            "epoch": state.epoch + 1,
            "lr": lr_at(self.config, state.epoch * self.steps, self.steps, [r["val_loss"] for r in state.history]),
            "train_loss": loss_sum / len(self.train_split),
            "train_top1": right / len(self.train_split),
            "val_loss": cross_entropy(logits, labels),
            "val_top1": top1(labels, predicted),
            "val_macro_f1": macro_f1(labels, predicted, len(self.data.classes)),
            "epoch_seconds": round(state.seconds + time.monotonic() - began, 3),
        }
        state.epoch, state.step, state.seconds = state.epoch + 1, 0, 0.0
        state.sums.zero_()
        state.finite_steps = None
        if row["val_top1"] > state.best_top1:
            state.best_top1, state.best_epoch = row["val_top1"], state.epoch
            self._save_weights("best.safetensors", row)
        self._save_weights("last.safetensors", row)
        self.store.append_metrics(self.run.id, row)
        state.history.append(row)
        self._save_resume()
        self._write_status()
        self.watcher.on_epoch(row)
        self.watcher.log(epoch_in_words(row, self.config.train.epochs))

    # --- what others see -------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        write_json_atomic(
            self.run.path / "model.json",
            {"schema": SCHEMA, **summarise_model(self.config.model, len(self.data.classes))},
        )
        runtime = self.runtime
        self.status.update(
            device=runtime.device.type,
            device_name=device_name(runtime.device),
            threads=runtime.threads,
            precision=runtime.precision,
            **versions(),
        )
        self._write_status()
        where = f"{runtime.device.type} ({self.status['device_name']}), {runtime.precision}, {runtime.threads} threads"
        begin = (
            f"from epoch {self.state.epoch + 1}, step {self.state.step}"
            if self.state.epoch or self.state.step
            else "from the start"
        )
        self.watcher.log(
            f"run {self.run.id}: {self.run.recipe} on {self.data.name} ({len(self.train_split):,} train, {len(self.val_split):,} val), {where}, {begin}"
        )
        if self.data.split_note:
            self.watcher.log(self.data.split_note)

    def _report(self, images_per_sec: float) -> None:
        self._check_finite()
        state, seen = self.state, min(self.state.step * self.config.train.batch_size, len(self.train_split))
        loss_sum, right = state.sums.tolist()
        left = len(self.train_split) * (self.config.train.epochs - state.epoch) - seen
        quicker = state.epoch < self.config.frozen_epochs < self.config.train.epochs  # than the epochs that are left
        progress = Progress(
            state.epoch + 1,
            self.config.train.epochs,
            state.step,
            self.steps,
            loss_sum / seen,
            right / seen,
            images_per_sec,
            None if quicker else left / images_per_sec,
        )
        self.watcher.on_progress(progress)
        self.status.update(
            images_per_sec=round(images_per_sec, 1), running_loss=progress.loss, running_top1=progress.top1
        )
        if time.monotonic() - self._last_status >= _STATUS_SECONDS:
            self._write_status()

    def _write_status(self) -> None:
        self._last_status = time.monotonic()
        self.status.update(
            epoch=self.state.epoch, step=self.state.step, steps_per_epoch=self.steps, updated=time.time()
        )
        self.store.write_status(self.run.id, self.status)

    def _end(self, state: str) -> None:
        self.status.update(state=state, finished=time.time())
        self._write_status()
        (self.run.path / "stop").unlink(missing_ok=True)

    def _stop_requested(self) -> bool:
        return (self.run.path / "stop").exists() or self.watcher.should_stop()

    def _check_finite(self) -> None:
        if not math.isfinite(self.state.sums[0].item()):
            raise self._not_finite()

    def _check_weights(self) -> None:
        """Before a save inside an epoch: what broke in its last step shows in no loss yet."""
        if not all(p.isfinite().all() for p in self.learner.model.parameters()):
            raise self._not_finite()

    def _not_finite(self) -> TrainingError:
        state, optim = self.state, self.config.optim
        good = self.steps if state.finite_steps is None else int(state.finite_steps.item())
        kept = (
            f"The weights of the last whole epoch, {state.epoch}, are kept."
            if state.epoch
            else "No epoch had ended yet, so there are no weights."
        )
        half = (
            ""
            if self.runtime.precision == "fp32"
            else f", or runtime.precision=fp32 in place of {self.runtime.precision}"
        )
        return TrainingError(
            f"The training loss is no longer a number in epoch {state.epoch + 1}, step {min(good + 1, state.step)} of {self.steps}. "
            f"The learning rate of {optim.lr:g} is probably too high: try a tenth of it, a warm-up, or train.clip_norm=1{half}. {kept}",
            try_instead={"optim.lr": float(f"{optim.lr / 10:.3g}")},
        )

    # --- saves -----------------------------------------------------------------------------------------------------

    def _save_weights(self, name: str, row: Mapping[str, Any]) -> None:
        save_checkpoint(
            self.run.path / name,
            self.learner.shown,
            self.config,
            self.data.classes,
            self.learner.preprocess,
            epoch=row["epoch"],
            run=self.run.id,
            val_top1=row["val_top1"],
            data=self.data.name,
            fingerprint=self.data.fingerprint,
            synthetic=self.data.synthetic,
            record={k: self.run.record[k] for k in RECORDED if k in self.run.record},
        )

    def _save_resume(self) -> None:
        state, learner = self.state, self.learner
        content = {
            "schema": SCHEMA,
            "model": learner.model.state_dict(),
            "mean": learner.mean.state_dict() if learner.mean is not None else None,
            "optimizer": learner.optimizer.state_dict(),
            "scaler": learner.scaler.state_dict(),
            "sums": state.sums,
            "epoch": state.epoch,
            "step": state.step,
            "seconds": state.seconds,
            "history": [dict(row) for row in state.history],
            "best_epoch": state.best_epoch,
            "best_top1": state.best_top1,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state() if self.runtime.device.type == "cuda" else None,
            "device": self.runtime.device.type,
            "precision": self.runtime.precision,
            "threads": self.runtime.threads,
        }
        write_atomic(self.run.path / "resume.pt", lambda file: torch.save(content, file))
        self._last_save = time.monotonic()

    def _read_resume(self) -> Mapping[str, Any] | None:
        path = self.run.path / "resume.pt"
        if not path.exists():
            if self.store.cut_metrics(self.run.id, 0) or self.store.read_metrics(self.run.id)[1]:
                self.watcher.log("metrics.jsonl: dropped, since there is no resume.pt to go on from")
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"The saved state {self.run.id}/resume.pt is damaged. Delete that file to train the run from its start."
            ) from error

    def _restore(self, saved: Mapping[str, Any]) -> None:
        state, learner = self.state, self.learner
        learner.model.load_state_dict(saved["model"])
        if learner.mean is not None:
            learner.mean.load_state_dict(saved["mean"])
        learner.optimizer.load_state_dict(saved["optimizer"])
        if saved["scaler"]:  # empty where the run was saved on a device that needs none
            learner.scaler.load_state_dict(saved["scaler"])
        state.sums.copy_(saved["sums"])
        state.epoch, state.step, state.seconds = saved["epoch"], saved["step"], saved["seconds"]
        state.best_epoch, state.best_top1 = saved["best_epoch"], saved["best_top1"]
        torch.set_rng_state(saved["rng"])
        if saved["cuda_rng"] is not None and self.runtime.device.type == "cuda":
            torch.cuda.set_rng_state(saved["cuda_rng"])
        state.history = self._mend_metrics(saved)

    def _mend_metrics(self, saved: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The epochs before the save; `metrics.jsonl` is made to hold them and no more, and what it held beside is said."""
        _rows, damaged = self.store.read_metrics(self.run.id)
        if damaged:
            self.watcher.log(f"metrics.jsonl: {damaged} dropped")
        kept = list(self.store.cut_metrics(self.run.id, self.state.epoch))
        history = [dict(row) for row in saved.get("history", kept)]  # saves of older versions hold no history
        if len(history) != self.state.epoch:
            raise CheckpointError(
                f"Run '{self.run.id}' was saved after {self.state.epoch} epochs and {len(history)} of them are left in metrics.jsonl. "
                "Delete its resume.pt to train the run from its start."
            )
        if len(kept) < len(history):
            self.store.write_metrics(self.run.id, history)
            self.watcher.log(f"metrics.jsonl: {len(history) - len(kept)} lost epochs written again from resume.pt")
        return history


def _reason(error: BaseException, run: Run) -> BaseException | str:
    """What the status says of an exception: a FerError where we know the cure, else its own words."""
    if isinstance(error, FerError):
        return error
    if run.config and is_out_of_memory(error):
        return _out_of_memory(error, run.config)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return TrainingError("The disk is full. Free some space, then resume the run; the last save is whole.")
    if isinstance(error, OSError) and not run.path.is_dir():
        return TrainingError(
            f"The run's folder {run.path} is gone: it was deleted or its disk was taken away while it trained. "
            "Bring the disk back and resume the run, or launch it again."
        )
    if isinstance(error, OSError):
        return TrainingError(
            f"A file of the run could not be written: {error}. Resume the run when the store can be written."
        )
    return f"{type(error).__name__}: {error}"


def _out_of_memory(error: BaseException, config: Config) -> TrainingError:
    """The failure with the largest batch size, halved from the run's, of which one step was tried and fits."""
    batch = config.train.batch_size
    error.__traceback__ = None  # it holds the frames, and they hold what filled the memory
    gc.collect()
    device = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "Memory"
    fits = _fitting_batch_size(config)
    if fits is None:
        return TrainingError(
            f"{device} ran out with train.batch_size={batch}, and no smaller batch was seen to fit. Close other programs, or choose a smaller network (model.width)."
        )
    return TrainingError(
        f"{device} ran out with train.batch_size={batch}. A step with train.batch_size={fits} was tried and fits: clone the run with that, or close other programs and resume it.",
        try_instead={"train.batch_size": fits},
    )


def _fitting_batch_size(config: Config) -> int | None:
    """The first of 1/2, 1/4, ... of the batch size of which a whole step fits into memory; None where none does."""
    batch = config.train.batch_size // 2
    while batch:
        try:
            _try_step(config, batch)
            return batch
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                return None
            batch //= 2
        finally:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return None


def _try_step(config: Config, batch: int) -> None:
    """One optimizer step on blank pictures, in which the optimizer makes its state too."""
    runtime = resolve(config.runtime)
    labels = torch.zeros(batch, dtype=torch.int64)
    learner = Learner.fresh(config, labels, _CLASSES, runtime)
    images = torch.zeros(batch, 48, 48, dtype=torch.uint8, device=runtime.device)
    loss, _right = learner.step(images, labels.to(runtime.device), config.optim.lr, 0)
    loss.item()  # waits for the device
