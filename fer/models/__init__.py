"""The networks and the table that names them.

Every network takes (N, C, 48, 48) float images, C = 3 or 1 by `model.channels`, and returns (N, num_classes) logits.
What each has in parameters and multiply-adds is counted, not written down: `fer.models.summary.networks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fer.config import ModelConfig, used
from fer.errors import ConfigError
from fer.models.compact import compact
from fer.models.families import residual, vgg
from fer.models.study import baseline, depthwise_conv, dilated_conv, grouped_conv
from fer.models.transfer import transfer

CHANNELS = {"rgb": 3, "grey": 1}


@dataclass(frozen=True)
class ModelEntry:
    """A row of the table: how to build it, `build(config, in_channels, num_classes)`, and what it is, in one line."""

    build: Callable[[ModelConfig, int, int], nn.Module]
    description: str
    channels: tuple[str, ...] = ("rgb", "grey")


MODELS: dict[str, ModelEntry] = {
    "baseline": ModelEntry(baseline, "The study's CNN: three 5x5 convolutions (32, 64, 128), three linear layers."),
    "grouped-conv": ModelEntry(grouped_conv, "The study's CNN in 3 groups with 33, 66 and 132 channels.", ("rgb",)),
    "depthwise-conv": ModelEntry(
        depthwise_conv, "The baseline with its second and third convolutions depthwise separable."
    ),
    "dilated-conv": ModelEntry(dilated_conv, "The baseline with 3x3 kernels spread over 5x5 pixels."),
    "compact": ModelEntry(
        compact, "Four 3x3 convolutions with batch norm on 24x24 pixels and fewer; learns in minutes."
    ),
    "residual": ModelEntry(residual, "Residual blocks of 3x3 convolutions on 24x24, 12x12 and 6x6 pixels."),
    "vgg": ModelEntry(vgg, "Plain 3x3 convolutions with batch norm on 24x24, 12x12 and 6x6 pixels."),
    "alexnet": ModelEntry(
        transfer, "torchvision's AlexNet: five convolutions, the first 11x11, and wide linear layers.", ("rgb",)
    ),
    "resnet18": ModelEntry(
        transfer, "torchvision's ResNet-18: residual blocks of two 3x3 convolutions, 17 in all.", ("rgb",)
    ),
    "resnet34": ModelEntry(
        transfer, "torchvision's ResNet-34: residual blocks of two 3x3 convolutions, 33 in all.", ("rgb",)
    ),
    "resnet50": ModelEntry(
        transfer, "torchvision's ResNet-50: residual blocks of a 1x1, a 3x3 and a 1x1 convolution, 49 in all.", ("rgb",)
    ),
    "mobilenet-v3": ModelEntry(
        transfer, "torchvision's MobileNetV3-Large: depthwise separable blocks for little computing.", ("rgb",)
    ),
    "efficientnet-b0": ModelEntry(
        transfer, "torchvision's EfficientNet-B0: depthwise separable blocks whose channels are weighed.", ("rgb",)
    ),
    "convnext-tiny": ModelEntry(
        transfer, "torchvision's ConvNeXt-Tiny: 7x7 depthwise convolutions with layer norm.", ("rgb",)
    ),
}


def build_model(config: ModelConfig, num_classes: int) -> nn.Module:
    """The network of this config with fresh weights from torch's global generator. Raises ConfigError."""
    entry = MODELS[config.name]
    if config.channels not in entry.channels:
        raise ConfigError(
            f"The network '{config.name}' cannot take model.channels={config.channels}. Allowed: {', '.join(entry.channels)}."
        )
    return entry.build(config, CHANNELS[config.channels], num_classes)


def describe(config: ModelConfig) -> str:
    """The network of this config in a line or two: the table's, and what the config changes of that."""
    values = {f"model.{key}": value for key, value in config}
    plain = ModelConfig(name=config.name)
    words = {
        "width": f"{config.width:g} times the channels and hidden units",
        "depth": f"{config.depth} {'blocks' if config.name == 'residual' else 'convolutions'} at each size",
        "hidden_layers": f"{config.hidden_layers or 'no'} hidden linear layer{'s' * (config.hidden_layers > 1)}",
        "batch_norm": "batch norm after each convolution",
        "channels": "grey pictures",
    }
    changed = [
        said
        for key, said in words.items()
        if getattr(config, key) != getattr(plain, key) and used(f"model.{key}", values)
    ]
    return MODELS[config.name].description + (f" Here with {', '.join(changed)}." if changed else "")


def num_params(model: nn.Module) -> int:
    """The number of trainable values."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def example_input(config: ModelConfig) -> torch.Tensor:
    """Zeros of the shape of one picture, (1, C, 48, 48)."""
    return torch.zeros(1, CHANNELS[config.channels], 48, 48)
