"""Optimizers, and which parameters learn at which share of the rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fer.config import Config
from fer.models.transfer import Transfer

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # steepest at zero, so that five steps bring all singular values near 1
_STEPS = 5
_ADAMW_SIZE = 0.2  # root mean square of a usual update of AdamW


def build_optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of this config over all parameters; give each step's rate to it with `set_rate`."""
    o, groups, fused = config.optim, _groups(config, model), config.runtime.arithmetic == "fast"
    match o.name:
        case "sgd":
            nesterov = o.nesterov and o.momentum > 0
            return torch.optim.SGD(
                groups, o.lr, momentum=o.momentum, weight_decay=o.weight_decay, nesterov=nesterov, fused=fused
            )
        case "muon":
            return Muon(groups, hidden_kernels(model), o.lr, o.momentum, o.nesterov, o.weight_decay)
        case "adamw":
            return torch.optim.AdamW(groups, o.lr, weight_decay=o.weight_decay, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, o.lr, weight_decay=o.weight_decay, fused=fused)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let each group learn at its share of this rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)


def _groups(config: Config, model: nn.Module) -> list[dict[str, Any]]:
    """One group, or with layer decay one a stage, whose `share` of the rate falls towards the picture (Howard & Ruder, 2018)."""
    decay = config.optim.layer_decay
    if decay == 1 or not isinstance(model, Transfer):
        return [{"params": list(model.parameters())}]
    stages = list(model.parameters_by_stage().values())
    return [{"params": stage, "share": decay ** (len(stages) - 1 - i)} for i, stage in enumerate(stages)]


def hidden_kernels(model: nn.Module) -> list[nn.Parameter]:
    """The weights of ungrouped convolutions and of linear layers, without the first of all and the last."""
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [m.weight for m in layers[1:-1] if getattr(m, "groups", 1) == 1]


class Muon(torch.optim.AdamW):
    """Muon for some kernels, AdamW for all other parameters (Jordan et al., 2024).

    A kernel's update is its momentum with all singular values brought near 1, the kernel seen as a matrix with one row an
    output channel. It is scaled to the size of AdamW's updates, so that both take one rate and one weight decay (Liu et
    al., 2025). torch.optim.Muon does the same for matrices only, and takes no convolutions.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        kernels: Sequence[nn.Parameter],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
    ) -> None:
        chosen = {id(p) for p in kernels}
        parted = [
            {**group, "params": params, "kernels": is_kernel, "momentum": momentum, "nesterov": nesterov}
            for group in groups
            for is_kernel in (True, False)
            if (params := [p for p in group["params"] if (id(p) in chosen) == is_kernel])
        ]
        super().__init__(parted, lr, weight_decay=weight_decay)

    def __setstate__(self, state: dict[str, Any]) -> None:
        torch.optim.Optimizer.__setstate__(self, state)  # AdamW's own looks for its counter in every state

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step of all parameters that have a gradient; the kernels' gradients are spent by it."""
        for group in self.param_groups:
            for kernel in group["params"] if group["kernels"] else ():
                if kernel.grad is not None:
                    self._step_kernel(kernel, kernel.grad, group)
                    kernel.grad = None
        super().step()

    def _step_kernel(self, kernel: nn.Parameter, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state, momentum = self.state[kernel], group["momentum"]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        mean = state["momentum"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        update = orthogonalised(update.flatten(1))
        size = _ADAMW_SIZE * max(update.shape) ** 0.5
        kernel.mul_(1 - group["lr"] * group["weight_decay"])
        kernel.add_(update.view_as(kernel), alpha=-group["lr"] * size)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix (n, m) with the same singular vectors and singular values of about 0.7 to 1.2, by Newton-Schulz steps."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
