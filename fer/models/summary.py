"""What a network is made of: the layer table with output shapes, parameters and multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fer.config import TRANSFER, ModelConfig
from fer.models import MODELS, build_model, describe, example_input, num_params
from fer.models.compact import Residual
from fer.models.families import ResidualBlock
from fer.models.inputs import seen_side
from fer.models.transfer import Resize, Transfer

_ADDS = ("BasicBlock", "Bottleneck", "CNBlock")  # torchvision's, whose output has their input added


def summarise(config: ModelConfig, num_classes: int = 7) -> dict[str, Any]:
    """The content of `model.json`: `name`, `description`, `input_shape`, `seen_side`, `num_params`, `multiply_adds` of one
    picture, `layers`.

    `seen_side`: how many rows and columns of the input reach the answer, see `inputs.seen_side`. A layer has `name`,
    `kind`, `detail`, `output_shape` without the batch, `num_params`, `multiply_adds`, and in torchvision's and in residual
    networks `stage`: layers that the eye takes as one. The weights are built without memory behind them, so that nothing
    is computed and the random state stays as it was.
    """
    with torch.device("meta"):
        model = build_model(config, num_classes)
        image = example_input(config)
    layers: list[dict[str, Any]] = []
    hooks = [m.register_forward_hook(_recorder(layers, name)) for name, m in model.named_modules() if _is_a_row(m)]
    with torch.no_grad():
        model.eval()(image)
    for hook in hooks:
        hook.remove()
    stage_of = model.stage_of() if isinstance(model, Transfer) else _blocks_by_size(model, layers)
    layers = [{**layer, "stage": stage_of[layer["name"]]} if layer["name"] in stage_of else layer for layer in layers]
    return {
        "name": config.name,
        "description": describe(config),
        "input_shape": list(image.shape[1:]),
        "seen_side": seen_side(model, image.shape[-1]),
        "num_params": num_params(model),
        "multiply_adds": sum(layer["multiply_adds"] for layer in layers),
        "layers": layers,
    }


def _blocks_by_size(model: nn.Module, layers: list[dict[str, Any]]) -> dict[str, str]:
    """`{layer: size of its maps}` of the layers in residual blocks."""
    blocks = tuple(name for name, module in model.named_modules() if isinstance(module, ResidualBlock))
    inside = [
        layer for layer in layers if layer["name"] in blocks or layer["name"].startswith(tuple(f"{b}." for b in blocks))
    ]
    return {layer["name"]: "x".join(map(str, layer["output_shape"][1:])) for layer in inside}


def networks() -> list[dict[str, Any]]:
    """The table of networks, each with its default settings: `summarise` without the layers, and `input` in words."""
    found = []
    for name, entry in MODELS.items():
        config = ModelConfig(name=name, channels=entry.channels[0])
        resized = f", enlarged to {config.input_side}x{config.input_side}" if name in TRANSFER else ""
        summary = {key: value for key, value in summarise(config).items() if key != "layers"}
        found.append({**summary, "input": f"48x48, {' or '.join(entry.channels)}{resized}"})
    return found


def _is_a_row(module: nn.Module) -> bool:
    """Whether a module stands in the layer table: one without parts, with parameters of its own, or that adds its input."""
    own = next(module.parameters(recurse=False), None) is not None
    return own or _adds_its_input(module) or not list(module.children())


def _adds_its_input(module: nn.Module) -> bool:
    return (
        isinstance(module, Residual | ResidualBlock)
        or type(module).__name__ in _ADDS
        or getattr(module, "use_res_connect", False)
    )


def _recorder(layers: list[dict[str, Any]], name: str):
    def record(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        layers.append(
            {
                "name": name,
                "kind": type(module).__name__,
                "detail": _detail(module),
                "output_shape": list(output.shape[1:]),
                "num_params": sum(p.numel() for p in module.parameters(recurse=False)),
                "multiply_adds": _multiply_adds(module, output),
            }
        )

    return record


def _multiply_adds(module: nn.Module, output: torch.Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * module.kernel_size[0] * module.kernel_size[1]
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0


def _detail(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        kernel = "x".join(str(k) for k in module.kernel_size)
        extras = [f"{module.groups} groups"] if module.groups > 1 else []
        extras += [f"dilation {module.dilation[0]}"] if module.dilation[0] > 1 else []
        return ", ".join([f"{kernel}, {module.in_channels} to {module.out_channels}", *extras])
    if isinstance(module, nn.Linear):
        return f"{module.in_features} to {module.out_features}"
    if isinstance(module, nn.PixelUnshuffle):
        side = module.downscale_factor
        return f"{side}x{side} pixels to {side**2} channels"
    if isinstance(module, Resize):
        return f"to {module.side}x{module.side} pixels"
    if _adds_its_input(module):
        return "plus its input"
    if isinstance(module, nn.MaxPool2d):
        return f"{module.kernel_size}x{module.kernel_size}"
    return ""
