"""Logits over a split, and the report made of them. Always fp32, always the best epoch's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fer.checkpoint import load_checkpoint
from fer.config import Config, with_settings
from fer.data.dataset import Dataset, load
from fer.device import resolve, torch_threads
from fer.errors import DataError, RunError
from fer.files import write_atomic
from fer.metrics import summarise
from fer.models.inputs import Preprocess
from fer.runs import Run, RunStore

_BATCH = {"cpu": 128, "cuda": 2048, "mps": 512}  # on a CPU, what the caches hold: 512 takes 1.2 times as long


@torch.inference_mode()
def compute_logits(model: nn.Module, preprocess: Preprocess, images: torch.Tensor) -> np.ndarray:
    """Logits (N, num_classes) float32 of images (N, 48, 48) uint8, which lie on the model's device.

    The model is put into eval mode and stays there.
    """
    model.eval()
    batches = [model(preprocess(batch)) for batch in images.split(_BATCH[images.device.type])]
    return torch.cat(batches).float().cpu().numpy()


def evaluate_run(
    store: RunStore, run_id: str, dataset: str | None = None, split: str = "val", *, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate a run's best weights on a split and keep the report by data fingerprint and split.

    dataset: a prepared data set with the same classes; None: the run's own. A shipped report is never overwritten and
    a store that cannot be written still gives the answer. Raises ConfigError for an unknown device, RunError, DataError,
    CheckpointError, DeviceError.
    """
    run = store.get(run_id)
    if run.config is None:
        raise RunError(f"Run '{run_id}' cannot be read: {'; '.join(run.problems)}.")
    name = dataset or run.config.data.name
    data = load(name)
    if data.fingerprint != run.fingerprint or run.config.data.val_fraction:
        resplit = data.with_val_fraction(run.config.data.val_fraction)
        data = resplit if resplit.fingerprint == run.fingerprint else data
    report = report_of(run, data, split, device=device)
    try:
        store.save_report(run_id, data.fingerprint, split, report)
    except RunError:
        report["saved"] = False
    return report


def report_of(run: Run, data: Dataset, split: str, *, device: str = "auto") -> dict[str, Any]:
    """The report of a run's best weights on a split: run, dataset, fingerprint, split and what `metrics.summarise` gives.

    On the data that it was trained on, the logits are kept beside it as `logits-<split>.npz` where there are none.
    """
    indices = data.indices(split)
    runtime = resolve(with_settings(Config(), {"runtime.device": device, "runtime.precision": "fp32"}).runtime)
    checkpoint = load_checkpoint(run.path / "best.safetensors", runtime.device)
    if checkpoint.classes != data.classes:
        raise DataError(
            f"Run '{run.id}' knows the classes {', '.join(checkpoint.classes)}; the data set '{data.name}' has {', '.join(data.classes)}. Choose one with the same classes."
        )
    with torch_threads(runtime.threads):
        images = torch.from_numpy(data.images[indices]).to(runtime.device)
        logits = compute_logits(checkpoint.model, checkpoint.preprocess, images)
    if data.fingerprint == run.fingerprint:
        _keep_logits(run.path / f"logits-{split}.npz", logits, data, indices, keep_old=run.shipped)
    return {
        "run": run.id,
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "split": split,
        "epoch": checkpoint.epoch,
        **summarise(logits, data.labels[indices], data.classes),
        **({"split_note": data.split_note} if data.split_note else {}),
    }


def picture_hashes(images: np.ndarray) -> np.ndarray:
    """(N,) uint64: 8 bytes of BLAKE2b of each picture, so that paired tests can match pictures without keeping them."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in np.ascontiguousarray(images))
    return np.frombuffer(b"".join(digests), dtype=np.uint64).copy()


def _keep_logits(path: Path, logits: np.ndarray, data: Dataset, indices: np.ndarray, *, keep_old: bool) -> None:
    if keep_old and path.exists():
        return
    hashes = picture_hashes(data.images[indices])
    try:
        write_atomic(path, lambda f: np.savez_compressed(f, logits=logits, labels=data.labels[indices], hashes=hashes))
    except OSError:
        pass  # a read-only store: the report is still an answer
