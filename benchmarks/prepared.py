"""What benchmarks of the two loops share: data prepared for both, and a turn in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import study_loop
from fer.data import dataset
from fer.data.read import import_path


def prepare(source: Path | None, folder: Path) -> dataset.Dataset:
    """Prepare a data set, the sample faces where `source` is None, as the engine's array and as the study's files.

    The array lies in `folder/data`, the files in `folder/pictures`: those of a zip as they are, else one PNG a picture.
    """
    use(folder)
    data = import_path(source, "bench") if source else dataset.load(dataset.SAMPLE)
    dataset.save(data)
    (folder / "name").write_text(data.name)
    if source and source.suffix == ".zip":
        study_loop.unpack_zip(source, folder / "pictures")
    else:
        study_loop.unpack(data, folder / "pictures")
    return data


def use(folder: Path) -> None:
    """Let this process find the data that `prepare` put there."""
    os.environ["FER_DATA_DIR"] = str(folder / "data")


def load(folder: Path) -> dataset.Dataset:
    """The data set that `prepare` put there."""
    use(folder)
    return dataset.load((folder / "name").read_text())


def turn(script: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that the script prints last, run in a process of its own. Ends this one where it fails."""
    done = subprocess.run([sys.executable, script, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with code {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def data_name(source: Path | None) -> str:
    """What the figures were measured on."""
    return source.name if source else dataset.SAMPLE
