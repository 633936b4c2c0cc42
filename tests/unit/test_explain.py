"""What a network looked at: the places that are said to matter do, random weights give another map, and the closest
training face of a training face is itself."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from fer.checkpoint import Checkpoint
from fer.config import Config, ModelConfig
from fer.data.dataset import CLASSES
from fer.evaluate import Scorer
from fer.explain import METHODS, Neighbours, _inputs, _layers, covered, explain, features
from fer.metrics import softmax
from fer.models import MODELS, build_model
from fer.models.inputs import Preprocess
from fer.models.transfer import BACKBONES


@pytest.fixture
def scorer(finished_run) -> Scorer:
    return Scorer.load(finished_run)


def random_scorer(name: str = "baseline", seed: int = 0, **settings: int) -> Scorer:
    torch.manual_seed(seed)
    config = ModelConfig(name=name, **settings)
    model = build_model(config, len(CLASSES)).eval()
    made = Checkpoint(model, Config(model=config), CLASSES, Preprocess.for_channels(config.channels), 1, {})
    return Scorer((made,), (1.0,), False)


def label_probs(scorer: Scorer, crops: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return softmax(scorer.logits(torch.from_numpy(crops)))[np.arange(len(labels)), labels]


@pytest.mark.parametrize("method", METHODS)
def test_deleting_what_ranks_highest_costs_more_than_deleting_at_random(scorer, tiny, method):
    crops = tiny.images[140:175]
    labels = softmax(scorer.logits(torch.from_numpy(crops))).argmax(axis=1)
    before = label_probs(scorer, crops, labels)
    rng = np.random.default_rng(0)
    chosen = np.stack([covered(c, explain(scorer, c, int(k), method)) for c, k in zip(crops, labels, strict=True)])
    chance = np.stack([covered(c, rng.random((48, 48))) for c in crops])
    blocks = np.stack([covered(c, np.kron(rng.random((12, 12)), np.ones((4, 4)))) for c in crops])
    drop = (before - label_probs(scorer, chosen, labels)).mean()
    assert drop > (before - label_probs(scorer, chance, labels)).mean() + 0.05
    assert drop > (before - label_probs(scorer, blocks, labels)).mean() + 0.05


@pytest.mark.parametrize("method", METHODS)
def test_random_weights_give_another_map(scorer, tiny, method):
    crop, other = tiny.images[150], random_scorer()
    mine, theirs = (explain(s, crop, int(tiny.labels[150]), method).ravel() for s in (scorer, other))
    assert mine.max() == 1 and (mine >= 0).all() and mine.shape == (48 * 48,)
    assert theirs.max() in (0, 1)
    assert not np.allclose(mine, theirs) and (theirs.max() == 0 or np.corrcoef(mine, theirs)[0, 1] < 0.9)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(BACKBONES)))
@pytest.mark.parametrize("method", METHODS)
def test_every_network_can_be_explained(name, method):
    crop = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    heat = explain(random_scorer(name), crop, 3, method)
    assert heat.shape == (48, 48) and heat.dtype == np.float32
    assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
    assert features(random_scorer(name).checkpoints[0], crop[None]).shape[0] == 1


@pytest.mark.parametrize("name", ["resnet18", "alexnet"])
def test_torchvisions_networks_can_be_explained(name):
    crop = np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8)
    scorer = random_scorer(name, input_side=96)
    heat = explain(scorer, crop, 3, "layer-cam")
    assert heat.shape == (48, 48) and np.isfinite(heat).all()
    assert np.linalg.norm(features(scorer.checkpoints[0], crop[None])[0]) == pytest.approx(1, abs=1e-3)


STUDY_LAYERS = ("0", "2", "3", "5", "6")
RESNET_LAYERS = ("resize", "backbone.relu", "backbone.layer1", "backbone.layer2", "backbone.layer3")
LAYERS = {  # the last module of each size of map
    "alexnet": ["resize", *(f"backbone.{last}" for last in ("features.1", "features.4", "features.11", "avgpool"))],
    "compact": ["1", "5", "10"],
    "convnext-tiny": ["resize", *(f"backbone.features.{stage}.0" for stage in (2, 4, 6))],
    "efficientnet-b0": ["resize", *(f"backbone.features.{stage}.0.block.0" for stage in (2, 3, 4, 6))],
    "mobilenet-v3": ["resize", *(f"backbone.features.{stage}.block.0" for stage in (2, 4, 7, 13))],
    "residual": ["5", "8", "11"],
    "resnet50": ["resize", "backbone.relu", *(f"backbone.layer{stage}.0.relu" for stage in (2, 3, 4))],
    "vgg": ["9", "16", "23"],
    **dict.fromkeys(("baseline", "depthwise-conv", "dilated-conv", "grouped-conv"), STUDY_LAYERS),
    **dict.fromkeys(("resnet18", "resnet34"), RESNET_LAYERS),
}


@pytest.mark.parametrize("name", sorted(MODELS))
def test_layer_cam_reads_the_last_map_of_each_size_and_nothing_else(name):
    assert read_layers(name) == [*LAYERS[name]]


def test_channels_that_come_last_are_no_map_where_they_are_as_many_as_its_pixels_either():
    """At 384 pixels ConvNeXt's first stage has 96 x 96 places and 96 channels."""
    assert read_layers("convnext-tiny", input_side=384) == [*LAYERS["convnext-tiny"], "backbone.features"]


def read_layers(name: str, **settings: int) -> list[str]:
    """The names of the modules that LayerCAM reads."""
    made = random_scorer(name, **settings).checkpoints[0]
    names = {module: path for path, module in made.model.named_modules()}
    return [names[layer] for layer in _layers(made.model, _inputs(made, np.zeros((48, 48), np.uint8)))]


def test_explaining_leaves_the_network_as_it_was(scorer, tiny):
    crop = tiny.images[3]
    before = scorer.logits(torch.from_numpy(crop[None]))
    for method in METHODS:
        explain(scorer, crop, 0, method)
    assert np.array_equal(before, scorer.logits(torch.from_numpy(crop[None])))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in scorer.checkpoints[0].model.modules())


def test_another_session_that_asks_the_network_meanwhile_changes_nothing(scorer, tiny):
    checkpoint, crop, mine = scorer.checkpoints[0], tiny.images[150], threading.get_ident()
    rows = np.arange(60)
    alone = features(checkpoint, tiny.images[rows]), {m: explain(scorer, crop, 3, m) for m in METHODS}
    intruded = []

    def intrude(_module, _inputs) -> None:
        """Somebody else's pass through the same network, whole, before that of this thread goes on."""
        if threading.get_ident() == mine:
            other = threading.Thread(target=lambda: intruded.append(scorer.logits(torch.from_numpy(crop[None]))))
            other.start()
            other.join()

    next(checkpoint.model.children()).register_forward_pre_hook(intrude)
    np.testing.assert_allclose(features(checkpoint, tiny.images[rows]), alone[0], atol=1e-5)
    assert len(Neighbours(checkpoint, tiny.images, rows).closest(crop, 60)) == 60
    for method in METHODS:
        np.testing.assert_allclose(explain(scorer, crop, 3, method), alone[1][method], atol=1e-3, err_msg=method)
    assert len(intruded) > 3


def test_an_ensembles_map_is_the_mean_of_its_members(tiny):
    one, two = random_scorer(seed=0), random_scorer(seed=1)
    both = Scorer(one.checkpoints + two.checkpoints, (1.0, 1.0), False)
    crop = tiny.images[0]
    mean = (explain(one, crop, 2) + explain(two, crop, 2)) / 2
    np.testing.assert_allclose(explain(both, crop, 2), mean / mean.max(), rtol=1e-5)


def test_what_cannot_be_explained_is_a_defect_of_the_caller(scorer):
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        explain(scorer, np.zeros((48, 48), np.uint8), 0, "magic")
    with pytest.raises(ValueError, match="expected"):
        explain(scorer, np.zeros((40, 48), np.uint8), 0)


def test_covering_paints_a_fifth_in_the_mean():
    crop = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48).astype(np.uint8)
    heat = np.zeros((48, 48), np.float32)
    heat[:10] = 1
    changed = covered(crop, heat, 10 / 48)
    assert (changed[:10] == round(crop.mean())).all() and (changed[10:] == crop[10:]).all()


def test_the_closest_training_face_of_a_training_face_is_itself(scorer, tiny):
    heard: list[float] = []
    near = Neighbours(scorer.checkpoints[0], tiny.images, tiny.indices("train"), heard.append)
    found = near.closest(tiny.images[17], 5)
    assert found[0].index == 17 and found[0].similarity == pytest.approx(1, abs=1e-4)
    assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)
    held_out = near.closest(tiny.images[150], 5)
    assert all(n.index in tiny.indices("train") for n in held_out)
    assert np.mean([tiny.labels[n.index] == tiny.labels[150] for n in held_out]) >= 0.6
    assert heard[-1] == 1.0
