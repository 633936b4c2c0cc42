"""Whether the engine learns what the study's loop learns: the same losses step by step, and the same accuracy.

    python benchmarks/same_learning.py --data fer2013.zip

From one initialisation and one order of the pictures, over 100 steps:
- `max_loss_difference_plain`: both loops in fp32, the engine with `runtime.arithmetic=plain`, each on its own way.
- `max_loss_difference`: the same with the engine's fast arithmetic, which rounds in other places. Adam divides each
  gradient by its own size, so that a rounding in a gradient near zero becomes a whole step of a weight;
  `max_loss_difference_of_study` says how far the study's loop departs from itself when it sums with another number of threads.
- `max_loss_difference_fp64`: the same in double precision, where such roundings are too small to matter.
- `max_loss_difference_one_step`, `max_gradient_difference_one_step`: both in fp32 from the weights that the study's loop
  has at each step; the gradient's relative to its norm.

Then both for 5 epochs from 3 seeds each, the engine in the precision that `auto` picks. The two draw their first weights
and orders from different random streams there, so a seed of one is no pair of the same seed of the other. Without --data
the built-in sample faces are used.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import machine, prepared, study_loop
from benchmarks.turn import turn
from fer.config import Config, with_settings
from fer.data.dataset import Dataset
from fer.device import resolve, torch_threads
from fer.models.inputs import IMAGENET_MEAN, IMAGENET_STD
from fer.train import Learner, picture_order

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
        measure = {"study": _study_epochs, "engine": _engine_epochs}[arguments.turn_of]
        print(json.dumps(measure(arguments.folder, arguments.seed, arguments.epochs)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(arguments, Path(folder)), indent=1))


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = prepared.prepare(arguments.data, folder)
    steps = compare_steps(data, study_loop.unpack(data, folder / "by_position"), arguments.steps)
    print(f"{arguments.steps} steps: {steps}", file=sys.stderr)
    tops: dict[str, list[float]] = {"study": [], "engine": []}
    for seed in range(arguments.seeds):
        for who, found in tops.items():
            flags = ("--turn-of", who, "--folder", str(folder), "--seed", str(seed), "--epochs", str(arguments.epochs))
            done = turn(__file__, *flags)
            found.append(done["val_top1"])
            print(f"seed {seed} {who}: {done}", file=sys.stderr)
    return {
        "benchmark": "same_learning",
        "network": NETWORK,
        "data": prepared.data_name(arguments.data),
        "steps": arguments.steps,
        **steps,
        "epochs": arguments.epochs,
        "seeds": arguments.seeds,
        "precision": resolve(Config().runtime).precision,
        **{f"{who}_val_top1": found for who, found in tops.items()},
        **{f"{who}_mean": statistics.mean(found) for who, found in tops.items()},
        **{f"{who}_std": statistics.stdev(found) if len(found) > 1 else None for who, found in tops.items()},
        "mean_difference_points": 100 * (statistics.mean(tops["engine"]) - statistics.mean(tops["study"])),
        **machine.describe(),
    }


def compare_steps(data: Dataset, pictures: Path, steps: int) -> dict[str, float]:
    """The largest differences that the head of this file names; `pictures`: the data set as `study_loop.unpack` wrote it."""
    config = with_settings(Config(), {"runtime.precision": "fp32", "model.name": NETWORK})
    images, labels = (torch.from_numpy(array) for array in data.subset("train"))
    order = picture_order(config.seed, 0, len(labels))
    chosen = order[: steps * study_loop.BATCH].split(study_loop.BATCH)
    positions = data.indices("train")[torch.cat(chosen).numpy()]
    theirs = list(study_loop.ordered_loader(pictures, positions.tolist()))
    ours = [(images[i], labels[i]) for i in chosen]
    threads = resolve(config.runtime).threads
    with torch_threads(threads):
        study, engine = _study_losses(config, theirs), _engine_losses(config, ours)
        plain = _engine_losses(with_settings(config, {"runtime.arithmetic": "plain"}), ours)
        double = _study_losses(config, theirs, torch.float64), _engine_losses(config, ours, torch.float64)
        one_step = _one_step_differences(config, theirs, ours)
    with torch_threads(1 if threads > 1 else 2):
        again = _study_losses(config, theirs)
    return {
        "max_loss_difference_plain": _largest(study, plain),
        "max_loss_difference": _largest(study, engine),
        "max_loss_difference_of_study": _largest(study, again),
        "max_loss_difference_fp64": _largest(*double),
        **one_step,
    }


Batch = tuple[torch.Tensor, torch.Tensor]


def _largest(some: list[float], others: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(some, others, strict=True))


def _start(config: Config, kind: torch.dtype) -> tuple[Learner, torch.nn.Module, torch.optim.Optimizer]:
    """The engine's learner and the study's network with its optimizer, with the same first weights."""
    learner = Learner.fresh(config, torch.arange(7), 7, resolve(config.runtime))
    model, optimizer = study_loop.start(NETWORK)
    model.load_state_dict(learner.model.state_dict())
    learner.model.to(kind)
    return learner, model.to(kind), optimizer


def _study_losses(config: Config, batches: list[Batch], kind: torch.dtype = torch.float32) -> list[float]:
    _, model, optimizer = _start(config, kind)
    return [study_loop.train_step(model, optimizer, _as(images, kind), labels)[0].item() for images, labels in batches]


def _as(images: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    """The study's normalised pictures in this precision, as if they had never been rounded to fp32."""
    if kind == images.dtype:
        return images
    mean, std = (torch.tensor(v, dtype=kind).view(1, -1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    pixels = ((images.to(kind) * std + mean) * 255).round()
    return (pixels / 255 - mean) / std


def _engine_losses(config: Config, batches: list[Batch], kind: torch.dtype = torch.float32) -> list[float]:
    learner, _, _ = _start(config, kind)
    scale = learner.preprocess
    learner = dataclasses.replace(learner, preprocess=lambda images: scale(images).to(kind))
    return [
        learner.step(images, labels, config.optim.lr, step)[0].item() for step, (images, labels) in enumerate(batches)
    ]


def _one_step_differences(config: Config, theirs: list[Batch], ours: list[Batch]) -> dict[str, float]:
    learner, model, optimizer = _start(config, torch.float32)
    of_loss = of_gradient = 0.0
    for (inputs, targets), (images, labels) in zip(theirs, ours, strict=True):
        learner.model.load_state_dict(model.state_dict())
        study_loss, _ = study_loop.train_step(model, optimizer, inputs, targets)
        engine_loss, _ = learner.step(images, labels, config.optim.lr, 0)
        of_loss = max(of_loss, abs(study_loss.item() - engine_loss.item()))
        ours_all, theirs_all = _gradient(learner.model), _gradient(model)
        of_gradient = max(of_gradient, ((ours_all - theirs_all).norm() / theirs_all.norm()).item())
    return {"max_loss_difference_one_step": of_loss, "max_gradient_difference_one_step": of_gradient}


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


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
    last = prepared.train(with_settings(Config(), settings), data).metrics[-1]
    return {"train_loss": last["train_loss"], "val_top1": last["val_top1"]}


if __name__ == "__main__":
    main()
