"""Whether the engine learns what the study's loop learns: the same losses step by step, and the same accuracy.

    python benchmarks/same_learning.py --data fer2013.zip

First, from one initialisation and one order of the pictures, the losses of both over 100 steps, the engine in fp32. Then
both for 5 epochs from 3 seeds each, the engine in the precision that `auto` picks. Without --data the built-in sample
faces are used. The two loops draw their first weights and orders from different random streams, so in the second part
a seed of one is no pair of the same seed of the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import machine, prepared, study_loop
from fer.augment import step_draws
from fer.config import Config, with_settings
from fer.data.dataset import Dataset
from fer.device import resolve, torch_threads
from fer.runs import RunStore
from fer.train import Learner, fit, picture_order

NETWORK = "baseline"


def main() -> None:
    """Run both parts and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a zip as Kaggle hands it out; default: the sample faces")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--turn-of", choices=("study", "engine"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn_of:
        turn = {"study": _study_epochs, "engine": _engine_epochs}[arguments.turn_of]
        print(json.dumps(turn(arguments.folder, arguments.seed, arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(arguments, Path(folder)), indent=1))


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = prepared.prepare(arguments.data, folder)
    losses = compare_steps(data, study_loop.unpack(data, folder / "by_position"), arguments.steps)
    gap = max(abs(a - b) for a, b in zip(losses["study"], losses["engine"], strict=True))
    print(f"{arguments.steps} steps: largest difference in loss {gap:.2e}", file=sys.stderr)
    tops: dict[str, list[float]] = {"study": [], "engine": []}
    for seed in range(arguments.seeds):
        for who, found in tops.items():
            flags = ("--turn-of", who, "--folder", str(folder), "--seed", str(seed), "--epochs", str(arguments.epochs))
            done = prepared.turn(__file__, *flags)
            found.append(done["val_top1"])
            print(f"seed {seed} {who}: {done}", file=sys.stderr)
    return {
        "benchmark": "same_learning",
        "network": NETWORK,
        "data": prepared.data_name(arguments.data),
        "steps": arguments.steps,
        "max_loss_difference": gap,
        "losses_study": losses["study"],
        "losses_engine": losses["engine"],
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "precision": resolve(Config().runtime).precision,
        **{f"{who}_val_top1": found for who, found in tops.items()},
        **{f"{who}_mean": statistics.mean(found) for who, found in tops.items()},
        **{f"{who}_std": statistics.stdev(found) if len(found) > 1 else None for who, found in tops.items()},
        "mean_difference_points": 100 * (statistics.mean(tops["engine"]) - statistics.mean(tops["study"])),
        **machine.describe(),
    }


def compare_steps(data: Dataset, pictures: Path, steps: int) -> dict[str, list[float]]:
    """The losses of both loops from the same first weights over the same pictures; `pictures`: as `unpack` wrote them."""
    config = with_settings(Config(), {"runtime.precision": "fp32", "model.name": NETWORK})
    runtime = resolve(config.runtime)
    learner = Learner.fresh(config, len(data.classes), runtime)
    model, optimizer = study_loop.start(NETWORK)
    model.load_state_dict(learner.model.state_dict())
    images, labels = (torch.from_numpy(array) for array in data.subset("train"))
    order = picture_order(config.seed, 0, len(labels))
    size = study_loop.BATCH
    steps = min(steps, len(labels) // size)
    positions = data.indices("train")[order[: steps * size].numpy()]
    found: dict[str, list[float]] = {"study": [], "engine": []}
    with torch_threads(runtime.threads):
        for batch, targets in study_loop.ordered_loader(pictures, positions.tolist()):
            found["study"].append(study_loop.train_step(model, optimizer, batch, targets)[0].item())
        for step in range(steps):
            chosen = order[step * size : (step + 1) * size]
            draws = step_draws(config.seed, 0, step)
            loss, _right = learner.step(images[chosen], labels[chosen], config.optim.lr, draws)
            found["engine"].append(loss.item())
    return found


def _study_epochs(folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    train, val = study_loop.loaders(folder / "pictures")
    model, optimizer = study_loop.start(NETWORK, seed)
    train_loss = 0.0
    for _ in range(epochs):
        train_loss = study_loop.train_epoch(model, optimizer, train)[0]
    return {"train_loss": train_loss, "val_top1": study_loop.validate(model, val)[1]}


def _engine_epochs(folder: Path, seed: int, epochs: int) -> dict[str, Any]:
    data = prepared.load(folder)
    settings = {"data.name": data.name, "model.name": NETWORK, "train.epochs": epochs, "seed": seed}
    with tempfile.TemporaryDirectory() as root:
        store = RunStore(Path(root))
        store.create(
            with_settings(Config(), settings), recipe=None, data={"fingerprint": data.fingerprint}, run_id="turn"
        )
        last = fit(store, "turn").metrics[-1]
    return {"train_loss": last["train_loss"], "val_top1": last["val_top1"]}


if __name__ == "__main__":
    main()
