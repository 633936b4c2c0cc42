"""Every network in the table: its size, its shapes, that it learns, and that its layer table is true."""

from __future__ import annotations

import typing

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fer.config import TAKES_CROPS, TRANSFER, ModelConfig
from fer.errors import ConfigError
from fer.models import MODELS, ModelEntry, build_model, example_input, num_params
from fer.models.families import ResidualBlock
from fer.models.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess, to_tensor
from fer.models.summary import summarise

SIZES = {
    ("baseline", "rgb"): (423_751, 26_519_936),
    ("baseline", "grey"): (422_151, 23_422_336),
    ("grouped-conv", "rgb"): (261_029, 9_461_632),
    ("depthwise-conv", "rgb"): (180_487, 5_978_688),
    ("depthwise-conv", "grey"): (178_887, 2_881_088),
    ("dilated-conv", "rgb"): (258_375, 9_652_608),
    ("dilated-conv", "grey"): (257_799, 8_537_472),
    ("compact", "rgb"): (344_135, 17_923_968),
    ("compact", "grey"): (341_831, 16_596_864),
    ("residual", "rgb"): (2_782_087, 239_912_704),
    ("residual", "grey"): (2_777_479, 237_258_496),
    ("vgg", "rgb"): (1_190_279, 110_151_424),
    ("vgg", "grey"): (1_185_671, 107_497_216),
}
ALL = [ModelConfig(name=name, channels=channels) for name, channels in SIZES]
STUDY_PLANS = ("baseline", "grouped-conv", "depthwise-conv", "dilated-conv")
names = pytest.mark.parametrize("config", ALL, ids=lambda c: f"{c.name}-{c.channels}")


def test_the_table_and_the_config_name_the_same_networks():
    assert set(MODELS) == set(typing.get_args(ModelConfig.model_fields["name"].annotation))
    own = [(name, entry) for name, entry in MODELS.items() if name not in TRANSFER]  # torchvision's: test_transfer.py
    built = {(name, channels) for name, entry in own for channels in entry.channels}
    assert built == set(SIZES)


@names
def test_parameters_and_multiply_adds_are_pinned(config):
    found = summarise(config)
    assert (found["num_params"], found["multiply_adds"]) == SIZES[config.name, config.channels]
    assert num_params(build_model(config, 7)) == found["num_params"]


@names
def test_every_network_goes_forward_and_backward(config):
    torch.manual_seed(0)
    model = build_model(config, 5)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(
                module.weight
            )  # a fresh residual block hands its input on, and nothing back to its convolutions
    logits = model(torch.randn(3, example_input(config).shape[1], 48, 48))
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    functional.cross_entropy(logits, torch.tensor([0, 1, 4])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@names
def test_every_network_learns_two_pictures_apart(config):
    torch.manual_seed(0)
    model = build_model(config, 7)
    images = torch.randn(2, example_input(config).shape[1], 48, 48)
    labels = torch.tensor([3, 6])
    optimizer = torch.optim.Adam(model.parameters(), 0.001)
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def study_order(model: nn.Sequential) -> nn.Sequential:
    """The same layers, sharing weights, with ReLU before the pool, as the study has it."""
    layers = list(model)
    for i in range(len(layers) - 1):
        if isinstance(layers[i], nn.MaxPool2d) and isinstance(layers[i + 1], nn.ReLU):
            layers[i], layers[i + 1] = nn.ReLU(), layers[i]
    assert [type(x) for x in layers] != [type(x) for x in model]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("config", [c for c in ALL if c.name in STUDY_PLANS], ids=lambda c: f"{c.name}-{c.channels}")
def test_pool_then_relu_is_relu_then_pool(config):
    torch.manual_seed(1)
    model = build_model(config, 7)
    images = torch.randn(4, example_input(config).shape[1], 48, 48)
    labels = torch.tensor([0, 2, 4, 6])
    results = []
    for net in (model, study_order(model)):
        inputs = images.clone().requires_grad_()
        logits = net(inputs)
        parameters = list(net.parameters())
        gradients = torch.autograd.grad(functional.cross_entropy(logits, labels), [inputs, *parameters])
        results.append((logits, gradients))
    (ours, our_gradients), (theirs, their_gradients) = results
    assert torch.equal(ours, theirs)
    for a, b in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_the_baseline_is_the_studys_layer_by_layer():
    table = [(x["kind"], x["detail"], x["output_shape"]) for x in summarise(ModelConfig())["layers"]]
    assert [row for row in table if row[0] in ("Conv2d", "Linear")] == [
        ("Conv2d", "5x5, 3 to 32", [32, 44, 44]),
        ("Conv2d", "5x5, 32 to 64", [64, 18, 18]),
        ("Conv2d", "5x5, 64 to 128", [128, 5, 5]),
        ("Linear", "512 to 256", [256]),
        ("Linear", "256 to 128", [128]),
        ("Linear", "128 to 7", [7]),
    ]
    assert [row[2] for row in table if row[0] == "MaxPool2d"] == [[32, 22, 22], [64, 9, 9], [128, 2, 2]]


def test_a_network_is_described_as_it_is():
    plain = "The study's CNN: three 5x5 convolutions (32, 64, 128), three linear layers."
    for settings, said in {
        (): "",
        (("hidden_layers", 0),): " Here with no hidden linear layer.",
        (
            ("hidden_layers", 1),
            ("width", 0.5),
        ): " Here with 0.5 times the channels and hidden units, 1 hidden linear layer.",
        (("batch_norm", True), ("channels", "grey")): " Here with batch norm after each convolution, grey pictures.",
        (("depth", 5), ("dropout", 0.5)): "",  # the first is not for it, the second no layer more
    }.items():
        assert summarise(ModelConfig(**dict(settings)))["description"] == plain + said
    deeper = summarise(ModelConfig(name="residual", depth=3))["description"]
    assert deeper == MODELS["residual"].description + " Here with 3 blocks at each size."


def test_grouped_convolutions_have_three_groups():
    convs = [x["detail"] for x in summarise(ModelConfig(name="grouped-conv"))["layers"] if x["kind"] == "Conv2d"]
    assert convs == ["5x5, 3 to 33, 3 groups", "5x5, 33 to 66, 3 groups", "5x5, 66 to 132, 3 groups"]


def test_the_layer_table_names_what_is_no_plain_layer():
    layers = summarise(ModelConfig(name="compact", channels="grey"))["layers"]
    assert [(x["name"], x["detail"], x["output_shape"]) for x in layers if x["kind"] == "PixelUnshuffle"] == [
        ("0", "2x2 pixels to 4 channels", [4, 24, 24])
    ]
    assert [(x["name"], x["detail"], x["output_shape"]) for x in layers if x["kind"] == "Residual"] == [
        ("9", "plus its input", [128, 6, 6])
    ]


@names
def test_a_layer_table_adds_up_and_leaves_the_random_state_alone(config):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = summarise(config, num_classes=3)
    assert torch.equal(before, torch.get_rng_state())
    assert sum(x["num_params"] for x in found["layers"]) == found["num_params"]
    assert found["layers"][-1]["output_shape"] == [3]
    assert found["input_shape"] == [3 if config.channels == "rgb" else 1, 48, 48]


def test_a_network_that_cannot_take_the_channels_says_so(monkeypatch):
    monkeypatch.setitem(MODELS, "baseline", ModelEntry(MODELS["baseline"].build, "x", ("rgb",)))
    with pytest.raises(ConfigError, match=r"'baseline' cannot take model\.channels=grey\. Allowed: rgb"):
        build_model(ModelConfig(channels="grey"), 7)


def test_the_same_seed_gives_the_same_first_weights():
    def weights(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [p.detach() for p in build_model(ModelConfig(), 7).parameters()]

    assert all(torch.equal(a, b) for a, b in zip(weights(4), weights(4), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(4), weights(5), strict=True))


def test_preprocessing_is_torchvisions_to_tensor_and_normalise_on_three_equal_channels():
    from torchvision.transforms import functional as vision

    images = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    ours = Preprocess.for_channels("rgb")(to_tensor(images, torch.device("cpu")))
    theirs = torch.stack(
        [
            vision.normalize(vision.to_tensor(np.repeat(image[..., None], 3, axis=2)), IMAGENET_MEAN, IMAGENET_STD)
            for image in images
        ]
    )
    assert ours.shape == (4, 3, 48, 48)
    torch.testing.assert_close(ours, theirs)


def test_grey_preprocessing_has_one_channel():
    images = torch.full((2, 48, 48), 255, dtype=torch.uint8)
    out = Preprocess.for_channels("grey")(images)
    assert out.shape == (2, 1, 48, 48)
    assert out[0, 0, 0, 0].item() == pytest.approx((1 - 0.508) / 0.255)


@pytest.mark.parametrize("name", TAKES_CROPS)
def test_the_families_take_pictures_of_other_sizes_and_any_depth(name):
    config = ModelConfig(name=name, channels="grey", depth=1, width=0.25)
    model = build_model(config, 7).eval()
    assert model(torch.randn(2, 1, 24, 24)).shape == model(torch.randn(2, 1, 40, 40)).shape == (2, 7)
    deeper = config.model_copy(update={"depth": 3})
    assert summarise(deeper)["num_params"] > 2 * summarise(config)["num_params"]
    with torch.no_grad():
        constant = model(torch.ones(1, 1, 48, 48)).isfinite().all()
    assert constant


def test_a_fresh_residual_block_hands_its_input_on():
    torch.manual_seed(0)
    block, images = ResidualBlock(8, 8), torch.rand(2, 8, 6, 6)
    assert torch.equal(block(images), images)
    assert ResidualBlock(8, 16)(images).shape == (2, 16, 6, 6)


def test_the_layer_table_of_a_residual_network_counts_every_parameter_once():
    found = summarise(ModelConfig(name="residual", depth=1))
    assert sum(layer["num_params"] for layer in found["layers"]) == found["num_params"]
    assert [x["detail"] for x in found["layers"] if x["kind"] == "ResidualBlock"] == ["plus its input"] * 3
