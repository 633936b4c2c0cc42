"""Where a network's first weights come from: a file that torchvision publishes, or one of the user's own. Without torch.

A run that cannot get its first weights is refused before it has a folder. Once it has begun, `resume.pt` and the
checkpoints hold all weights, and nothing here is asked again.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from fer.config import ModelConfig
from fer.errors import CheckpointError

FOLDER = "https://download.pytorch.org/models/"
SUFFIXES = (".pth", ".pt", ".safetensors")
_SECONDS = 10.0  # to wait for an answer


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


def first_weights(model: ModelConfig) -> Path | None:
    """The file that the backbone begins from, there or not; None where it begins at random."""
    if model.weights:
        return Path(model.weights)
    return kept_path(model.name) if model.pretrained else None


def kept_path(network: str) -> Path:
    """Where torchvision's loader keeps its file of this network: in torch's cache."""
    cache = os.path.join(os.getenv("XDG_CACHE_HOME", "~/.cache"), "torch")
    home = os.path.expanduser(os.getenv("TORCH_HOME", cache))
    return Path(home) / "hub" / "checkpoints" / PUBLISHED[network].file


def check_weights(model: ModelConfig) -> None:
    """Raises CheckpointError where a run of this network would not get its first weights: no such file, or no way to fetch it."""
    path = first_weights(model)
    if path is None:
        return
    if model.weights:
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


def not_fetched(network: str, reason: object) -> CheckpointError:
    """The error of weights that cannot be fetched: which file to bring, from where, and the setting that takes it."""
    published = PUBLISHED[network]
    return CheckpointError(
        f"The pretrained weights of {network} cannot be fetched here ({reason}): bring torchvision's file {published.file} "
        f"({published.megabytes} MB, {FOLDER}{published.file}) and set model.weights to its path, or set model.pretrained=false "
        "and train.freeze_epochs=0 to begin at random."
    )


def weights_note(model: ModelConfig) -> str:
    """What the backbone begins from, in a sentence for whoever launches it; '' for a network without one."""
    if model.name not in PUBLISHED:
        return ""
    path = first_weights(model)
    if path is None:
        return (
            f"{model.name} begins at random; set model.pretrained or model.weights to begin from pictures of ImageNet."
        )
    if model.weights:
        return f"The backbone begins from {path.name}."
    published = PUBLISHED[model.name]
    where = "which is here" if path.is_file() else f"fetched at the start, once ({published.megabytes} MB)"
    return f"The backbone begins from torchvision's {published.file}, {where}."


def weights_record(model: ModelConfig) -> dict[str, str] | None:
    """What a run's status says of its first weights: `file` and `sha256`; None where it began at random. Raises OSError."""
    path = first_weights(model)
    if path is None:
        return None
    with open(path, "rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _reach(network: str) -> None:
    """Ask for the head of the published file. Raises CheckpointError."""
    url = FOLDER + PUBLISHED[network].file
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS):
            pass
    except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
        raise not_fetched(network, getattr(error, "reason", None) or error) from error
