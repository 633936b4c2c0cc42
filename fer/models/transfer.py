"""torchvision's networks for transfer learning: trained on ImageNet by others, here with a last layer of our own.

The 48x48 picture, three equal channels with ImageNet's mean and std, is enlarged to `model.input_side`. A backbone
begins at random, from the weights that torchvision publishes, or from a file. Torchvision is imported when one is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from fer.config import ModelConfig
from fer.errors import CheckpointError
from fer.pretrained import check_weights, first_weights, kept_path, not_fetched
from fer.runs import RunStore

_SHOWN = 3  # names of an error


@dataclass(frozen=True)
class Backbone:
    """A network of torchvision: its name there, its last linear layer, and each stage's first module, in their order."""

    name: str
    last: str
    stages: tuple[str, ...]


_RESNET = ("conv1", "layer1", "layer2", "layer3", "layer4", "avgpool")

# A stage is what works on maps of one size; `avgpool` and what stands behind it are stages too.
BACKBONES = {
    "alexnet": Backbone(
        "alexnet", "classifier.6", ("features.0", "features.3", "features.6", "avgpool", "classifier.1", "classifier.4")
    ),
    "resnet18": Backbone("resnet18", "fc", _RESNET),
    "resnet34": Backbone("resnet34", "fc", _RESNET),
    "resnet50": Backbone("resnet50", "fc", _RESNET),
    "mobilenet-v3": Backbone(
        "mobilenet_v3_large",
        "classifier.3",
        ("features.0", "features.2", "features.4", "features.7", "features.13", "avgpool", "classifier.0"),
    ),
    "efficientnet-b0": Backbone(
        "efficientnet_b0",
        "classifier.1",
        ("features.0", "features.2", "features.3", "features.4", "features.6", "avgpool"),
    ),
    "convnext-tiny": Backbone(
        "convnext_tiny", "classifier.2", ("features.0", "features.2", "features.4", "features.6", "avgpool")
    ),
}


class Resize(nn.Module):
    """Pictures enlarged, or made smaller, to side x side pixels, bilinear."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, side, side)."""
        return functional.interpolate(images, size=(self.side, self.side), mode="bilinear", align_corners=False)


class Transfer(nn.Module):
    """A backbone between a resize and a linear layer, the head. stages: see `Backbone`."""

    def __init__(
        self, backbone: nn.Module, stages: tuple[str, ...], side: int, features: int, dropout: float, num_classes: int
    ) -> None:
        super().__init__()
        self.stages = stages
        self.resize = Resize(side)
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, 48, 48) to logits (N, num_classes)."""
        return self.head(self.dropout(self.backbone(self.resize(images))))

    def freeze(self, frozen: bool) -> None:
        """Let the backbone stand still, its batch-norm statistics and random depth too, or let it learn as the head does."""
        for parameter in self.backbone.parameters():
            parameter.requires_grad_(not frozen)
        self.backbone.train(self.training and not frozen)

    def stage_of(self) -> dict[str, str]:
        """`{name of a module: its stage}`, from the picture to the logits."""
        found, stage, waiting = {"resize": "resize"}, "", list(self.stages)
        for name, _ in self.backbone.named_modules():
            if waiting and name == waiting[0]:
                stage = waiting.pop(0)
            if stage:
                found[f"backbone.{name}"] = stage
        return {**found, "dropout": "head", "head": "head"}

    def parameters_by_stage(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each stage that has some, the first stage first and the head last."""
        stage_of, found = self.stage_of(), {}
        for name, parameter in self.named_parameters():
            found.setdefault(stage_of[name.rpartition(".")[0]], []).append(parameter)
        return found


def transfer(config: ModelConfig, _in_channels: int, num_classes: int) -> Transfer:
    """torchvision's network of this name with random weights, its dropout layers as `model.dropout` says."""
    from torchvision.models import get_model

    plan = BACKBONES[config.name]
    backbone = get_model(plan.name, weights=None)
    for module in backbone.modules():
        if isinstance(module, nn.Dropout):
            module.p = config.dropout
    place, _, last = plan.last.rpartition(".")
    owner = backbone.get_submodule(place)
    features = owner.get_submodule(last).in_features
    setattr(owner, last, nn.Identity())
    if isinstance(owner, nn.Sequential) and len(owner) > 1 and isinstance(owner[-2], nn.Dropout):
        owner[-2] = nn.Identity()  # the head has its own
    return Transfer(backbone, plan.stages, config.input_side, features, config.dropout, num_classes)


def load_first_weights(model: nn.Module, config: ModelConfig, store: RunStore) -> None:
    """Give a fresh network the weights that its config names, if it names any. Raises CheckpointError, RunError."""
    path = first_weights(config, store)
    if path is None:
        return
    check_weights(config, store)
    if config.from_run:
        from fer.checkpoint import load_checkpoint  # which builds networks itself

        # In the layers' order: a dropout layer, which has no weights, counts in the names of those behind it.
        theirs = load_checkpoint(path).model.state_dict().values()
        load_weights(
            model, dict(zip(model.state_dict(), theirs, strict=False)), config.name, f"run '{config.from_run}'"
        )
    elif config.weights:
        load_weights(model, read_weights(path), config.name, path.name)
    else:
        load_weights(model, _fetch(config.name), config.name, "torchvision's file")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors` file, or of a state dict that torch saved; nothing in it is run. Raises CheckpointError."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on the first byte that it cannot make sense of
        raise CheckpointError(
            f"The weights file {path} is damaged, or holds more than weights. Save them with torch.save(model.state_dict(), ...) or as safetensors."
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]  # a training script's own checkpoint
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(
            f"The file {path} holds no state dict, {{name: tensor}}. Save it with torch.save(model.state_dict(), ...)."
        )
    return dict(content)


def load_weights(model: nn.Module, tensors: Mapping[str, torch.Tensor], network: str, source: str) -> None:
    """Put tensors into the network, under our names or, for a backbone, torchvision's; a last layer of another size is left out.

    Raises CheckpointError that names what does not fit.
    """
    wanted, given = model.state_dict(), dict(tensors)
    if isinstance(model, Transfer):
        given = {_our_name(name, BACKBONES[network].last): tensor for name, tensor in given.items()}
    head = f"{[*wanted][-1].rpartition('.')[0]}."
    given = {n: t for n, t in given.items() if not (n in wanted and n.startswith(head) and t.shape != wanted[n].shape)}
    wrong = [
        f"{n} is {_size(given[n])} there and {_size(t)} here"
        for n, t in wanted.items()
        if n in given and given[n].shape != t.shape
    ]
    missing = [n for n in wanted if n not in given and not n.startswith(head) and not n.endswith("tracked")]
    unknown = [n for n in given if n not in wanted]
    said = [
        f"{words}{', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"
        for words, names in (("", wrong), ("it lacks ", missing), ("it has besides ", unknown))
        if names
    ]
    if said:
        raise CheckpointError(f"The weights in {source} do not fit {network}: {'; '.join(said)}.")
    if odd := [n for n, t in given.items() if not torch.isfinite(t).all()]:
        raise CheckpointError(
            f"The weights in {source} hold values that are no finite numbers, in {odd[0]}{f' and {len(odd) - 1} more tensors' * (len(odd) > 1)}, "
            "as after a training that diverged. Set model.weights to another file, or begin from another run."
        )
    model.load_state_dict(given, strict=False)


def _our_name(name: str, last: str) -> str:
    if name.startswith(("backbone.", "head.")):
        return name
    return f"head{name.removeprefix(last)}" if name.startswith(f"{last}.") else f"backbone.{name}"


def _size(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _fetch(network: str) -> Mapping[str, torch.Tensor]:
    """The published weights, through torchvision's own loader, which keeps them in torch's cache. Raises CheckpointError."""
    from torchvision.models import get_model_weights

    published = get_model_weights(BACKBONES[network].name).DEFAULT
    try:
        return published.get_state_dict(progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # no network, no room, or not the file that was published
        if (path := kept_path(network)).exists():  # it is put there whole and checked, so it was changed since
            raise CheckpointError(
                f"torchvision's file {path} is damaged. Delete it, so that it is fetched anew, or set model.weights to another."
            ) from error
        raise not_fetched(network, getattr(error, "reason", None) or error) from error
