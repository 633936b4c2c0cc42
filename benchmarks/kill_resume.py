"""Whether a killed training ends as one that was left alone: SIGKILL at random moments, resumed each time, every file read after each.

    python benchmarks/kill_resume.py --kills 50

Trains on the sample faces with one thread in fp32. Each kill hits a training process of its own at a moment drawn evenly
over what such a process does: setting up, steps, saves, ends of epochs. Where a run ends before all kills are spent,
another one of the same config takes the rest. Weights and metrics (but for the times) must be the undisturbed run's, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import safetensors.torch
import torch

from benchmarks import machine
from fer import train as training
from fer.config import Config, with_settings
from fer.data import dataset
from fer.runs import Run, RunStore

SETTINGS = {
    "data.name": dataset.SAMPLE,
    "model.name": "compact",
    "model.channels": "grey",
    "model.width": 0.25,
    "train.epochs": 6,
    "train.batch_size": 128,
    "train.ema_decay": 0.9,
    "augment.flip": True,
    "augment.shift": 2,
    "optim.name": "sgd",
    "optim.lr": 0.05,
    "schedule.name": "one-cycle",
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
}
_PROCESSES = multiprocessing.get_context("forkserver")  # torch is loaded once; each training is still a process to kill


def main() -> None:
    """Measure, and print one JSON document last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how many times a training is killed")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    options = parser.parse_args()
    _PROCESSES.set_forkserver_preload(["fer.train"])
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FER_DATA_DIR"] = str(Path(folder, "data"))
        found = measure(RunStore(Path(folder, "runs")), with_settings(Config(), SETTINGS), options.kills, options.seed)
    print(json.dumps({**found, "settings": SETTINGS, "machine": machine.describe()}))
    if found["different"] or found["damaged"]:
        raise SystemExit("A killed run differs from the undisturbed one, or left a damaged file.")


def measure(store: RunStore, config: Config, kills: int, seed: int) -> dict[str, Any]:
    """Train undisturbed, then with that many kills; what differed, what was damaged, and where the kills hit."""
    rng, damaged, different = random.Random(seed), [], []
    whole = _undisturbed(store, config)
    span = _finish(store, _new(store, config))  # a second one, with everything warm: how long such a process lives
    hits: dict[str, int] = {}
    rounds = spent = 0
    began = time.monotonic()
    while spent < kills:
        run_id, rounds = _new(store, config), rounds + 1
        while store.get(run_id).state != "finished" and spent < kills:
            if _kill(store, run_id, rng.uniform(0, span)):
                spent += 1
                where = _where(store.get(run_id))
                hits[where] = hits.get(where, 0) + 1
                damaged += damage(store.get(run_id))
                _requeue(store, run_id)
        if store.get(run_id).state != "finished":
            _finish(store, run_id)
        different += differences(store.get(run_id), whole)
    return {
        "kills": spent,
        "runs": rounds,
        "killed_when": hits,
        "damaged": damaged,
        "different": different,
        "identical": not different,
        "seconds": round(time.monotonic() - began, 1),
        "best_val_top1": whole.best["val_top1"] if whole.best else None,
    }


def damage(run: Run) -> list[str]:
    """What of the run's files cannot be read; a torn last line of the metrics is allowed, since it is dropped."""
    bad = [p for p in run.problems if "torn last line" not in p]
    for name in ("best.safetensors", "last.safetensors"):
        if (run.path / name).exists():
            bad += _unreadable(run, name, lambda path: safetensors.torch.load_file(path))
    if (run.path / "resume.pt").exists():
        bad += _unreadable(run, "resume.pt", lambda path: torch.load(path, weights_only=True))
    return [f"{run.id}: {problem}" for problem in bad]


def differences(run: Run, whole: Run) -> list[str]:
    """In what a run that was killed differs from the undisturbed one, times left out."""
    found = [] if _figures(run) == _figures(whole) else ["metrics"]
    for name in ("best.safetensors", "last.safetensors"):
        ours, theirs = (safetensors.torch.load_file(r.path / name) for r in (run, whole))
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[k], theirs[k]) for k in ours):
            found.append(name)
    reports = [{k: v for k, v in (r.report("val") or {}).items() if k != "run"} for r in (run, whole)]
    found += [] if reports[0] == reports[1] else ["report"]
    return [f"{run.id}: {what}" for what in found]


def _figures(run: Run) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in run.metrics]


def _unreadable(run: Run, name: str, read: Any) -> list[str]:
    try:
        read(run.path / name)
    except Exception as error:  # whatever it is, the file is damaged
        return [f"{name}: {type(error).__name__}"]
    return []


def _new(store: RunStore, config: Config) -> str:
    data = dataset.load(config.data.name)
    return store.create(config, recipe=None, data={"fingerprint": data.fingerprint, "synthetic": True}).id


def _undisturbed(store: RunStore, config: Config) -> Run:
    run_id = _new(store, config)
    _finish(store, run_id)
    return store.get(run_id)


def _train(root: Path, run_id: str, data: str | None) -> None:
    if data:
        os.environ["FER_DATA_DIR"] = data  # the process that forks this one began with an environment of its own
    training._SAVE_SECONDS = training._REPORT_SECONDS = 0.02  # many saves inside epochs, so that kills hit them
    training.fit(RunStore(root), run_id)


def _finish(store: RunStore, run_id: str) -> float:
    """Let a run train to its end in a process of its own; seconds."""
    began = time.monotonic()
    process = _PROCESSES.Process(target=_train, args=(store.root, run_id, os.environ.get("FER_DATA_DIR")))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{run_id} ended with code {process.exitcode}: {store.get(run_id).status.get('error')}")
    return time.monotonic() - began


def _kill(store: RunStore, run_id: str, after_seconds: float) -> bool:
    """Whether the training process was killed before it ended by itself."""
    process = _PROCESSES.Process(target=_train, args=(store.root, run_id, os.environ.get("FER_DATA_DIR")))
    process.start()
    process.join(after_seconds)
    process.kill()
    process.join()
    if process.exitcode > 0:
        raise SystemExit(f"{run_id} failed: {store.get(run_id).status.get('error')}")
    return process.exitcode != 0


def _where(run: Run) -> str:
    if run.state == "queued":
        return "before it began"
    if any(p.suffix == ".tmp" for p in run.path.iterdir()):
        return "while a file was written"
    saved = run.path / "resume.pt"
    if saved.exists() and torch.load(saved, weights_only=True)["step"]:
        return "inside an epoch"
    return "between epochs, or setting up" if run.state == "lost" else run.state


def _requeue(store: RunStore, run_id: str) -> None:
    for leftover in store.folder(run_id).glob(".*.tmp"):
        leftover.unlink()  # so that the next kill's leftovers are its own
    if store.get(run_id).state == "lost":
        store.requeue(run_id)


if __name__ == "__main__":
    main()
