"""What can become of the files of a run folder: cut off, bits turned over, taken for one another, of another version."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

FILES = (
    "config.json", "status.json", "model.json", "metrics.jsonl", "notes.json", "report.json", "checksums.json",
    "best.safetensors", "last.safetensors", "logits-val.npz", "resume.pt", "train.log",
)  # fmt: skip


def truncated(content: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 8))):
        changed[rng.randrange(min(len(content), 20_000))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def swapped(_content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    return rng.choice(others)


def other_version(content: bytes, rng: random.Random, _others: list[bytes]) -> bytes:
    """A newer schema, or a value of another type or a key that is gone at any depth; what is no JSON object gets a line of another kind."""
    try:
        value = json.loads(content)
    except ValueError:
        return content + rng.choice((b"{}\n", b"[1]\n", b"\xff\xfe", b'{"schema": 99}\n'))
    inside = value
    while rng.random() < 0.6 and (deeper := [x for x in inside.values() if isinstance(x, dict) and x]):
        inside = rng.choice(deeper)
    key = rng.choice(list(inside))
    choice = rng.randrange(4)
    if choice == 0:
        value["schema"] = 99
    elif choice < 3:
        inside[key] = rng.choice((None, [], {}, "x", -1, 1e308, {"a": {"a": []}}, ["<b>"], True))
    else:
        del inside[key]
    return json.dumps(value).encode()


MUTATIONS: tuple[Callable[..., bytes], ...] = (truncated, flipped, swapped, other_version)
