"""How long an answer takes: one face, 1,000 faces, and a 12-megapixel photo from its bytes to the probabilities.

    python benchmarks/predict_latency.py --run baseline

The photo is scikit-image's astronaut enlarged to 4,000 x 3,000 with an edge of grey, as a JPEG; it holds one face.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from benchmarks import machine
from fer.images import read_image
from fer.predict import Predictor


def main() -> None:
    """Time each and print medians and 95th percentiles in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="baseline")
    parser.add_argument("--turns", type=int, default=15)
    arguments = parser.parse_args()
    predictor = Predictor(arguments.run)
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (1000, 48, 48), dtype=np.uint8)
    content = photo()
    found = len(predictor.predict_photo(np.asarray(read_image(content))))
    results = {
        "benchmark": "predict_latency",
        "run": arguments.run,
        "one_face_ms": timed(lambda: predictor.predict(faces[0]), 20 * arguments.turns),
        "thousand_faces_ms": timed(lambda: predictor.predict(faces), arguments.turns),
        "photo_12mp_ms": timed(lambda: predictor.predict_photo(np.asarray(read_image(content))), arguments.turns),
        "faces_in_photo": found,
        "memory_mb": machine.peak_memory_mb(),
        **machine.describe(),
    }
    print(json.dumps(results, indent=1))


def photo() -> bytes:
    """A JPEG of 4,000 x 3,000 pixels with one face."""
    from skimage.data import astronaut

    canvas = Image.new("RGB", (4000, 3000), (128, 128, 128))
    canvas.paste(Image.fromarray(astronaut()).resize((3000, 3000), Image.Resampling.BICUBIC), (500, 0))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def timed(work: Callable[[], object], turns: int) -> dict[str, float]:
    """Median and 95th percentile of `turns` calls, milliseconds; the first calls warm up and are not counted."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - began))
    return {"median": statistics.median(taken), "p95": float(np.percentile(taken, 95)), "n": turns}


if __name__ == "__main__":
    main()
