"""Named configs. Each holds only what differs from the baseline and says why.

The study's set-up is the default of every setting: batch 64, Adam at 0.001, 25 epochs, three equal channels with
ImageNet mean and std, no augmentation, no early stop.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fer.config import Config, differing, with_settings
from fer.errors import ConfigError


@dataclass(frozen=True)
class Recipe:
    """A named config: `changes` is what differs from the baseline, by dotted path; `summary` is one sentence."""

    name: str
    title: str
    summary: str
    doc: str
    changes: dict[str, Any]

    def config(self) -> Config:
        """The complete config, on the sample faces with seed 0."""
        return with_settings(Config(), self.changes)


RECIPES: dict[str, Recipe] = {}
STUDY = ("baseline", "step-decay", "exponential-decay", "grouped-conv")


def _recipe(title: str) -> Callable[[Callable[[], dict[str, Any]]], Callable[[], dict[str, Any]]]:
    def register(build: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        name = build.__name__.replace("_", "-")
        doc = inspect.getdoc(build) or ""
        RECIPES[name] = Recipe(name, title, doc.split("\n")[0], doc, build())
        return build

    return register


def get_recipe(name: str) -> Recipe:
    """The recipe of this name. Raises ConfigError that names the nearest one."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"There is no recipe '{name}'.{hint} Known recipes: {', '.join(RECIPES)}.")
    return RECIPES[name]


def changes_from(recipe: str, config: Config) -> dict[str, Any]:
    """What differs from the recipe, data set and seed included: `{dotted path: value}`. Raises ConfigError."""
    return dict(_changes(get_recipe(recipe).name, config))


@lru_cache(maxsize=20_000)  # tables of runs ask for each run at each refresh
def _changes(recipe: str, config: Config) -> tuple[tuple[str, Any], ...]:
    return tuple((path, new) for path, (_, new) in differing([RECIPES[recipe].config(), config]).items())


@_recipe("Baseline CNN")
def baseline() -> dict[str, Any]:
    """The study's network: three 5x5 convolutions and three linear layers, at a constant learning rate.

    python -m fer train --recipe baseline --dataset fer2013
    """
    return {}


@_recipe("Step decay")
def step_decay() -> dict[str, Any]:
    """The baseline with the learning rate halved every 5 epochs.

    python -m fer train --recipe step-decay --dataset fer2013
    """
    return {"schedule.name": "step", "schedule.step_size": 5, "schedule.gamma": 0.5}


@_recipe("Exponential decay")
def exponential_decay() -> dict[str, Any]:
    """The baseline with the learning rate multiplied by 0.9 after each epoch.

    python -m fer train --recipe exponential-decay --dataset fer2013
    """
    return {"schedule.name": "exponential", "schedule.gamma": 0.9}


@_recipe("Polynomial decay")
def polynomial_decay() -> dict[str, Any]:
    """The baseline with the learning rate falling in a straight line to zero; named by the study, not run there.

    python -m fer train --recipe polynomial-decay --dataset fer2013
    """
    return {"schedule.name": "polynomial", "schedule.power": 1.0}


@_recipe("Cosine decay")
def cosine() -> dict[str, Any]:
    """The baseline with the learning rate falling along half a cosine to zero (Loshchilov & Hutter, 2017).

    python -m fer train --recipe cosine --dataset fer2013
    """
    return {"schedule.name": "cosine"}


@_recipe("One-cycle")
def one_cycle() -> dict[str, Any]:
    """The baseline with the learning rate rising to 0.001 and falling far below its start (Smith & Topin, 2018).

    python -m fer train --recipe one-cycle --dataset fer2013
    """
    return {"schedule.name": "one-cycle"}


@_recipe("Reduce on plateau")
def plateau() -> dict[str, Any]:
    """The baseline with the learning rate halved whenever validation loss has not improved for more than 2 epochs.

    python -m fer train --recipe plateau --dataset fer2013
    """
    return {"schedule.name": "plateau", "schedule.factor": 0.5, "schedule.patience": 2}


@_recipe("Grouped convolution")
def grouped_conv() -> dict[str, Any]:
    """The study's second network: 3 groups in each convolution, 38 % fewer parameters.

    python -m fer train --recipe grouped-conv --dataset fer2013
    """
    return {"model.name": "grouped-conv"}


@_recipe("Depthwise separable convolution")
def depthwise_conv() -> dict[str, Any]:
    """The baseline's second and third convolutions split into a 5x5 for each channel and a 1x1 across channels (Howard et al., 2017).

    python -m fer train --recipe depthwise-conv --dataset fer2013
    """
    return {"model.name": "depthwise-conv"}


@_recipe("Dilated convolution")
def dilated_conv() -> dict[str, Any]:
    """The baseline's convolutions as 3x3 kernels spread over 5x5 pixels (Yu & Koltun, 2016).

    python -m fer train --recipe dilated-conv --dataset fer2013
    """
    return {"model.name": "dilated-conv"}


# The remedies for overfitting that the study names, each alone: what changes from the baseline is that and nothing else.


@_recipe("Augmentation: flip")
def augment_flip() -> dict[str, Any]:
    """The baseline with each training picture mirrored left to right half of the time.

    python -m fer train --recipe augment-flip --dataset fer2013
    """
    return {"augment.flip": True}


@_recipe("Augmentation: rotation")
def augment_rotate() -> dict[str, Any]:
    """The baseline with each training picture turned by up to 10 degrees.

    python -m fer train --recipe augment-rotate --dataset fer2013
    """
    return {"augment.rotate": 10.0}


@_recipe("Augmentation: shift and scale")
def augment_shift_scale() -> dict[str, Any]:
    """The baseline with each training picture moved by up to 4 pixels and scaled to 0.8 to 1.2 times.

    python -m fer train --recipe augment-shift-scale --dataset fer2013
    """
    return {"augment.shift": 4, "augment.scale": 0.2}


@_recipe("Augmentation: brightness and contrast")
def augment_light() -> dict[str, Any]:
    """The baseline with brightness and contrast of each training picture changed by up to 30 %.

    python -m fer train --recipe augment-light --dataset fer2013
    """
    return {"augment.light": 0.3}


@_recipe("Augmentation: erasing")
def augment_erase() -> dict[str, Any]:
    """The baseline with a rectangle of every second training picture turned into noise (Zhong et al., 2017).

    python -m fer train --recipe augment-erase --dataset fer2013
    """
    return {"augment.erase": 0.5}


@_recipe("Augmentation: mixup")
def mixup() -> dict[str, Any]:
    """The baseline on blends of two training pictures and their labels (Zhang et al., 2018).

    python -m fer train --recipe mixup --dataset fer2013
    """
    return {"augment.mixup": 0.2}


@_recipe("Augmentation, all but mixup")
def augment() -> dict[str, Any]:
    """The baseline with flips, rotation, shift and scale, brightness and contrast, and erasing together.

    python -m fer train --recipe augment --dataset fer2013
    """
    return {
        "augment.flip": True,
        "augment.shift": 3,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "augment.erase": 0.3,
    }


@_recipe("Dropout")
def dropout() -> dict[str, Any]:
    """The baseline with half of the values before each linear layer left out in a training step (Srivastava et al., 2014).

    python -m fer train --recipe dropout --dataset fer2013
    """
    return {"model.dropout": 0.5}


@_recipe("Batch norm")
def batch_norm() -> dict[str, Any]:
    """The baseline with batch norm after each convolution (Ioffe & Szegedy, 2015).

    python -m fer train --recipe batch-norm --dataset fer2013
    """
    return {"model.batch_norm": True}


@_recipe("Weight decay")
def weight_decay() -> dict[str, Any]:
    """The baseline with an L2 penalty of 0.0005 on the weights.

    python -m fer train --recipe weight-decay --dataset fer2013
    """
    return {"optim.weight_decay": 0.0005}


@_recipe("Label smoothing")
def label_smoothing() -> dict[str, Any]:
    """The baseline with a tenth of each label's weight given to all classes alike (Szegedy et al., 2016).

    python -m fer train --recipe label-smoothing --dataset fer2013
    """
    return {"train.label_smoothing": 0.1}


@_recipe("Early stopping")
def early_stopping() -> dict[str, Any]:
    """The baseline, ended after 5 epochs without a better validation top-1.

    python -m fer train --recipe early-stopping --dataset fer2013
    """
    return {"train.patience": 5}


@_recipe("Class balance: weighted loss")
def weighted_loss() -> dict[str, Any]:
    """The baseline with each picture weighed in the loss by how rare its class is.

    python -m fer train --recipe weighted-loss --dataset fer2013
    """
    return {"train.balance": "loss"}


@_recipe("Class balance: sampling")
def balanced_sampling() -> dict[str, Any]:
    """The baseline with every class shown about as often as the others.

    python -m fer train --recipe balanced-sampling --dataset fer2013
    """
    return {"train.balance": "sampling"}


@_recipe("Fewer layers")
def fewer_layers() -> dict[str, Any]:
    """The baseline with one linear layer instead of three.

    python -m fer train --recipe fewer-layers --dataset fer2013
    """
    return {"model.hidden_layers": 0}


@_recipe("Narrower network")
def narrow() -> dict[str, Any]:
    """The baseline with half as many channels and hidden units.

    python -m fer train --recipe narrow --dataset fer2013
    """
    return {"model.width": 0.5}


@_recipe("Averaged weights (EMA)")
def ema() -> dict[str, Any]:
    """The baseline judged by a running mean of its weights over about 1,000 steps.

    python -m fer train --recipe ema --dataset fer2013
    """
    return {"train.ema_decay": 0.999}


@_recipe("Gradient clipping")
def clipping() -> dict[str, Any]:
    """The baseline with gradients shortened to a norm of 1 where they are longer.

    python -m fer train --recipe clipping --dataset fer2013
    """
    return {"train.clip_norm": 1.0}


@_recipe("Warm-up")
def warm_up() -> dict[str, Any]:
    """The baseline with its learning rate rising over the first half epoch.

    python -m fer train --recipe warm-up --dataset fer2013
    """
    return {"schedule.warmup_epochs": 0.5}


@_recipe("Transfer learning: ResNet-18")
def transfer_resnet18() -> dict[str, Any]:
    """A ResNet-18 that knows ImageNet: one epoch for its new last layer alone, then all of it, at smaller rates towards the picture.

    python -m fer train --recipe transfer-resnet18 --dataset fer2013
    python -m fer train --recipe transfer-resnet18 --dataset fer2013 --set model.weights=resnet18-f37072fd.pth
    """
    return {
        "model.name": "resnet18",
        "model.pretrained": True,
        "augment.flip": True,
        "augment.shift": 3,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "optim.name": "adamw",
        "optim.lr": 0.001,
        "optim.weight_decay": 0.05,
        "optim.layer_decay": 0.7,
        "schedule.name": "cosine",
        "train.freeze_epochs": 1,
        "train.label_smoothing": 0.1,
        "train.epochs": 12,
    }


@_recipe("Fast")
def fast() -> dict[str, Any]:
    """Four epochs of a small network with batch norm, one grey channel and flips: past the study's best accuracy on FER2013 in a minute.

    python -m fer train --recipe fast --dataset fer2013
    """
    return {
        "model.name": "compact",
        "model.channels": "grey",
        "augment.flip": True,
        "optim.name": "adamw",
        "optim.lr": 0.01,
        "optim.weight_decay": 0.05,
        "schedule.name": "one-cycle",
        "schedule.pct_start": 0.2,
        "schedule.div_factor": 10.0,
        "schedule.final_div_factor": 1000.0,
        "train.batch_size": 128,
        "train.epochs": 4,
    }


@_recipe("Strong")
def strong() -> dict[str, Any]:
    """A residual network of 2.8 million parameters from scratch, with every augmentation but mixup, and SGD: the best recipe from scratch here.

    python -m fer train --recipe strong --dataset fer2013

    On FER2013, seed 0: val top-1 67.9 %, with ten views 69.2 % and macro F1 0.674; 84 s an epoch on 2 cores in bf16,
    70 minutes in all; the run that comes with the project took 107 beside other work.
    """
    return {
        "model.name": "residual",
        "model.channels": "grey",
        "model.dropout": 0.2,
        "augment.flip": True,
        "augment.shift": 4,
        "augment.crop": 40,
        "augment.rotate": 10.0,
        "augment.scale": 0.1,
        "augment.light": 0.2,
        "augment.erase": 0.2,
        "optim.name": "sgd",
        "optim.lr": 0.1,
        "optim.weight_decay": 0.0005,
        "schedule.name": "one-cycle",
        "schedule.pct_start": 0.225,
        "schedule.div_factor": 10.0,
        "schedule.final_div_factor": 1000.0,
        "train.batch_size": 128,
        "train.label_smoothing": 0.1,
        "train.epochs": 48,
    }
