"""Whether an explanation shows what matters: how much the label's probability falls when the fifth of the pixels that it ranks
highest is covered, against a fifth by chance.

    python benchmarks/explanations.py --data fer2013 --run strong

Covered pixels take the crop's mean. Chance is drawn in single pixels and in squares of 4 and of 8 pixels, since maps cover
patches; `middle` covers the fifth closest to the middle of every face alike: what a map is worth beyond knowing where faces are.
Pictures are of val; maps are of one look at the whole crop, by the network without views.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import machine
from fer.data.dataset import load
from fer.explain import METHODS, covered, explain
from fer.predict import Predictor


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fer2013")
    parser.add_argument("--run", default="strong")
    parser.add_argument("--pictures", type=int, default=200)
    arguments = parser.parse_args()
    faces, _labels = load(arguments.data).subset("val")
    rng = np.random.default_rng(0)
    crops = faces[rng.choice(len(faces), min(arguments.pictures, len(faces)), replace=False)]
    predictor = Predictor(arguments.run)
    probs = predictor.predict(crops)
    labels = probs.argmax(axis=1)
    before = probs[np.arange(len(crops)), labels]

    def falls(heats: list[np.ndarray]) -> dict[str, float]:
        """The mean fall of the label's probability, and its standard error."""
        changed = np.stack([covered(crop, heat) for crop, heat in zip(crops, heats, strict=True)])
        fall = before - predictor.predict(changed)[np.arange(len(crops)), labels]
        return {"mean": float(fall.mean()), "standard_error": float(fall.std(ddof=1) / len(fall) ** 0.5)}

    results: dict[str, object] = {"benchmark": "explanations", "run": arguments.run, "n": len(crops)}
    for method in METHODS:
        began = time.perf_counter()
        heats = [explain(predictor.scorer, crop, int(label), method) for crop, label in zip(crops, labels, strict=True)]
        results[method] = falls(heats) | {"ms_a_face": 1000 * (time.perf_counter() - began) / len(crops)}
    for side in (1, 4, 8):
        squares = [np.kron(rng.random((48 // side, 48 // side)), np.ones((side, side))) for _ in crops]
        results[f"chance_{side}"] = falls(squares)
    down, right = np.mgrid[:48, :48] - 23.5
    results["middle"] = falls([-np.hypot(down, right)] * len(crops))
    print(json.dumps({**results, **machine.describe()}, indent=1))


if __name__ == "__main__":
    main()
