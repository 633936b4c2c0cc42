"""The study's training loop, written plainly: what the engine is measured against.

ImageFolder read as RGB, ToTensor, ImageNet mean and std; a DataLoader with one worker, batch 64, shuffled; cross entropy;
Adam at 0.001; fp32; validation after each epoch. Each convolution is followed by ReLU, then by the pool, as in the study.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from fer.data.dataset import Dataset
from fer.models.inputs import IMAGENET_MEAN, IMAGENET_STD

BATCH = 64


def unpack(data: Dataset, folder: Path) -> Path:
    """Write a data set's pictures as `<split>/<class>/<n>.png`, for ImageFolder; returns the folder."""
    for split in ("train", "val"):
        for i in data.indices(split):
            target = folder / split / data.classes[data.labels[i]]
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data.images[i]).save(target / f"{i}.png", compress_level=1)
    return folder


def unpack_zip(path: Path, folder: Path) -> Path:
    """The same from a zip of `train/<class>/*` and `test/<class>/*`, its files as they are, `test` as `val`."""
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            parts = Path(member.filename).parts
            if member.is_dir() or len(parts) < 3:
                continue
            split, label, name = parts[-3:]
            target = folder / ("val" if split == "test" else split) / Path(label).name
            target.mkdir(parents=True, exist_ok=True)
            content = archive.read(member)
            Image.open(io.BytesIO(content)).verify()
            (target / Path(name).name).write_bytes(content)
    return folder


def pictures(folder: Path, split: str) -> datasets.ImageFolder:
    """The pictures of a split as the study reads them: RGB, 0 to 1, normalised."""
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    return datasets.ImageFolder(str(folder / split), prepare)


def loaders(folder: Path) -> tuple[DataLoader, DataLoader]:
    """The train and the val loader."""
    return (
        DataLoader(pictures(folder, "train"), BATCH, shuffle=True, num_workers=1),
        DataLoader(pictures(folder, "val"), BATCH, shuffle=False, num_workers=1),
    )


def ordered_loader(folder: Path, order: Sequence[int]) -> DataLoader:
    """The train loader over what `unpack` wrote, visiting the data set's pictures in this order of their positions."""
    train = pictures(folder, "train")
    place = {int(Path(file).stem): i for i, (file, _) in enumerate(train.samples)}
    return DataLoader(train, BATCH, sampler=[place[i] for i in order], num_workers=1)


def network(name: str) -> nn.Sequential:
    """'baseline' or 'grouped-conv', with fresh weights."""
    groups, widths = (3, (3, 33, 66, 132)) if name == "grouped-conv" else (1, (3, 32, 64, 128))
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 5, groups=groups), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(widths[-1] * 4, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 7))


def start(name: str, seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A fresh network and its optimizer."""
    torch.manual_seed(seed)
    model = network(name)
    return model, torch.optim.Adam(model.parameters(), lr=0.001)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One optimizer step; returns the mean loss before it and the logits."""
    optimizer.zero_grad()
    logits = model(images)
    loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()
    optimizer.step()
    return loss, logits


def train_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: DataLoader) -> tuple[float, float, float]:
    """One epoch; returns mean loss, top-1 and seconds."""
    began = time.perf_counter()
    model.train()
    loss_sum = right = seen = 0
    for images, labels in loader:
        loss, logits = train_step(model, optimizer, images, labels)
        loss_sum += loss.item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
        seen += len(labels)
    return loss_sum / seen, right / seen, time.perf_counter() - began


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader) -> tuple[float, float, float]:
    """Mean loss, top-1 and seconds over the val split."""
    began = time.perf_counter()
    model.eval()
    loss_sum = right = seen = 0
    for images, labels in loader:
        logits = model(images)
        loss_sum += nn.functional.cross_entropy(logits, labels).item() * len(labels)
        right += (logits.argmax(1) == labels).sum().item()
        seen += len(labels)
    return loss_sum / seen, right / seen, time.perf_counter() - began
