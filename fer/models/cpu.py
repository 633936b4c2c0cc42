"""The same functions of a picture, computed faster on a CPU: for networks that begin like the study's.

Two exact rewritings, held to the plain network by a test:
- Three equal channels are one: what normalises them goes into the first convolution's kernel and bias. Pixels stay whole
  numbers around zero, which bf16 holds exactly.
- Of the first convolution only the largest of each 2x2 window is kept. The four values of a window are four kernels on
  the same 6x6 pixels, so on 2x2 blocks of pixels they are channels of one convolution, and the pool is a maximum over
  channels. It is done for a few pictures at a time, so that the values before the pool never leave the caches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from fer.models.inputs import Preprocess

_CENTRE = 128  # pixels minus this are small whole numbers around zero
_CHUNK = 16  # pictures

_threshold_backward = torch.ops.aten.threshold_backward
_convolution_backward = torch.ops.aten.convolution_backward


def fast_forward(model: nn.Module, preprocess: Preprocess) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """A function from images (N, 48, 48) uint8 to the model's logits (N, num_classes); None where none is known for it.

    It uses the model's own parameters, so what is learned through it is learned by the model.
    """
    if not isinstance(model, nn.Sequential) or len(model) < 2:
        return None
    conv, pool = model[0], model[1]
    if not isinstance(conv, nn.Conv2d) or not isinstance(pool, nn.MaxPool2d):
        return None
    extent = conv.dilation[0] * (conv.kernel_size[0] - 1) + 1
    if conv.padding != (0, 0) or conv.stride != (1, 1) or extent % 2 == 0 or pool.kernel_size != 2:
        return None

    rest = model[2:]
    return lambda images: rest(_first_conv_and_pool(images, conv, preprocess))


def _first_conv_and_pool(images: torch.Tensor, conv: nn.Conv2d, preprocess: Preprocess) -> torch.Tensor:
    """`max_pool2d(conv(preprocess(images)), 2)`: (N, H, W) uint8 to (N, out_channels, h, w)."""
    kind = _kind(conv.weight)
    with torch.autocast("cpu", enabled=False):
        kernel, bias = _fold(conv, preprocess)
        out_channels, extent, _ = kernel.shape
        # the kernel at the four places of a window, (0, 0), (1, 0), (0, 1), (1, 1): each half's maximum, then theirs
        places = [functional.pad(kernel, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]
        side = (extent + 1) // 2
        blocks = torch.stack(places).view(4 * out_channels, side, 2, side, 2).permute(0, 2, 4, 1, 3)
        kernels = blocks.reshape(4 * out_channels, 4, side, side).contiguous(memory_format=torch.channels_last)
        n, height, width = images.shape
        centred = (images ^ _CENTRE).view(torch.int8)  # the pixel minus 128, as a signed byte
        pixels = (
            centred.view(n, height // 2, 2, width // 2, 2).permute(0, 1, 3, 2, 4).reshape(n, height // 2, width // 2, 4)
        )
        return _ConvMax.apply(pixels.to(kind).permute(0, 3, 1, 2), kernels.to(kind), bias.repeat(4).to(kind))


def _fold(conv: nn.Conv2d, preprocess: Preprocess) -> tuple[torch.Tensor, torch.Tensor]:
    """The kernel (out_channels, extent, extent) and bias (out_channels,) that do to centred pixels what `conv` does to channels."""
    weight = conv.weight
    out_channels, per_group, size, _ = weight.shape
    channel = torch.arange(out_channels)[:, None] // (out_channels // conv.groups) * per_group + torch.arange(per_group)
    mean, std = (torch.tensor(values, dtype=torch.float64)[channel] for values in (preprocess.mean, preprocess.std))
    scale = (1 / std).to(weight.dtype)[:, :, None, None]
    offset = ((_CENTRE / 255 - mean) / std).to(weight.dtype)[:, :, None, None]
    bias = (weight * offset).sum((1, 2, 3))
    if conv.bias is not None:
        bias = bias + conv.bias
    kernel = (weight * scale).sum(1) / 255
    step = conv.dilation[0]
    if step == 1:
        return kernel, bias
    spread = kernel.new_zeros(out_channels, step * (size - 1) + 1, step * (size - 1) + 1)
    spread[:, ::step, ::step] = kernel
    return spread, bias


class _ConvMax(torch.autograd.Function):
    """Convolution, then the maximum over four groups of its channels; the first of equals counts, as in max-pool."""

    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """pixels: (N, 4, H, W); kernels: (4 C, 4, s, s); bias: (4 C,). Returns (N, C, h, w)."""
        n, channels, side = len(pixels), len(kernels) // 4, kernels.shape[2]
        height, width = pixels.shape[2] - side + 1, pixels.shape[3] - side + 1
        out = torch.empty(n, channels, height, width, dtype=pixels.dtype, memory_format=torch.channels_last)
        rows = out.permute(0, 2, 3, 1)  # (N, h, w, C), the same memory
        ctx.differences = []
        for i in range(0, n, _CHUNK):
            values = functional.conv2d(pixels[i : i + _CHUNK], kernels, bias)
            a, b = values.permute(0, 2, 3, 1).reshape(-1, 2, 2 * channels).unbind(1)
            c, d = torch.maximum(a, b).view(-1, 2, channels).unbind(1)
            ctx.differences.append((b - a, d - c))
            torch.maximum(c, d, out=rows[i : i + _CHUNK].view(-1, channels))
        ctx.save_for_backward(pixels, kernels)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, torch.Tensor, torch.Tensor]:
        """The gradients of kernels and bias; pixels are data and have none."""
        pixels, kernels = ctx.saved_tensors
        gradient = gradients[0].permute(0, 2, 3, 1)
        _, height, width, channels = gradient.shape
        of_kernels = torch.zeros_like(kernels, dtype=torch.promote_types(kernels.dtype, torch.float32))
        of_bias = of_kernels.new_zeros(len(kernels))
        for i, (first, second) in zip(range(0, len(pixels), _CHUNK), ctx.differences, strict=True):
            chunk = gradient[i : i + _CHUNK].reshape(-1, channels)
            chunk = _to_larger(_to_larger(chunk, second).view(-1, 2 * channels), first)
            whole = chunk.view(-1, height, width, 4 * channels).permute(0, 3, 1, 2)
            shape = ([4 * channels], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, True, True])
            _, kernels_part, bias_part = _convolution_backward(whole, pixels[i : i + _CHUNK], kernels, *shape)
            of_kernels += kernels_part
            of_bias += bias_part
        return None, of_kernels, of_bias


def _to_larger(gradient: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """The gradient (M, C) of the larger of two values, given to the second where `difference` is above 0: (M, 2, C)."""
    both = gradient.new_empty(len(gradient), 2, gradient.shape[1])
    _threshold_backward.grad_input(gradient, difference, 0, grad_input=both[:, 1])
    torch.sub(gradient, both[:, 1], out=both[:, 0])
    return both


def _kind(weight: torch.Tensor) -> torch.dtype:
    """The type to compute in: autocast's where it is on, else the weight's own."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
