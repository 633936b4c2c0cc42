"""The network's picture names every box with its true shape and parameters."""

from typing import get_args

import pytest

from fer.config import ModelConfig
from fer.models.summary import summarise
from fer.plots.network import network_alt, network_picture, stages, unseen

NETWORKS = get_args(ModelConfig.model_fields["name"].annotation)


def test_the_study_s_network_box_by_box():
    boxes = stages(summarise(ModelConfig()))
    assert [(b.title, b.shape, b.num_params) for b in boxes] == [
        ("Input", (3, 48, 48), 0),
        ("Conv 5x5", (32, 44, 44), 2_432),
        ("Pool 2x2", (32, 22, 22), 0),
        ("Conv 5x5", (64, 18, 18), 51_264),
        ("Pool 2x2", (64, 9, 9), 0),
        ("Conv 5x5", (128, 5, 5), 204_928),
        ("Pool 2x2", (128, 2, 2), 0),
        ("Linear", (256,), 131_328),
        ("Linear", (128,), 32_896),
        ("Linear", (7,), 903),
    ]


def test_the_layers_of_a_stage_share_a_box():
    boxes = stages(summarise(ModelConfig(name="resnet18")))
    assert [(b.family, b.title, b.shape) for b in boxes] == [
        ("input", "Input", (3, 48, 48)),
        ("other", "Resize", (3, 96, 96)),
        ("convolution", "Conv 7x7", (64, 24, 24)),
        ("convolution", "4 conv", (64, 24, 24)),
        ("convolution", "5 conv", (128, 12, 12)),
        ("convolution", "5 conv", (256, 6, 6)),
        ("convolution", "5 conv", (512, 3, 3)),
        ("pooling", "Pool", (512,)),
        ("linear", "Linear", (7,)),
    ]


def test_pixels_that_never_reach_the_answer_are_said():
    found = summarise(ModelConfig())
    assert found["seen_side"] == 44
    assert unseen(found) == ("Its pools leave the last 4 rows and columns of a picture over: it never looks at them.")
    assert unseen(summarise(ModelConfig(name="compact"))) == unseen({"input_shape": [3, 48, 48]}) == ""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_boxes_hold_all_parameters(name):
    model = summarise(ModelConfig(name=name))
    assert sum(b.num_params for b in stages(model)) == model["num_params"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dark", [False, True])
def test_every_box_is_drawn_and_labelled(name, dark):
    model = summarise(ModelConfig(name=name))
    figure = network_picture(model, dark=dark)
    boxes = stages(model)
    assert len(figure.layout.shapes) == 3 * len(boxes)
    for box, note in zip(boxes, figure.layout.annotations, strict=True):
        assert box.title in note.text and "x".join(map(str, box.shape)) in note.text
        assert not box.num_params or f"{box.num_params:,}" in note.text


def test_a_box_is_as_high_as_its_map_asks():
    figure = network_picture(summarise(ModelConfig()), dark=False)
    fronts = [_height(s.path) for s in figure.layout.shapes[::3]]
    assert fronts[1] / fronts[0] == pytest.approx(44 / 48, abs=0.01)
    assert fronts[2] / fronts[1] == pytest.approx(22 / 44, abs=0.01)


def test_the_words_for_those_who_cannot_see_it():
    alt = network_alt(summarise(ModelConfig()))
    assert "Conv 5x5, 128x5x5, 204,928 parameters" in alt


def _height(path: str) -> float:
    ys = [float(point.split(",")[1]) for point in path.replace("M", "").replace("Z", "").split("L")]
    return max(ys) - min(ys)


def test_residual_blocks_of_one_size_share_a_box_however_many_they_are():
    two, four = (stages(summarise(ModelConfig(name="residual", depth=depth))) for depth in (2, 4))
    assert [box.shape for box in two] == [box.shape for box in four]
    assert [box.title for box in four if box.detail.startswith("stage 12x12")] == ["9 conv"]
    assert sum(box.num_params for box in four) == summarise(ModelConfig(name="residual", depth=4))["num_params"]
