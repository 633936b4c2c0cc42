"""The faster computing on a CPU gives what the plain network gives: the same logits and the same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from fer.config import ModelConfig
from fer.evaluate import compute_logits
from fer.models import build_model
from fer.models.cpu import fast_forward
from fer.models.inputs import Preprocess, seen_side

STUDY = [
    ("baseline", "rgb"),
    ("baseline", "grey"),
    ("grouped-conv", "rgb"),
    ("depthwise-conv", "rgb"),
    ("dilated-conv", "rgb"),
]


def both(
    config: ModelConfig, images: torch.Tensor, labels: torch.Tensor
) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Logits and gradients in double precision, plain first."""
    torch.manual_seed(0)
    model, preprocess = build_model(config, 7).double().eval(), Preprocess.for_channels(config.channels)
    fast = fast_forward(model, preprocess)
    assert fast is not None
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (preprocess.mean, preprocess.std))
    found = []
    for logits in (model((images[:, None].double() / 255 - mean) / std), fast(images)):
        gradients = torch.autograd.grad(functional.cross_entropy(logits, labels), list(model.parameters()))
        found.append((logits, list(gradients)))
    return found


@pytest.mark.parametrize(("name", "channels"), STUDY)
def test_pixels_that_a_network_does_not_see_change_neither_logits_nor_gradients(name, channels):
    images = torch.randint(0, 256, (9, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    config, labels = ModelConfig(name=name, channels=channels), torch.arange(9) % 7
    side = seen_side(build_model(config, 7))
    assert side == 44
    (plain, plain_gradients), _ = both(config, images, labels)
    (seen, seen_gradients), (fast, fast_gradients) = both(config, images[:, :side, :side], labels)
    torch.testing.assert_close((seen, fast), (plain, plain), rtol=1e-6, atol=1e-7)
    for a, b, c in zip(plain_gradients, seen_gradients, fast_gradients, strict=True):
        torch.testing.assert_close((b, c), (a, a), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("name", "channels"), STUDY)
def test_every_pixel_that_is_said_to_be_seen_is_seen(name, channels):
    torch.manual_seed(0)
    config = ModelConfig(name=name, channels=channels)
    model, preprocess = build_model(config, 7), Preprocess.for_channels(channels)
    inputs = preprocess(torch.randint(0, 256, (64, 48, 48), dtype=torch.uint8)).requires_grad_()
    reached = torch.autograd.grad(model(inputs).square().sum(), inputs)[0].abs().sum((0, 1)) > 0
    assert reached.any(1).nonzero().max() == reached.any(0).nonzero().max() == seen_side(model) - 1


@pytest.mark.parametrize(
    ("model", "side"),
    [
        (build_model(ModelConfig(batch_norm=True), 7), 48),  # its means are over all pixels
        (build_model(ModelConfig(name="compact"), 7), 48),
        (nn.Sequential(nn.Conv2d(1, 1, 5), nn.MaxPool2d(2)), 48),  # no end that says that a map is all there is
        (nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.MaxPool2d(5), nn.Flatten()), 48),
        (nn.Sequential(nn.Conv2d(1, 1, (5, 3)), nn.Flatten()), 48),
        (nn.Sequential(nn.MaxPool2d(5, ceil_mode=True), nn.Flatten()), 48),
        (nn.Sequential(nn.MaxPool2d(5), nn.Flatten()), 45),
        (nn.Sequential(nn.Conv2d(1, 1, 5, stride=3), nn.ReLU(), nn.Flatten()), 47),
    ],
    ids=["batch norm", "compact", "no end", "padding", "oblong", "ceil", "pool", "stride"],
)
def test_how_much_of_a_picture_a_network_sees(model, side):
    assert seen_side(model) == side


def test_validation_answers_as_the_network_does_on_the_whole_picture():
    torch.manual_seed(0)
    model, preprocess = build_model(ModelConfig(), 7), Preprocess.for_channels("rgb")
    images = torch.randint(0, 256, (9, 48, 48), dtype=torch.uint8)
    with torch.no_grad():
        expected = model(preprocess(images))
    torch.testing.assert_close(torch.from_numpy(compute_logits(model, preprocess, images)), expected)


@pytest.mark.parametrize(("name", "channels"), STUDY)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_logits_and_gradients_are_the_plain_networks(name, channels, batch_norm):
    images = torch.randint(0, 256, (37, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images[:4] = torch.tensor([0, 128, 255, 7], dtype=torch.uint8)[
        :, None, None
    ]  # flat ones, where all of a window are equal
    config = ModelConfig(name=name, channels=channels, batch_norm=batch_norm)
    (plain, plain_gradients), (fast, fast_gradients) = both(config, images, torch.arange(37) % 7)
    torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-7)
    for a, b in zip(fast_gradients, plain_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


def test_in_bf16_the_gradient_is_as_near_to_the_true_one_as_the_plain_networks():
    torch.manual_seed(0)
    model, preprocess = (
        build_model(ModelConfig(), 7).to(memory_format=torch.channels_last),
        Preprocess.for_channels("rgb"),
    )
    images = torch.randint(0, 256, (64, 48, 48), dtype=torch.uint8)
    fast = fast_forward(model, preprocess)

    def gradient(forward, kind: torch.dtype | None) -> torch.Tensor:
        with torch.autocast("cpu", dtype=kind or torch.bfloat16, enabled=kind is not None):
            logits = forward(images)
        loss = functional.cross_entropy(logits.float(), torch.arange(64) % 7)
        return torch.autograd.grad(loss, model[0].weight)[0]

    true = gradient(lambda i: model(preprocess(i)), None)
    errors = [(gradient(f, torch.bfloat16) - true).norm() / true.norm() for f in (fast, lambda i: model(preprocess(i)))]
    assert errors[0] < 1.5 * errors[1], errors


@pytest.mark.parametrize(
    "model",
    [
        build_model(ModelConfig(name="compact"), 7),
        nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 8, 4), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 8, 5), nn.MaxPool2d(3)),
        nn.Sequential(nn.Conv2d(3, 8, 5)),
        nn.Linear(2, 2),
    ],
    ids=["compact", "padding", "stride", "even kernel", "pool of 3", "no pool", "no sequence"],
)
def test_other_networks_are_left_alone(model):
    assert fast_forward(model, Preprocess.for_channels("rgb")) is None
