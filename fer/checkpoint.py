"""Weights on disk: safetensors with everything that using them needs in the header. Atomic, never pickle.

The header carries the config, the class names, the input size, mean and std, so nobody guesses the preprocessing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from fer.config import Config, read_config
from fer.errors import CheckpointError, FerError
from fer.files import write_bytes_atomic
from fer.models import build_model
from fer.models.inputs import Preprocess

INPUT_SIZE = 48


@dataclass(frozen=True)
class Checkpoint:
    """A network with weights, in eval mode, and what using it needs. `epoch` is the one that the weights are from."""

    model: nn.Module
    config: Config
    classes: tuple[str, ...]
    preprocess: Preprocess
    epoch: int
    extra: dict[str, Any]


def save_checkpoint(
    path: Path,
    model: nn.Module,
    config: Config,
    classes: tuple[str, ...],
    preprocess: Preprocess,
    *,
    epoch: int,
    **extra: Any,
) -> None:
    """Write the network's parameters and buffers; atomic. `extra`: further JSON values for the header."""
    head = {
        "format": "fer-lab/1",
        "config": config.model_dump_json(),
        "classes": json.dumps(classes),
        "input_size": str(INPUT_SIZE),
        "mean": json.dumps(preprocess.mean),
        "std": json.dumps(preprocess.std),
        "epoch": str(epoch),
        "extra": json.dumps(extra),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    write_bytes_atomic(path, safetensors.torch.save(tensors, metadata=head))


def halve(path: Path) -> None:
    """Keep the weights in fp16 from now on, for half the space; they are read as any others. Ensembles of them are made
    afterwards, or they find other weights than theirs."""
    head, tensors = _read(path)
    halved = {k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}
    write_bytes_atomic(path, safetensors.torch.save(halved, metadata=head))


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read weights and build their network, in fp32 and eval mode. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(
            f"There are no weights at {path.parent.name}/{path.name}. The run saves them after its first epoch."
        )
    try:
        head, tensors = _read(path)
        config = read_config(json.loads(head["config"]))
        classes = tuple(json.loads(head["classes"]))
        preprocess = Preprocess(tuple(json.loads(head["mean"])), tuple(json.loads(head["std"])))
        model = build_model(config.model, len(classes))
        model.load_state_dict(tensors)
        epoch, extra = int(head["epoch"]), json.loads(head["extra"])
    except FerError as error:
        raise CheckpointError(
            f"The weights {path.parent.name}/{path.name} do not fit this version of FER Lab: {error}"
        ) from error
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"The weights {path.parent.name}/{path.name} are damaged or were not written by FER Lab. Train the run again or copy its folder again."
        ) from error
    model.to(device=device, dtype=torch.float32, memory_format=torch.channels_last).eval()
    return Checkpoint(model, config, classes, preprocess, epoch, extra)


def _read(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
