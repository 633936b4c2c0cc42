"""Fixtures of all tests: a store and a data folder of their own, a tiny data set, and one run trained on it.

No test touches the project's own `data/` and `checkpoints/`: every test starts with an empty store and an empty data
folder below its `tmp_path`. Training happens once; tests that want a finished run get a copy of it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer.config import Config, with_settings
from fer.data import dataset
from fer.data.dataset import CLASSES, Dataset
from fer.runs import Run, RunStore

os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by the processes that tests start

TINY = {
    "data.name": "tiny",
    "train.epochs": 3,
    "train.batch_size": 32,
    "runtime.device": "cpu",
    "runtime.precision": "fp32",
    "runtime.threads": 1,
}


def draw_blobs(seed: int = 0, train: int = 140, val: int = 70) -> Dataset:
    """Seven classes in equal numbers: a bright blob whose place says the class, on noise. A net learns it in 2 epochs."""
    rng = np.random.default_rng(seed)
    n = train + val
    labels = np.arange(n) % len(CLASSES)
    y, x = np.mgrid[0:48, 0:48]
    angle = 2 * np.pi * labels / len(CLASSES) + rng.normal(0, 0.15, n)
    centre_x, centre_y = 24 + 14 * np.cos(angle), 24 + 14 * np.sin(angle)
    distance = (x - centre_x[:, None, None]) ** 2 + (y - centre_y[:, None, None]) ** 2
    images = 60 + 150 * np.exp(-distance / 60) + rng.normal(0, 15, (n, 48, 48))
    return Dataset(
        name="tiny",
        images=np.clip(images, 0, 255).astype(np.uint8),
        labels=labels.astype(np.int64),
        splits=np.repeat([0, 1], [train, val]).astype(np.uint8),
        sources=np.array([f"blob-{i}" for i in range(n)]),
    )


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store, an empty data folder and an empty cache of weights, for this process and for those that it starts."""
    monkeypatch.setenv("FER_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setenv("FER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(autouse=True)
def own_main(monkeypatch: pytest.MonkeyPatch) -> None:
    """`__main__` as it was: AppTest leaves its page there, and what starts a process later would run that page first."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """The test's own store, an empty folder."""
    (tmp_path / "runs").mkdir()
    return RunStore(tmp_path / "runs")


@pytest.fixture
def tiny(own_folders: None) -> Dataset:
    """140 train and 70 val pictures of 7 classes, prepared under the name 'tiny'."""
    data = draw_blobs()
    dataset.save(data)
    return data


def tiny_config(**changes: Any) -> Config:
    """3 epochs on 'tiny' in fp32 on one CPU thread; changes by dotted path with '__' for the dot."""
    return with_settings(Config(), {**TINY, **{k.replace("__", "."): v for k, v in changes.items()}})


@pytest.fixture
def make_run(store: RunStore, tiny: Dataset) -> Callable[..., Run]:
    """`make_run("id", train__epochs=1)`: a queued run on 'tiny', its settings changed."""
    from fer.jobs import create_run

    def make(
        run_id: str | None = None, *, recipe: str | None = "baseline", reserved: bool = False, **changes: Any
    ) -> Run:
        return create_run(store, tiny_config(**changes), recipe=recipe, run_id=run_id, reserved=reserved)

    return make


@pytest.fixture
def doubtful(store: RunStore, own_folders: None) -> Callable[..., Run]:
    """`doubtful("id", seed=1)`: a finished run of a very small network on 'doubtful', which is 'tiny' with a fifth of its labels
    wrong and a test split, so that temperatures are neither 1 nor at their bound."""
    from fer.jobs import create_run
    from fer.train import fit

    data = draw_blobs(train=140, val=140)
    wrong = np.arange(280) % 5 == 0
    labels = np.where(wrong, (data.labels + 1) % len(CLASSES), data.labels)
    splits = np.repeat([0, 1, 2], [140, 70, 70]).astype(np.uint8)
    dataset.save(replace(data, name="doubtful", labels=labels, splits=splits, fingerprint=""))

    def make(run_id: str, **changes: Any) -> Run:
        small = {"model__name": "compact", "model__channels": "grey", "model__width": 0.5, "optim__lr": 0.005}
        config = tiny_config(**{**small, "data__name": "doubtful", "train__epochs": 2, **changes})
        create_run(store, config, recipe=None, run_id=run_id)
        return fit(store, run_id)

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run 'done', trained to its end on 'tiny', beside its data folder. To be copied, not changed."""
    return _train_done(tmp_path_factory.mktemp("trained"), tiny_config(), "baseline")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one finished run 'done' of a very small network. To be copied, not changed."""
    config = tiny_config(model__name="compact", model__channels="grey", model__width=0.25, train__epochs=2)
    return _train_done(tmp_path_factory.mktemp("small"), config, None) / "runs"


def _train_done(root: Path, config: Config, recipe: str | None) -> Path:
    """Train a run 'done' in `root/runs`, its data in `root/data`; returns root."""
    from fer.jobs import create_run
    from fer.train import fit

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FER_RUNS_DIR", str(root / "runs"))
        patch.setenv("FER_DATA_DIR", str(root / "data"))
        dataset.save(draw_blobs())
        store = RunStore()
        create_run(store, config, recipe=recipe, run_id="done")
        fit(store, "done")
    return root


@pytest.fixture
def finished_run(trained: Path, store: RunStore, tiny: Dataset) -> Run:
    """A copy of the finished run 'done' in the test's own store, with its data set prepared."""
    shutil.copytree(trained / "runs" / "done", store.root / "done")
    return store.get("done")


@pytest.fixture(scope="session")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of torchvision's ResNet-18 with 1,000 classes, its weights random. Not to be changed."""
    import torch
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(5)
        path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
        torch.save(resnet18().state_dict(), path)
    return path


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """`read_only(folder)`: from now on this process can look into the folder and change nothing in it.

    Made by refusing the system calls, since the permission bits of a folder do not bind an administrator.
    """

    def freeze(folder: Path) -> None:
        def refusing(name: str, writes: Callable[..., bool]) -> None:
            real = getattr(os, name)

            def call(path: Any, *args: Any, **kwargs: Any) -> Any:
                below = isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder)
                if below and writes(*args, **kwargs):
                    raise OSError(30, "Read-only file system", str(path))
                return real(path, *args, **kwargs)

            monkeypatch.setattr(os, name, call)

        refusing("open", lambda flags, *_a, **_k: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "chmod"):
            refusing(name, lambda *_a, **_k: True)

    return freeze
