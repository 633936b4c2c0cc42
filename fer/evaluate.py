"""Logits over a split, and the report made of them. Always fp32, always the best epoch's weights.

What answers is a `Scorer`: a run's network, or an ensemble's members together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fer.checkpoint import Checkpoint, load_checkpoint
from fer.config import Config, with_settings
from fer.data.dataset import Dataset, load, picture_hashes
from fer.device import is_out_of_memory, resolve, torch_threads
from fer.errors import CheckpointError, DataError, NotAllowed, RunError
from fer.files import write_atomic
from fer.metrics import calibration, log_softmax, softmax, summarise
from fer.models.inputs import Preprocess, seen_side
from fer.models.transfer import Transfer
from fer.origins import Origin, learned_from, origin_of
from fer.runs import TTA, Run, RunStore
from fer.selective import fit_rule
from fer.views import views

_BATCH = {"cpu": 128, "cuda": 2048, "mps": 512}  # on a CPU, what the caches hold: 512 takes 1.2 times as long


@torch.inference_mode()
def compute_logits(model: nn.Module, preprocess: Preprocess, images: torch.Tensor) -> np.ndarray:
    """Logits (N, num_classes) float32 of images (N, 48, 48) uint8, which lie on the model's device.

    The model is put into eval mode and stays there. Where memory runs out, half as many pictures at a time are tried.
    """
    model.eval()
    side, batch = seen_side(model, images.shape[-1]), min(_batch(model, images.device.type), max(1, len(images)))
    while True:
        try:
            batches = [model(preprocess(part[:, :side, :side])) for part in images.split(batch)]
            return torch.cat(batches).float().cpu().numpy()
        except (RuntimeError, MemoryError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
        batch //= 2  # not in the except clause, whose exception holds the frames and what fills the memory


def _batch(model: nn.Module, device: str) -> int:
    """How many pictures to validate at a time; on a GPU fewer where the network enlarges them."""
    enlarged = device != "cpu" and isinstance(model, Transfer)
    return max(1, _BATCH[device] * 48**2 // model.resize.side**2) if enlarged else _BATCH[device]


@dataclass(frozen=True)
class Scorer:
    """What a run answers with: one network, or the networks of an ensemble's members, on one device.

    temperatures: by which each member's logits are divided; those of a single network stay as they are.
    """

    checkpoints: tuple[Checkpoint, ...]
    temperatures: tuple[float, ...]
    tta: bool

    @classmethod
    def load(
        cls,
        run: Run,
        device: torch.device | str = "cpu",
        *,
        tta: bool = False,
        temperatures: Mapping[str, float] | None = None,
    ) -> Scorer:
        """The best weights of a run, or of each member of an ensemble. temperatures: of members, where not those of their reports.

        Raises RunError, CheckpointError.
        """
        if not run.members:
            return cls((_load(run, device),), (1.0,), tta)
        members = _members(run)
        if changed := run.changed_members():
            raise RunError(
                f"The ensemble '{run.id}' was made of other weights than these members have now: {', '.join(changed)}. So its figures "
                f"are not of what would answer; make it again: python -m fer ensemble {' '.join(run.members)}"
            )
        checkpoints = tuple(_load(m, device) for m in members)
        if len({c.classes for c in checkpoints}) > 1:
            raise RunError(f"The members of the ensemble '{run.id}' do not know the same classes. Make it anew.")
        fresh = temperatures or {}
        return cls(checkpoints, tuple(fresh.get(m.id, m.temperature(tta=tta)) for m in members), tta)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.checkpoints[0].classes

    @property
    def epoch(self) -> int:
        """The epoch that the weights are from; of an ensemble 1."""
        return self.checkpoints[0].epoch if len(self.checkpoints) == 1 else 1

    def logits(self, images: torch.Tensor) -> np.ndarray:
        """Logits (N, num_classes) float32 of images (N, 48, 48) uint8 on the scorer's device.

        Of several views or members: the logarithm of the mean of their probabilities, each member's calibrated.
        """
        if len(self.checkpoints) == 1:
            return self._one(self.checkpoints[0], images)
        probs = [
            softmax(self._one(checkpoint, images), temperature)
            for checkpoint, temperature in zip(self.checkpoints, self.temperatures, strict=True)
        ]
        return _log(np.mean(probs, axis=0))

    def _one(self, checkpoint: Checkpoint, images: torch.Tensor) -> np.ndarray:
        if not self.tta:
            return compute_logits(checkpoint.model, checkpoint.preprocess, images)
        seen = views(images, checkpoint.config.augment.crop)
        answers = (softmax(compute_logits(checkpoint.model, checkpoint.preprocess, v)) for v in seen)
        return _log(sum(answers) / len(seen))


def _log(probs: np.ndarray) -> np.ndarray:
    return log_softmax(np.log(np.maximum(probs, 1e-30))).astype(np.float32)


def _load(run: Run, device: torch.device | str) -> Checkpoint:
    if run.shipped and not run.has_weights:
        raise CheckpointError(
            f"Run '{run.id}' came with the project, without its weights: it can be looked at and not asked. Choose another run, "
            f"or train it yourself: python -m fer train --recipe {run.recipe}"
        )
    return load_checkpoint(run.path / "best.safetensors", device)


def _members(run: Run) -> list[Run]:
    if missing := run.missing_members():
        raise RunError(missing)
    store = RunStore(run.path.parent)
    return [store.get(name) for name in run.members]


def evaluate_run(
    store: RunStore,
    run_id: str,
    dataset: str | None = None,
    split: str = "val",
    *,
    device: str = "auto",
    tta: bool = False,
) -> dict[str, Any]:
    """Evaluate a run's best weights on a split and keep the report by data fingerprint, split and views.

    dataset: a prepared data set with the same classes; None: the run's own. tta: average over ten views of each picture. A shipped report is never overwritten and
    a store that cannot be written still gives the answer. So that figures do not depend on what was evaluated before, it and an
    ensemble's members are first evaluated on their own val, with views where these are asked for, where they were not and that
    data set is here: the temperatures that are fitted there are part of the answer. Raises ConfigError for an unknown device, RunError, DataError,
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
    data.indices(split)  # before anything that takes long
    is_own_val = split == "val" and data.fingerprint == run.fingerprint
    fitted: dict[str, float] = {}  # here and now, for a store that keeps none
    for each in (*_members(run), *([] if is_own_val else [run])):
        if each.fitted_temperature(tta=tta) is None and (own := _trained_on(origin_of(each), data)):
            on_val = report_of(each, own, "val", device=device, tta=tta, temperatures=fitted)
            fitted[each.id] = on_val["calibration"]["temperature"]
            _save(store, on_val)
    report = report_of(run, data, split, device=device, tta=tta, temperatures=fitted)
    if not _save(store, report):
        report["saved"] = False
    return report


def _save(store: RunStore, report: Mapping[str, Any]) -> bool:
    """Keep a report; False where the store cannot be written."""
    try:
        store.save_report(report["run"], report["fingerprint"], report["split"] + TTA * report["tta"], report)
    except (RunError, NotAllowed):
        return False
    return True


def report_of(
    run: Run,
    data: Dataset,
    split: str,
    *,
    device: str = "auto",
    tta: bool = False,
    temperatures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The report of a run's best weights on a split: run, dataset, fingerprint, split and what `metrics.summarise` gives,
    `tta`, `calibration`, `duplicates` and, of its own val, `selective`: which answers are unsure.

    On the data that it was trained on, the logits are kept beside it as `logits-<split>.npz` where there are none. The
    temperature is fitted on that data's val; any other split is judged with the one found there, where there is one.
    temperatures: of the run and of members, where not those of their reports. `calibration` names as `unfitted` those of
    them of which none was fitted in just this way.
    """
    fresh = temperatures or {}
    indices = data.indices(split)
    runtime = resolve(with_settings(Config(), {"runtime.device": device, "runtime.precision": "fp32"}).runtime)
    scorer = Scorer.load(run, runtime.device, tta=tta, temperatures=fresh)
    if scorer.classes != data.classes:
        raise DataError(
            f"Run '{run.id}' knows the classes {', '.join(scorer.classes)}; the data set '{data.name}' has {', '.join(data.classes)}. Choose one with the same classes."
        )
    with torch_threads(runtime.threads):
        logits = scorer.logits(torch.from_numpy(data.images[indices]).to(runtime.device))
    labels, own = data.labels[indices], data.fingerprint == run.fingerprint
    if own:
        keep_old = run.shipped and not run.is_outdated(run.kept_report(split + TTA * tta))
        _keep_logits(run.path / f"logits-{split}{TTA * tta}.npz", logits, data, indices, keep_old=keep_old)
    fit_here = own and split == "val"
    measured = calibration(logits, labels, None if fit_here else fresh.get(run.id, run.temperature(tta=tta)))
    used = [*_members(run), *([] if fit_here else [run])]
    if unfitted := [r.id for r in used if r.id not in fresh and r.fitted_temperature(tta=tta) is None]:
        measured["unfitted"] = unfitted
    rule = fit_rule(softmax(logits, measured["temperature"]), labels) if fit_here else None
    return {
        "run": run.id,
        "dataset": data.name,
        "fingerprint": data.fingerprint,
        "split": split,
        "tta": tta,
        "epoch": scorer.epoch,
        **summarise(logits, labels, data.classes),
        "calibration": measured,
        **({"selective": rule.to_json()} if rule else {}),
        **(
            {}
            if own and split == "train"
            else {"duplicates": _duplicates(run, data, indices, logits.argmax(1) == labels)}
        ),
        **({"split_note": data.split_note} if data.split_note else {}),
    }


def _duplicates(run: Run, data: Dataset, indices: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """How many of these pictures are, to the last pixel, among those that a run, or an ensemble's members, learned from,
    and the top-1 without them: `in_train`, `top1_without`.

    It learned from its own training split and from those of the runs that its weights go back to. `of`: the data sets that were
    compared, where these are not `data` alone. `uncounted`: those that are not on this machine as they were; where the run's
    own is one of them, there are no figures.
    """
    origins = learned_from(RunStore(run.path.parent), run)
    sets = {o: _trained_on(o, data) for o in origins}
    trains = {found.fingerprint: found for found in sets.values() if found}
    gone = {o.data or f"what run '{o.run}' learned from": None for o, found in sets.items() if not found}
    lacking = {"uncounted": list(gone)} if gone else {}
    if run.fingerprint not in trains:
        return lacking
    learned = [picture_hashes(found.images[found.indices("train")]) for found in trains.values()]
    known = np.isin(picture_hashes(data.images[indices]), np.concatenate(learned))
    of = {} if trains.keys() == {data.fingerprint} else {"of": [found.name for found in trains.values()]}
    top1_without = float(right[~known].mean()) if not known.all() else None
    return {"in_train": int(known.sum()), "top1_without": top1_without, **of, **lacking}


def _trained_on(origin: Origin, data: Dataset) -> Dataset | None:
    """The data of a training as they were, which may be these; None where they are not on this machine."""
    if origin.fingerprint == data.fingerprint:
        return data
    try:
        found = load(origin.data).with_val_fraction(origin.val_fraction)
    except DataError:
        return None
    return found if found.fingerprint == origin.fingerprint else None


def _keep_logits(path: Path, logits: np.ndarray, data: Dataset, indices: np.ndarray, *, keep_old: bool) -> None:
    if keep_old and path.exists():
        return
    hashes = picture_hashes(data.images[indices])
    try:
        write_atomic(path, lambda f: np.savez_compressed(f, logits=logits, labels=data.labels[indices], hashes=hashes))
    except (OSError, NotAllowed):
        pass  # a read-only store: the report is still an answer
