"""What a network looked at: where a face's pixels speak for a label, and which training faces are closest to it.

Three maps by captum, all of the label's probability. Occlusion (Zeiler and Fergus, 2014) covers one patch after the other
and watches the probability fall. Integrated gradients (Sundararajan et al., 2017) let the crop emerge from its mean grey
and add up what each pixel's change does on the way. LayerCAM (Jiang et al., 2021) reads the activations of the layers, each
place weighted by its own gradient; Grad-CAM, from which it comes, weights all places of a channel alike, which says nothing
of networks that end in a layer with weights of its own for each place, as the study's do. `benchmarks/explanations.py` holds each
against covering at random. None says why a label is right.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerGradientXActivation, Occlusion
from torch import nn
from torch.nn import functional

from fer.checkpoint import Checkpoint
from fer.evaluate import Scorer

_PATCH, _STEP = 10, 4  # pixels: what occlusion covers at a time, and how far it moves
_STEPS = 24  # between grey and the crop, for integrated gradients
_BLUR = 1.0  # pixels, standard deviation: single pixels of integrated gradients are noise to the eye
_BATCH = 256


def explain(scorer: Scorer, crop: np.ndarray, label: int, method: str = "occlusion") -> np.ndarray:
    """How much each pixel speaks for a label: (48, 48) float32, 0 (nothing, or against it) to 1 (the most).

    crop: (48, 48) uint8; label: the class's number. An ensemble's map is the mean of its members'. All zero where nothing
    speaks for the label. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    maps = [_scaled(METHODS[method](checkpoint, crop, label)) for checkpoint in scorer.checkpoints]
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
        *,
        begun: list[np.ndarray] | None = None,
    ) -> None:
        """images: (N, 48, 48) uint8; indices: which of them to search. `progress` hears the share done, 0 to 1, and may stop
        the work by raising; `begun` holds what is done, and with the same list of the same network it is gone on with."""
        self._checkpoint, self._indices = checkpoint, indices
        parts = [] if begun is None else begun
        for start in range(_BATCH * len(parts), len(indices), _BATCH):
            parts.append(features(checkpoint, images[indices[start : start + _BATCH]]))
            if progress:
                progress(min(1.0, (start + _BATCH) / len(indices)))
        self._known = np.concatenate(parts)
        if len(self._known) != len(indices):
            raise RuntimeError(f"expected a row for each of {len(indices)} pictures, got {len(self._known)}")

    def closest(self, crop: np.ndarray, k: int = 6) -> list[Neighbour]:
        """The k training faces closest to a crop (48, 48) uint8, the closest first."""
        likeness = self._known @ features(self._checkpoint, crop[None])[0]
        best = np.argsort(-likeness, kind="stable")[:k]
        return [Neighbour(int(self._indices[i]), float(likeness[i])) for i in best]


@torch.inference_mode()
def features(checkpoint: Checkpoint, images: np.ndarray) -> np.ndarray:
    """What reaches the last linear layer, each row of length 1: (N, width) float32 of (N, 48, 48) uint8.

    The network may be asked by other threads meanwhile: a hook hears them all, and only what this thread put in is taken.
    """
    seen: list[torch.Tensor] = []
    mine = threading.get_ident()

    def hear(_module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if threading.get_ident() == mine:
            seen.append(inputs[0])

    last = [m for m in checkpoint.model.modules() if isinstance(m, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(hear)
    try:
        checkpoint.model.eval()(checkpoint.preprocess(torch.from_numpy(np.ascontiguousarray(images))))
    finally:
        handle.remove()
    return functional.normalize(seen[0].flatten(1).float(), dim=1).numpy()


def _layer_cam(checkpoint: Checkpoint, crop: np.ndarray, label: int) -> np.ndarray:
    # A copy, since captum's hooks would hear other threads that ask the network meanwhile.
    model, inputs = copy.deepcopy(checkpoint.model).eval(), _inputs(checkpoint, crop)
    with torch.enable_grad():
        cam = LayerGradientXActivation(lambda x: model(x).log_softmax(dim=1), _layers(model, inputs))
        parts = cam.attribute(inputs, target=label)
    heats = []
    for part in parts:
        places = part.detach().float().clamp(min=0).sum(dim=1, keepdim=True)
        heat = functional.interpolate(places, size=crop.shape, mode="bilinear", align_corners=False)
        heats.append(_scaled(heat[0, 0].numpy()))
    return np.mean(heats, axis=0)


def _integrated_gradients(checkpoint: Checkpoint, crop: np.ndarray, label: int) -> np.ndarray:
    model, inputs = checkpoint.model.eval(), _inputs(checkpoint, crop)
    with torch.enable_grad():
        heat = IntegratedGradients(lambda x: model(x).softmax(dim=1)).attribute(
            inputs, baselines=_grey(inputs), target=label, n_steps=_STEPS, method="riemann_middle"
        )
    return cv2.GaussianBlur(heat[0].detach().sum(dim=0).float().numpy(), (0, 0), _BLUR)


def _occlusion(checkpoint: Checkpoint, crop: np.ndarray, label: int) -> np.ndarray:
    model, inputs = checkpoint.model.eval(), _inputs(checkpoint, crop)
    channels = inputs.shape[1]
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # patches at the border are smaller, and it says so each time
        heat = Occlusion(lambda x: model(x).softmax(dim=1)).attribute(
            inputs,
            sliding_window_shapes=(channels, _PATCH, _PATCH),
            strides=(channels, _STEP, _STEP),
            baselines=_grey(inputs),
            target=label,
            perturbations_per_eval=64,
        )
    return heat[0].mean(dim=0).float().numpy()


def _inputs(checkpoint: Checkpoint, crop: np.ndarray) -> torch.Tensor:
    if crop.dtype != np.uint8 or crop.shape != (48, 48):
        raise ValueError(f"expected (48, 48) uint8, got {crop.shape} {crop.dtype}")
    return checkpoint.preprocess(torch.from_numpy(crop.copy())[None]).contiguous()


def _grey(inputs: torch.Tensor) -> torch.Tensor:
    """The crop's own mean everywhere: what covering puts in a pixel's place."""
    return inputs.mean(dim=(2, 3), keepdim=True).expand_as(inputs)


def _layers(model: nn.Module, inputs: torch.Tensor) -> list[nn.Module]:
    """The last module that puts out maps of each size, from 4 pixels on.

    A face's maps are square; what is not holds its channels last, (N, H, W, C), as inside of ConvNeXt's blocks.
    """
    last: dict[int, nn.Module] = {}

    def seen(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        if output.ndim == 4 and output.shape[2] == output.shape[3] >= 4:
            last[output.shape[3]] = module

    handles = [m.register_forward_hook(seen) for m in model.modules()]
    try:
        with torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(last.values())


def _scaled(heat: np.ndarray) -> np.ndarray:
    positive = np.maximum(heat, 0).astype(np.float32)
    top = positive.max()
    return positive / top if top > 0 else positive


METHODS = {"occlusion": _occlusion, "integrated-gradients": _integrated_gradients, "layer-cam": _layer_cam}
