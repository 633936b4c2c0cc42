"""What a network looked at: where a face's pixels speak for a label, and which training faces are closest to it.

Two maps by captum, both of the label's probability: Grad-CAM (Selvaraju et al., 2017), coarse and quick, from the last
convolution's activations; and occlusion (Zeiler and Fergus, 2014), slower and closer to the truth, since each patch
really is covered. Neither says why a label is right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import LayerGradCam, Occlusion
from torch import nn
from torch.nn import functional

from fer.checkpoint import Checkpoint
from fer.evaluate import Scorer

METHODS = ("occlusion", "grad-cam")
_PATCH, _STEP = 10, 4  # pixels: what occlusion covers at a time, and how far it moves
_BATCH = 256


def explain(scorer: Scorer, crop: np.ndarray, label: int, method: str = "occlusion") -> np.ndarray:
    """How much each pixel speaks for a label: (48, 48) float32, 0 (nothing, or against it) to 1 (the most).

    crop: (48, 48) uint8; label: the class's number. An ensemble's map is the mean of its members'. All zero where nothing
    speaks for the label. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    work = _occlusion if method == "occlusion" else _grad_cam
    maps = [_scaled(work(checkpoint, crop, label)) for checkpoint in scorer.checkpoints]
    return _scaled(np.mean(maps, axis=0))


def covered(crop: np.ndarray, heat: np.ndarray, share: float = 0.2) -> np.ndarray:
    """The crop with the share of its pixels that `heat` ranks highest painted in the crop's mean; equal ones by chance."""
    order = np.lexsort((np.random.default_rng(0).random(heat.size), -heat.ravel()))
    changed = crop.copy().ravel()
    changed[order[: round(share * heat.size)]] = round(float(crop.mean()))
    return changed.reshape(crop.shape)


@dataclass(frozen=True)
class Neighbour:
    """A training face: its index in the data set, and how alike a network finds it, cosine, -1 to 1."""

    index: int
    similarity: float


class Neighbours:
    """The training faces as a network sees them, ready to be searched for the closest to a crop."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        images: np.ndarray,
        indices: np.ndarray,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """images: (N, 48, 48) uint8; indices: which of them to search. `progress` hears the share done, 0 to 1."""
        self._checkpoint, self._indices = checkpoint, indices
        parts = []
        for start in range(0, len(indices), _BATCH):
            parts.append(features(checkpoint, images[indices[start : start + _BATCH]]))
            if progress:
                progress(min(1.0, (start + _BATCH) / len(indices)))
        self._known = np.concatenate(parts)

    def closest(self, crop: np.ndarray, k: int = 6) -> list[Neighbour]:
        """The k training faces closest to a crop (48, 48) uint8, the closest first."""
        likeness = self._known @ features(self._checkpoint, crop[None])[0]
        best = np.argsort(-likeness, kind="stable")[:k]
        return [Neighbour(int(self._indices[i]), float(likeness[i])) for i in best]


@torch.inference_mode()
def features(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    """What reaches the last linear layer, each row of length 1: (N, width) float32 of (N, 48, 48) uint8."""
    seen: list[torch.Tensor] = []
    last = [m for m in checkpoint.model.modules() if isinstance(m, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    try:
        checkpoint.model.eval()(checkpoint.preprocess(torch.from_numpy(np.ascontiguousarray(images))))
    finally:
        handle.remove()
    return functional.normalize(seen[0].flatten(1).float(), dim=1).numpy()


def _grad_cam(checkpoint: Checkpoint, crop: np.ndarray, label: int) -> np.ndarray:
    model, inputs = checkpoint.model.eval(), _inputs(checkpoint, crop)
    with torch.enable_grad():
        cam = LayerGradCam(model, _last_convolution(model, inputs)).attribute(inputs.requires_grad_(), target=label)
    heat = functional.interpolate(cam.detach().float(), size=crop.shape, mode="bilinear", align_corners=False)
    return heat[0, 0].numpy()


def _occlusion(checkpoint: Checkpoint, crop: np.ndarray, label: int) -> np.ndarray:
    model, inputs = checkpoint.model.eval(), _inputs(checkpoint, crop)
    channels = inputs.shape[1]
    grey = inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)  # covered with the crop's own mean
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # patches at the border are smaller, and it says so each time
        heat = Occlusion(lambda x: model(x).softmax(dim=1)).attribute(
            inputs,
            sliding_window_shapes=(channels, _PATCH, _PATCH),
            strides=(channels, _STEP, _STEP),
            baselines=grey,
            target=label,
            perturbations_per_eval=64,
        )
    return heat[0].mean(dim=0).float().numpy()


def _inputs(checkpoint: Checkpoint, crop: np.ndarray) -> torch.Tensor:
    if crop.dtype != np.uint8 or crop.shape != (48, 48):
        raise ValueError(f"expected (48, 48) uint8, got {crop.shape} {crop.dtype}")
    return checkpoint.preprocess(torch.from_numpy(crop.copy())[None]).contiguous()


def _last_convolution(model: nn.Module, inputs: torch.Tensor) -> nn.Module:
    """The last convolution that the inputs pass, or the widest block that ends with it and keeps its map's size."""
    passed: list[tuple[nn.Module, tuple[int, ...]]] = []
    handles = [
        m.register_forward_hook(lambda module, _in, out: passed.append((module, tuple(out.shape))))
        for m in model.modules()
    ]
    try:
        with torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    place = max(i for i, (module, _shape) in enumerate(passed) if isinstance(module, nn.Conv2d))
    conv, shape = passed[place]
    around = [m for m, s in passed[place:] if len(s) == 4 and s[2:] == shape[2:] and conv in set(m.modules())]
    return around[-1]


def _scaled(heat: np.ndarray) -> np.ndarray:
    positive = np.maximum(heat, 0).astype(np.float32)
    top = positive.max()
    return positive / top if top > 0 else positive
