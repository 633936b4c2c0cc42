"""The settings of a run: types, bounds and help texts, stated once.

The command line, the Train form and the documentation all read the same fields; a value from any of them passes the
same check. A setting is named by its dotted path, such as `optim.lr`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fer.errors import ConfigError


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class DataConfig(Section):
    name: str = Field(
        "sample", description="The prepared data set to train on.", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$"
    )
    val_fraction: float | None = Field(
        None,
        gt=0,
        le=0.5,
        description="Share of train, by class, held out for validation instead of the data set's own val split. None: use the data set's own.",
    )


# The study's networks: with hidden linear layers, and without batch norm unless it is asked for
STUDY_NETWORKS = ("baseline", "grouped-conv", "depthwise-conv", "dilated-conv")
# torchvision's networks, for transfer learning
TRANSFER = ("alexnet", "resnet18", "resnet34", "resnet50", "mobilenet-v3", "efficientnet-b0", "convnext-tiny")


class ModelConfig(Section):
    name: Literal[
        "baseline",
        "grouped-conv",
        "depthwise-conv",
        "dilated-conv",
        "compact",
        "residual",
        "vgg",
        "alexnet",
        "resnet18",
        "resnet34",
        "resnet50",
        "mobilenet-v3",
        "efficientnet-b0",
        "convnext-tiny",
    ] = Field("baseline", description="The network.")
    channels: Literal["rgb", "grey"] = Field(
        "rgb",
        description="rgb: the grey picture three times with ImageNet mean and std, as in the study. grey: one channel.",
    )
    width: float = Field(
        1.0,
        ge=0.1,
        le=4,
        description="The network's channels and hidden units are multiplied by this; below 1: narrower.",
    )
    depth: int = Field(
        2, ge=1, le=6, description="residual: blocks at each of its three sizes; vgg: convolutions at each."
    )
    hidden_layers: int = Field(
        2, ge=0, le=2, description="Linear layers before the last one. Only the study's networks take them."
    )
    batch_norm: bool = Field(
        False,
        description="Batch norm after each convolution (Ioffe & Szegedy, 2015). Only the study's networks take it; the others have theirs anyway.",
    )
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the values before each linear layer that a training step leaves out (Srivastava et al., 2014).",
    )
    input_side: int = Field(
        96,
        ge=48,
        le=384,
        description="torchvision's networks: the picture is enlarged to so many pixels each way. They were trained on 224; the time of a step grows with the square.",
    )
    pretrained: bool = Field(
        False,
        description="torchvision's networks: begin from the ImageNet weights that torchvision publishes, fetched once from the internet.",
    )
    weights: str | None = Field(
        None,
        description="torchvision's networks: begin from this .pth or .safetensors file, whatever model.pretrained says. A last layer of another size is left out. None: no file.",
    )
    from_run: str | None = Field(
        None,
        description="Begin from the best weights of this run, whose network must be the same: to train on with another rate, or on other pictures. A last layer of another size is left out. None: from no run.",
    )

    @field_validator("from_run")
    @classmethod
    def _no_empty_id(cls, value: str | None) -> str | None:
        return (value or "").strip() or None

    @field_validator("weights")
    @classmethod
    def _whole_path(cls, value: str | None) -> str | None:
        if not value or not value.strip():
            return None
        if PureWindowsPath(value).is_absolute():  # of another machine perhaps, whose run is looked at here
            return value
        return str(Path(os.path.expanduser(value.strip())).absolute())  # an unknown ~user stays as it is

    @model_validator(mode="after")
    def _torchvisions_networks_and_no_others(self) -> ModelConfig:
        if self.name in TRANSFER and self.channels == "grey":
            raise ValueError(f"{self.name} was made for colours and cannot take model.channels=grey: set it to rgb")
        if self.name == "alexnet" and self.input_side < 64:
            raise ValueError(f"alexnet cannot take model.input_side={self.input_side}: set it to 64 or more")
        if self.name not in TRANSFER and (self.pretrained or self.weights):
            raise ValueError(
                f"There are no weights for {self.name} to begin from: set model.pretrained=false and model.weights=none, or model.name to one of {', '.join(TRANSFER)}"
            )
        if self.from_run and (self.pretrained or self.weights):
            raise ValueError(
                f"model.from_run is {self.from_run}, so there is nothing else to begin from: set model.pretrained=false and model.weights=none, or model.from_run=none"
            )
        return self

    @property
    def begins_trained(self) -> bool:
        """Whether its first weights are not random ones."""
        return self.pretrained or self.weights is not None or self.from_run is not None

    @model_validator(mode="after")
    def _three_groups_need_three_channels(self) -> ModelConfig:
        if self.name == "grouped-conv" and self.channels == "grey":
            raise ValueError("grouped-conv has 3 groups and cannot take model.channels=grey: set it to rgb")
        return self


TAKES_CROPS = ("residual", "vgg")  # networks for pictures of any even size


class AugmentConfig(Section):
    """What is done to each training picture anew in each epoch; validation pictures stay as they are."""

    flip: bool = Field(False, description="Mirror each training picture left to right, half of the time.")
    shift: int = Field(
        0,
        ge=0,
        le=16,
        description="Move each training picture by up to so many pixels up or down and to a side; its edge is repeated.",
    )
    crop: int | None = Field(
        None,
        ge=24,
        le=48,
        description="Train on the middle of each picture, so many pixels wide and high, an even number: less to compute, and with shift a random window. Only residual and vgg take it. None: the whole picture.",
    )
    rotate: float = Field(0.0, ge=0, le=45, description="Turn each training picture by up to so many degrees.")
    scale: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="Enlarge or shrink each training picture by up to this share; 0.2: 0.8 to 1.2 times.",
    )
    light: float = Field(
        0.0,
        ge=0,
        le=0.8,
        description="Change brightness and contrast of each training picture by up to this share, each by itself.",
    )
    erase: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a rectangle of a training picture, 2 to 20 % of it, becomes noise (Zhong et al., 2017).",
    )
    mixup: float = Field(
        0.0,
        ge=0,
        le=8,
        description="Alpha of mixup: two training pictures and their labels are blended by a share drawn from Beta(alpha, alpha) (Zhang et al., 2018). 0: off.",
    )


class OptimConfig(Section):
    name: Literal["adam", "adamw", "sgd", "muon"] = Field(
        "adam",
        description="The optimizer. muon: Muon for the kernels of hidden layers, AdamW for the rest (Jordan et al., 2024); it takes AdamW's rates.",
    )
    lr: float = Field(0.001, gt=0, le=10, description="Learning rate before any schedule.")
    weight_decay: float = Field(0.0, ge=0, le=1, description="L2 penalty (Adam, SGD) or decoupled decay (AdamW, Muon).")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD and Muon; the others do not use it.")
    nesterov: bool = Field(True, description="Nesterov's form of momentum in SGD and Muon; the others do not use it.")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="torchvision's networks: each stage learns at the next one's rate times this, the last layer at the whole rate (Howard & Ruder, 2018). 1: all alike.",
    )

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> OptimConfig:
        if self.name == "sgd" and self.nesterov and self.momentum == 0:
            raise ValueError("Nesterov needs a momentum above 0: set optim.momentum, or optim.nesterov=false")
        return self


class ScheduleConfig(Section):
    name: Literal["constant", "step", "exponential", "polynomial", "cosine", "one-cycle", "plateau"] = Field(
        "constant", description="How the learning rate changes over the run."
    )
    step_size: int = Field(5, ge=1, le=10_000, description="Step: epochs between two cuts.")
    gamma: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Step, exponential: the rate is multiplied by this at each cut (exponential: each epoch).",
    )
    power: float = Field(1.0, gt=0, le=10, description="Polynomial: the power; 1 is a straight line to zero.")
    final_fraction: float = Field(
        0.0, ge=0, lt=1, description="Polynomial, cosine: the last rate as a share of the first."
    )
    pct_start: float = Field(0.3, gt=0, lt=1, description="One-cycle: share of the run in which the rate rises.")
    div_factor: float = Field(
        25.0, ge=1, le=1e6, description="One-cycle: the rate begins at optim.lr divided by this; optim.lr is the peak."
    )
    final_div_factor: float = Field(
        1e4, ge=1, le=1e9, description="One-cycle: the rate ends at its beginning divided by this."
    )
    factor: float = Field(
        0.5, gt=0, lt=1, description="Plateau: the rate is multiplied by this when validation loss stalls."
    )
    patience: int = Field(
        2, ge=0, le=1000, description="Plateau: epochs without improvement that are tolerated before a cut."
    )
    warmup_epochs: float = Field(
        0.0, ge=0, le=1000, description="Epochs in which the rate first rises in a straight line to optim.lr."
    )


class TrainConfig(Section):
    epochs: int = Field(25, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(64, ge=1, le=65_536, description="Pictures in one optimizer step.")
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each label's weight that goes to all classes alike (Szegedy et al., 2016). Losses shown are without it.",
    )
    balance: Literal["none", "loss", "sampling"] = Field(
        "none",
        description="For rare classes: loss weighs each picture by how rare its class is; sampling shows rare classes as often as others. Losses shown are without weights.",
    )
    clip_norm: float | None = Field(
        None, gt=0, le=1e6, description="Longer gradients are shortened to this norm. None: they stay as they are."
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Validate and keep a running mean of the weights instead of the weights: at each step, this share of the mean stays. None: the weights themselves.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Early stopping: end after so many epochs in a row without a better validation top-1; the best weights are kept. None: train all epochs.",
    )
    freeze_epochs: int = Field(
        0,
        ge=0,
        le=10_000,
        description="torchvision's networks: in so many epochs at first only the last layer learns; the backbone and its batch-norm statistics stand still.",
    )


class RuntimeConfig(Section):
    """What only says where and how a run is computed; it does not make two runs different experiments."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes a GPU where there is one.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of the training passes; auto takes bf16 where the processor or GPU is quicker with it, and fp16 on other GPUs of NVIDIA. Validation is always fp32.",
    )
    arithmetic: Literal["fast", "plain"] = Field(
        "fast",
        description="plain: the operations of PyTorch's own layers and optimizers in their own order, so that in fp32 a run gives the losses of a loop written by hand, digit for digit; slower. fast: the same functions, rounded in other places.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads. None: one for each physical core, shared out among the runs that may train at a time.",
    )


class Config(Section):
    """All settings of one run."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Decides the first weights, the order of the pictures and how they are augmented.",
    )

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_crop_needs_a_network_that_takes_it(self) -> Config:
        crop = self.augment.crop
        if crop is not None and self.model.name not in TAKES_CROPS:
            raise ValueError(
                f"augment.crop is {crop}, but {self.model.name} takes whole pictures only: set augment.crop to none, or model.name to one of {', '.join(TAKES_CROPS)}"
            )
        if crop is not None and crop % 2:
            raise ValueError(f"augment.crop is {crop}; it must be an even number from 24 to 48, or none")
        return self

    @model_validator(mode="after")
    def _warmup_is_shorter_than_the_run(self) -> Config:
        if self.schedule.warmup_epochs >= self.train.epochs and self.schedule.warmup_epochs > 0:
            raise ValueError(
                f"schedule.warmup_epochs is {self.schedule.warmup_epochs:g}, but the run has {self.train.epochs} epochs: the warm-up must end before the run does"
            )
        return self

    @model_validator(mode="after")
    def _what_only_a_backbone_has(self) -> Config:
        name, freeze, decay = self.model.name, self.train.freeze_epochs, self.optim.layer_decay
        if name not in TRANSFER and (freeze or decay != 1):
            raise ValueError(
                f"train.freeze_epochs is {freeze} and optim.layer_decay is {decay:g}, but {name} has no backbone: set them to 0 and 1, or model.name to one of {', '.join(TRANSFER)}"
            )
        if freeze and not self.model.begins_trained:
            raise ValueError(
                f"train.freeze_epochs is {freeze}, but {name} begins at random and would stay so: set it to 0, or set model.pretrained, model.weights or model.from_run"
            )
        return self

    @property
    def frozen_epochs(self) -> int:
        """In how many of its epochs, the first ones, only the last layer learns."""
        return min(self.train.freeze_epochs, self.train.epochs)

    @property
    def experiment(self) -> str:
        """12 hexadecimal digits shared by runs that differ in seed and `runtime` only."""
        content = self.model_dump(mode="json", exclude={"seed", "runtime"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Setting:
    """One field of the config, as a form or a table shows it. `choices` is empty where any value of `kind` fits."""

    path: str
    kind: type
    optional: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False

    @property
    def bounds(self) -> str:
        """'greater than 0, at most 10', or the choices, or '' where anything fits."""
        if self.choices:
            return ", ".join(self.choices)
        parts = []
        if self.minimum is not None:
            parts.append(f"{'greater than' if self.exclusive_minimum else 'at least'} {self.minimum:g}")
        if self.maximum is not None:
            parts.append(f"{'below' if self.exclusive_maximum else 'at most'} {self.maximum:g}")
        return ", ".join(parts)


def _setting(path: str, field: Any) -> Setting:
    kind, optional, choices = field.annotation, False, ()
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind, optional = next(a for a in typing.get_args(kind) if a is not type(None)), True
    if typing.get_origin(kind) is Literal:
        kind, choices = str, typing.get_args(kind)
    low = high = None
    open_low = open_high = False
    for bound in field.metadata:
        if getattr(bound, "ge", None) is not None:
            low = bound.ge
        if getattr(bound, "gt", None) is not None:
            low, open_low = bound.gt, True
        if getattr(bound, "le", None) is not None:
            high = bound.le
        if getattr(bound, "lt", None) is not None:
            high, open_high = bound.lt, True
    return Setting(
        path, kind, optional, field.default, field.description or "", choices, low, high, open_low, open_high
    )


def _all_settings() -> dict[str, Setting]:
    found = {}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            for inner, inner_field in field.annotation.model_fields.items():
                found[f"{name}.{inner}"] = _setting(f"{name}.{inner}", inner_field)
        else:
            found[name] = _setting(name, field)
    return found


SETTINGS: dict[str, Setting] = _all_settings()
# A setting here means something only where the other one has one of these values.
USED_WITH = {
    "schedule.step_size": ("schedule.name", ("step",)),
    "schedule.gamma": ("schedule.name", ("step", "exponential")),
    "schedule.power": ("schedule.name", ("polynomial",)),
    "schedule.final_fraction": ("schedule.name", ("polynomial", "cosine")),
    "schedule.pct_start": ("schedule.name", ("one-cycle",)),
    "schedule.div_factor": ("schedule.name", ("one-cycle",)),
    "schedule.final_div_factor": ("schedule.name", ("one-cycle",)),
    "schedule.factor": ("schedule.name", ("plateau",)),
    "schedule.patience": ("schedule.name", ("plateau",)),
    "optim.momentum": ("optim.name", ("sgd", "muon")),
    "optim.nesterov": ("optim.name", ("sgd", "muon")),
    "optim.layer_decay": ("model.name", TRANSFER),
    "model.hidden_layers": ("model.name", STUDY_NETWORKS),
    "model.batch_norm": ("model.name", STUDY_NETWORKS),
    "model.width": ("model.name", tuple(n for n in SETTINGS["model.name"].choices if n not in TRANSFER)),
    "model.input_side": ("model.name", TRANSFER),
    "model.pretrained": ("model.name", TRANSFER),
    "model.weights": ("model.name", TRANSFER),
    "train.freeze_epochs": ("model.name", TRANSFER),
    "model.depth": ("model.name", ("residual", "vgg")),
    "augment.crop": ("model.name", TAKES_CROPS),
}


def used(path: str, values: Mapping[str, Any]) -> bool:
    """Whether the setting has a meaning beside these values."""
    other, wanted = USED_WITH.get(path, ("", ()))
    return not other or values[other] in wanted


def unused(path: str, values: Mapping[str, Any]) -> str:
    """Why the setting has no meaning beside these values, in a sentence; '' where it has."""
    if used(path, values):
        return ""
    other, wanted = USED_WITH[path]
    return f"{path} changes nothing while {other} is {values[other]}; it is for {', '.join(wanted)}."


def flatten(config: Config) -> dict[str, Any]:
    """`{dotted path: value}` of every setting."""
    content = config.model_dump(mode="json")
    return {path: _look_up(content, path) for path in SETTINGS}


def read_config(content: Mapping[str, Any]) -> Config:
    """A config from nested mappings. Raises ConfigError that names the setting, the value and what is allowed."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(" ".join(_explain(e, content) for e in error.errors()[:3])) from None


def with_settings(config: Config, changes: Mapping[str, Any]) -> Config:
    """The config with some settings changed, by dotted path. Raises ConfigError."""
    content = config.model_dump(mode="json")
    for path, value in changes.items():
        if path not in SETTINGS:
            raise ConfigError(_unknown(path))
        *sections, last = path.split(".")
        target = content
        for section in sections:
            target = target[section]
        target[last] = value
    changed = read_config(content)
    _refuse_ignored(changed.model)
    return changed


def _refuse_ignored(model: ModelConfig) -> None:
    """Raises ConfigError for what the network would ignore. Not for a run that is read: one with such settings stays usable."""
    if model.name not in STUDY_NETWORKS and (model.hidden_layers != 2 or model.batch_norm):
        raise ConfigError(
            f"model.hidden_layers is {model.hidden_layers} and model.batch_norm is {str(model.batch_norm).lower()}, but {model.name} takes neither: set them to 2 and false, or model.name to one of {', '.join(STUDY_NETWORKS)}."
        )


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["optim.lr=0.0005"]` to `{"optim.lr": "0.0005"}`; the word none stands for None. Raises ConfigError."""
    changes: dict[str, Any] = {}
    for text in assignments:
        path, equals, value = text.partition("=")
        path, value = path.strip(), value.strip()
        if not equals:
            raise ConfigError(f"'{text}' sets nothing. Write it as PATH=VALUE, such as optim.lr=0.0005.")
        if path not in SETTINGS:
            raise ConfigError(_unknown(path))
        changes[path] = None if value.lower() == "none" and SETTINGS[path].optional else value
    return changes


def differing(configs: Iterable[Config]) -> dict[str, list[Any]]:
    """The settings in which these configs differ: `{dotted path: one value a config}`, in the order of `SETTINGS`."""
    flat = [flatten(c) for c in configs]
    return {p: [f[p] for f in flat] for p in SETTINGS if any(f[p] != flat[0][p] for f in flat)}


def _look_up(content: Mapping[str, Any], path: str) -> Any:
    for part in path.split("."):
        content = content[part]
    return content


def _unknown(path: str) -> str:
    near = difflib.get_close_matches(path, SETTINGS, n=1, cutoff=0.5)
    if not near:
        near = [p for p in SETTINGS if p.split(".")[-1] == path.split(".")[-1]]
    hint = f" Did you mean '{near[0]}'?" if near else f" Known settings: {', '.join(SETTINGS)}."
    return f"There is no setting '{path}'.{hint}"


def _explain(error: Any, content: Any) -> str:
    path = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        return _unknown(path)
    if not path or path not in SETTINGS:
        return error["msg"].removeprefix("Value error, ").rstrip(".") + "."
    setting = SETTINGS[path]
    kinds = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    allowed = f"one of {', '.join(setting.choices)}" if setting.choices else kinds[setting.kind]
    if setting.bounds and not setting.choices:
        allowed += f", {setting.bounds}"
    if setting.optional:
        allowed += ", or none"
    return f"{path} cannot be {error['input']!r}. Allowed: {allowed}."
