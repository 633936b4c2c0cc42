"""What a network is made of: the layer table with output shapes, parameters and multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from fer.config import ModelConfig
from fer.models import build_model, example_input, num_params
from fer.models.compact import Residual
from fer.models.families import ResidualBlock


def summarise(config: ModelConfig, num_classes: int = 7) -> dict[str, Any]:
    """The content of `model.json`: `name`, `input_shape`, `num_params`, `multiply_adds` of one picture, `layers`.

    A layer has `name`, `kind`, `detail`, `output_shape` without the batch, `num_params`, `multiply_adds`. The weights
    are built without memory behind them, so that nothing is computed and the random state stays as it was.
    """
    with torch.device("meta"):
        model = build_model(config, num_classes)
        image = example_input(config)
    layers: list[dict[str, Any]] = []
    hooks = [
        m.register_forward_hook(_recorder(layers, name))
        for name, m in model.named_modules()
        if isinstance(m, Residual | ResidualBlock) or not list(m.children())
    ]
    with torch.no_grad():
        model.eval()(image)
    for hook in hooks:
        hook.remove()
    return {
        "name": config.name,
        "input_shape": list(image.shape[1:]),
        "num_params": num_params(model),
        "multiply_adds": sum(layer["multiply_adds"] for layer in layers),
        "layers": layers,
    }


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
        return module.in_features * module.out_features
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
    if isinstance(module, Residual | ResidualBlock):
        return "plus its input"
    if isinstance(module, nn.MaxPool2d):
        return f"{module.kernel_size}x{module.kernel_size}"
    return ""
