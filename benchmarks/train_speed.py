"""How long an epoch takes: the study's loop and the engine, taking turns, each turn in a process of its own.

    python benchmarks/train_speed.py --data fer2013.zip --network baseline --turns 3

Without --data the built-in sample faces are used. The first steps of each process warm it up and are not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import machine, prepared, study_loop
from benchmarks.turn import turn
from fer.config import Config, ModelConfig, with_settings
from fer.data import dataset
from fer.device import keep_freed_memory, resolve
from fer.evaluate import compute_logits
from fer.models.inputs import Preprocess
from fer.models.summary import summarise

_WARM_PICTURES = 640


def main() -> None:
    """Take turns and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="a zip as Kaggle hands it out; default: the sample faces")
    parser.add_argument("--network", choices=("baseline", "grouped-conv"), default="baseline")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--turn-of", choices=("study", "engine"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn_of:
        measure = {"study": _study_turn, "engine": _engine_turn}[arguments.turn_of]
        print(json.dumps(measure(arguments.folder, arguments.network)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(arguments, Path(folder)), indent=1))


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    data = prepared.prepare(arguments.data, folder)
    turns: dict[str, list[dict[str, Any]]] = {"study": [], "engine": []}
    for number in range(arguments.turns):
        for who, done in turns.items():
            flags = ("--turn-of", who, "--folder", str(folder), "--network", arguments.network)
            done.append(turn(__file__, *flags))
            print(f"turn {number + 1} {who}: {done[-1]}", file=sys.stderr)
    return _summary(arguments, data, turns)


def _study_turn(folder: Path, network: str) -> dict[str, Any]:
    train, val = study_loop.loaders(folder / "pictures")
    model, optimizer = study_loop.start(network)
    images, labels = next(iter(val))
    for _ in range(_WARM_PICTURES // study_loop.BATCH):
        torch.nn.functional.cross_entropy(model(images), labels).backward()
    model, optimizer = study_loop.start(network)
    _, _, train_seconds = study_loop.train_epoch(model, optimizer, train)
    _, _, val_seconds = study_loop.validate(model, val)
    return {"train_seconds": train_seconds, "val_seconds": val_seconds, "memory_mb": machine.peak_memory_mb()}


def _engine_turn(folder: Path, network: str) -> dict[str, Any]:
    data = prepared.load(folder)
    config = with_settings(Config(), {"data.name": data.name, "model.name": network, "train.epochs": 1})
    runtime = resolve(config.runtime)
    keep_freed_memory()  # as a run does, since validation is timed before the run
    val_seconds = _val_seconds(config.model, data)
    run = prepared.train(config, data)
    return {
        "train_seconds": run.metrics[0]["epoch_seconds"] - val_seconds,
        "val_seconds": val_seconds,
        "memory_mb": machine.peak_memory_mb(),
        "precision": runtime.precision,
        "threads": runtime.threads,
        "peak_gflops": machine.gemm_gflops(runtime.precision),
    }


def _val_seconds(model_config: ModelConfig, data: dataset.Dataset) -> float:
    """Seconds to validate as the engine does, measured apart since `epoch_seconds` holds both; also the warm-up."""
    from fer.models import build_model

    model = build_model(model_config, len(data.classes)).to(memory_format=torch.channels_last)
    preprocess = Preprocess.for_channels(model_config.channels)
    images = torch.from_numpy(data.subset("val")[0])
    compute_logits(model, preprocess, images[:_WARM_PICTURES])
    began = time.perf_counter()
    compute_logits(model, preprocess, images)
    return time.perf_counter() - began


def _summary(
    arguments: argparse.Namespace, data: dataset.Dataset, turns: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    def median(who: str, key: str) -> float:
        return statistics.median(t[key] for t in turns[who])

    def ratios(*keys: str) -> list[float]:
        pairs = zip(turns["study"], turns["engine"], strict=True)
        return [sum(s[k] for k in keys) / sum(e[k] for k in keys) for s, e in pairs]

    num_train = len(data.indices("train"))
    multiply_adds = summarise(ModelConfig(name=arguments.network))["multiply_adds"]
    gflop = 2 * 3 * multiply_adds * num_train / 1e9
    epoch = ratios("train_seconds", "val_seconds")
    return {
        "benchmark": "train_speed",
        "network": arguments.network,
        "data": prepared.data_name(arguments.data),
        "num_train": num_train,
        "num_val": len(data.indices("val")),
        "turns": arguments.turns,
        "ratio_epoch": statistics.median(epoch),
        "ratio_epoch_range": [min(epoch), max(epoch)],
        "ratio_train": statistics.median(ratios("train_seconds")),
        "gemm_peak_share": statistics.median(gflop / t["train_seconds"] / t["peak_gflops"] for t in turns["engine"]),
        "peak_gflops": median("engine", "peak_gflops"),
        "precision": turns["engine"][0]["precision"],
        "study": {k: median("study", k) for k in ("train_seconds", "val_seconds", "memory_mb")},
        "engine": {k: median("engine", k) for k in ("train_seconds", "val_seconds", "memory_mb")},
        "engine_images_per_sec": num_train / median("engine", "train_seconds"),
        **machine.describe(),
    }


if __name__ == "__main__":
    main()
