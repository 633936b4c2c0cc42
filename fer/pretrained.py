"""Where a network's first weights come from: torchvision, a file of the user's own, or another run. Without torch.

A run that cannot get its first weights is refused before it has a folder. Once it has begun, `resume.pt` and the
checkpoints hold all weights, and nothing here is asked again.
"""

from __future__ import annotations

import http.client
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from fer.config import ModelConfig, used
from fer.errors import CheckpointError
from fer.files import sha256
from fer.runs import ACTIVE, RunStore

FOLDER = "https://download.pytorch.org/models/"
SUFFIXES = (".pth", ".pt", ".safetensors")
_SECONDS = 10.0  # to wait for an answer
SHAPES = ("name", "channels", "width", "depth", "hidden_layers", "batch_norm")  # what the weights' shapes depend on


@dataclass(frozen=True)
class Published:
    """The file of torchvision's default ImageNet weights, and its size in MB."""

    file: str
    megabytes: int


PUBLISHED = {
    "alexnet": Published("alexnet-owt-7be5be79.pth", 233),
    "resnet18": Published("resnet18-f37072fd.pth", 45),
    "resnet34": Published("resnet34-b627a593.pth", 83),
    "resnet50": Published("resnet50-11ad3fa6.pth", 98),
    "mobilenet-v3": Published("mobilenet_v3_large-5c1a4163.pth", 21),
    "efficientnet-b0": Published("efficientnet_b0_rwightman-7f5810bc.pth", 20),
    "convnext-tiny": Published("convnext_tiny-983f1562.pth", 109),
}


def first_weights(model: ModelConfig, store: RunStore) -> Path | None:
    """The file that the network begins from, there or not; None where it begins at random. Raises RunError."""
    if model.from_run:
        return store.folder(model.from_run) / "best.safetensors"
    if model.weights:
        return Path(model.weights)
    return kept_path(model.name) if model.pretrained else None


def kept_path(network: str) -> Path:
    """Where torchvision's loader keeps its file of this network: in torch's cache."""
    cache = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "torch")
    home = os.path.expanduser(os.getenv("TORCH_HOME", cache))
    return Path(home) / "hub" / "checkpoints" / PUBLISHED[network].file


def check_weights(model: ModelConfig, store: RunStore) -> None:
    """Raises CheckpointError where a run of this network would not get its first weights: no such file, no way to fetch
    it, or a run of another network; RunError where there is no such run."""
    path = first_weights(model, store)
    if path is None:
        return
    if model.from_run:
        _check_run(model, store)
    elif model.weights:
        if path.suffix not in SUFFIXES:
            raise CheckpointError(
                f"model.weights is {path}, which is no weights file: its name must end in {', '.join(SUFFIXES)}."
            )
        if not path.is_file():
            raise CheckpointError(
                f"There is no file {path}: set model.weights to a file of {model.name}'s weights, such as torchvision's "
                f"{PUBLISHED[model.name].file}, or to none."
            )
    elif not path.is_file():
        _reach(model.name)


def _check_run(model: ModelConfig, store: RunStore) -> None:
    run = store.get(model.from_run or "")
    if run.members or run.config is None or not run.has_weights or run.state in ACTIVE:
        what = "is an ensemble" if run.members else f"is {run.state}" if run.state in ACTIVE else "has no weights"
        raise CheckpointError(
            f"Run '{run.id}' {what}, so nothing can begin from it: set model.from_run to a run that has ended and trained "
            "at least one epoch, or to none."
        )
    theirs, values = run.config.model, {f"model.{key}": getattr(model, key) for key in SHAPES}
    for key in SHAPES:
        here, there = getattr(model, key), getattr(theirs, key)
        if here != there and used(f"model.{key}", values):
            raise CheckpointError(
                f"model.{key} is {here}, but run '{run.id}' has {there}, and its weights fit its own network only: set "
                f"model.{key}={str(there).lower()}, or model.from_run=none."
            )


def not_fetched(network: str, reason: object) -> CheckpointError:
    """The error of weights that cannot be fetched: which file to bring, from where, and the setting that takes it."""
    published = PUBLISHED[network]
    return CheckpointError(
        f"The pretrained weights of {network} cannot be fetched here ({reason}): bring torchvision's file {published.file} "
        f"({published.megabytes} MB, {FOLDER}{published.file}) and set model.weights to its path, or set model.pretrained=false "
        "and train.freeze_epochs=0 to begin at random."
    )


def weights_note(model: ModelConfig) -> str:
    """What the network begins from, in a sentence for whoever launches it; '' for one that always begins at random."""
    if model.from_run:
        return f"The network begins from the best weights of run {model.from_run}."
    if model.name not in PUBLISHED:
        return ""
    if model.weights:
        return f"The backbone begins from {Path(model.weights).name}."
    if not model.pretrained:
        return (
            f"{model.name} begins at random; set model.pretrained or model.weights to begin from pictures of ImageNet."
        )
    published, path = PUBLISHED[model.name], kept_path(model.name)
    where = "which is here" if path.is_file() else f"fetched at the start, once ({published.megabytes} MB)"
    return f"The backbone begins from torchvision's {published.file}, {where}."


def weights_record(model: ModelConfig, store: RunStore) -> dict[str, str] | None:
    """What a run's status says of its first weights: `run` where they are another run's, `file` and `sha256`; None where
    it began at random. Raises OSError."""
    path = first_weights(model, store)
    if path is None:
        return None
    of = {"run": model.from_run} if model.from_run else {}
    return {**of, "file": path.name, "sha256": sha256(path)}


def _reach(network: str) -> None:
    """Ask for the head of the published file. Raises CheckpointError."""
    url = FOLDER + PUBLISHED[network].file
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS):
            pass
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise not_fetched(network, getattr(error, "reason", None) or error) from error
