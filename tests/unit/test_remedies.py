"""The remedies for overfitting: each does what its setting says, and none is disturbed by an interruption."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fer import train as training
from fer.checkpoint import load_checkpoint
from fer.config import Config, ModelConfig, with_settings
from fer.data import dataset
from fer.data.sample import VERSION, draw_face
from fer.device import Runtime
from fer.evaluate import compute_logits
from fer.jobs import create_run
from fer.models import build_model
from fer.models.summary import summarise
from fer.recipes import RECIPES, get_recipe
from fer.train import Learner, Watcher, balanced_order, fit, rarity

LABELS = torch.tensor([0] * 60 + [1] * 20 + [2] * 20)
CPU = Runtime(torch.device("cpu"), "fp32", 1)


def learner(**changes) -> Learner:
    """A fresh one on the CPU; three classes, the first three times as frequent as the others."""
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    return Learner.fresh(with_settings(Config(), settings), LABELS, 3, CPU)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """32 pictures with labels."""
    draws = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (32, 48, 48), dtype=torch.uint8, generator=draws), torch.arange(32) % 3


def gradients_by_hand(one: Learner, images: torch.Tensor, loss_of) -> list[torch.Tensor]:
    """The gradients of `loss_of(logits)` at the learner's weights."""
    model = copy.deepcopy(one.model)
    return list(torch.autograd.grad(loss_of(model(one.preprocess(images))), list(model.parameters())))


def assert_gradients(one: Learner, expected: list[torch.Tensor]) -> None:
    for parameter, gradient in zip(one.model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-6)


def test_smoothing_changes_the_gradient_and_not_the_loss_that_is_shown(batch):
    images, labels = batch
    one = learner(train__label_smoothing=0.2)
    plain, _ = learner().step(images, labels, 0.001, 0)
    expected = gradients_by_hand(
        one, images, lambda logits: functional.cross_entropy(logits, labels, label_smoothing=0.2)
    )
    shown, _ = one.step(images, labels, 0.001, 0)
    assert shown == pytest.approx(plain.item(), rel=1e-5)
    assert_gradients(one, expected)


def test_rarity_is_one_where_classes_are_equally_frequent_and_zero_for_an_absent_one():
    assert rarity(torch.arange(9) % 3, 3).tolist() == [1, 1, 1]
    assert rarity(LABELS, 4).tolist() == pytest.approx([100 / 240, 100 / 80, 100 / 80, 0])


def test_balance_in_the_loss_weighs_rare_classes_more(batch):
    images, labels = batch
    one = learner(train__balance="loss")
    weights = torch.tensor([100 / 180, 100 / 60, 100 / 60])
    expected = gradients_by_hand(one, images, lambda logits: functional.cross_entropy(logits, labels, weight=weights))
    one.step(images, labels, 0.001, 0)
    assert_gradients(one, expected)


def test_smoothing_beside_balance_goes_to_all_classes_alike(batch):
    images, labels = batch
    one = learner(train__balance="loss", train__label_smoothing=0.2)
    of_each = torch.tensor([100 / 180, 100 / 60, 100 / 60])[labels]

    def loss(logits: torch.Tensor) -> torch.Tensor:
        target = 0.8 * functional.one_hot(labels, 3) + 0.2 / 3
        return (of_each * -(target * logits.log_softmax(1)).sum(1)).sum() / of_each.sum()

    expected = gradients_by_hand(one, images, loss)
    one.step(images, labels, 0.001, 0)
    assert_gradients(one, expected)


def test_balance_in_sampling_shows_each_class_about_as_often():
    order = balanced_order(0, 0, LABELS.repeat(30), 3)
    counts = torch.bincount(LABELS.repeat(30)[order])
    assert len(order) == 3000
    assert (counts - 1000).abs().max() < 120
    assert torch.equal(order, balanced_order(0, 0, LABELS.repeat(30), 3))
    assert not torch.equal(order, balanced_order(0, 1, LABELS.repeat(30), 3))


def test_long_gradients_are_shortened_and_short_ones_left(batch):
    free, clipped, loose = learner(), learner(train__clip_norm=0.01), learner(train__clip_norm=1e6)
    norms = []
    for one in (free, clipped, loose):
        one.step(*batch, 0.001, 0)
        norms.append(math.sqrt(sum(float(p.grad.norm()) ** 2 for p in one.model.parameters())))
    assert norms[0] > 0.05
    assert norms[1] == pytest.approx(0.01, rel=1e-3)
    assert norms[2] == pytest.approx(norms[0], rel=1e-5)


def test_the_running_mean_follows_the_weights_and_has_its_batch_norm(batch):
    one = learner(train__ema_decay=0.9, model__batch_norm=True)
    mean = copy.deepcopy(one.model.state_dict())
    for number in range(20):
        one.step(*batch, 0.001, number)
        decay = min(0.9, (1 + number) / (10 + number))
        for key, now in one.model.state_dict().items():
            mean[key] = decay * mean[key] + (1 - decay) * now if now.is_floating_point() else now.clone()
    assert one.shown is one.mean
    for key, kept in one.mean.state_dict().items():
        torch.testing.assert_close(kept, mean[key])
    assert not torch.equal(mean["2.running_mean"], one.model.state_dict()["2.running_mean"])
    plain = learner()
    assert plain.mean is None
    assert plain.shown is plain.model


def test_mixup_blends_two_pictures_and_their_labels(batch, monkeypatch):
    images, labels = batch
    partner = torch.arange(31, -1, -1)
    monkeypatch.setattr(training, "mixup_draws", lambda *_: (0.75, partner))
    one = learner(augment__mixup=0.4)
    model = copy.deepcopy(one.model)
    inputs = one.preprocess(images)
    logits = model(0.75 * inputs + 0.25 * inputs[partner])
    loss = 0.75 * functional.cross_entropy(logits, labels) + 0.25 * functional.cross_entropy(logits, labels[partner])
    expected = list(torch.autograd.grad(loss, list(model.parameters())))
    shown, _ = one.step(images, labels, 0.001, 0)
    assert_gradients(one, expected)
    assert shown == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("name", ["baseline", "grouped-conv", "depthwise-conv", "dilated-conv", "compact"])
def test_every_network_takes_width_dropout_and_batch_norm(name):
    config = ModelConfig(name=name, width=0.5, dropout=0.3, batch_norm=True, hidden_layers=1)
    kinds = [layer["kind"] for layer in summarise(config)["layers"]]
    assert summarise(config)["num_params"] < summarise(ModelConfig(name=name))["num_params"]
    assert kinds.count("BatchNorm2d") >= 3
    assert kinds.count("Dropout") == kinds.count("Linear") == (1 if name == "compact" else 2)
    assert kinds.count("Conv2d") == [x["kind"] for x in summarise(ModelConfig(name=name))["layers"]].count("Conv2d")


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    model = build_model(ModelConfig(dropout=0.5), 7)
    images = torch.randn(4, 3, 48, 48)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


def test_without_hidden_layers_one_linear_layer_is_left():
    model = build_model(ModelConfig(hidden_layers=0), 7)
    assert [(m.in_features, m.out_features) for m in model if isinstance(m, nn.Linear)] == [(512, 7)]


@pytest.mark.parametrize(
    ("tops", "epochs"),
    [((0.3, 0.2, 0.3, 0.9), 3), ((0.2, 0.4, 0.3, 0.4, 0.9), 4), ((0.1, 0.2, 0.3, 0.3, 0.4, 0.5), 6)],
)
def test_patience_counts_from_the_first_of_equals(store, make_run, monkeypatch, tops, epochs):
    """The validation's answers are put in its place."""
    make_run("a", train__epochs=len(tops), train__patience=2, model__name="compact", model__width=0.25)
    answers = iter(tops)
    monkeypatch.setattr(training, "top1", lambda *_: next(answers))
    assert [row["val_top1"] for row in fit(store, "a").metrics] == list(tops[:epochs])


def test_early_stopping_ends_the_run_and_keeps_the_best_weights(store, make_run):
    make_run("a", train__epochs=30, train__patience=2, optim__lr=1e-9)  # at such a rate nothing gets better
    said: list[str] = []
    run = fit(store, "a", Watcher(log=said.append))
    assert run.state == "finished"
    assert len(run.metrics) == run.best["epoch"] + 2 < 30
    assert any("ended early: no better val top-1 in 2 epochs" in line for line in said)
    assert load_checkpoint(run.path / "best.safetensors").epoch == run.best["epoch"]
    assert run.report()["epoch"] == run.best["epoch"]
    assert run.progress == 1.0


def test_what_is_kept_is_the_running_mean(store, make_run, tiny):
    make_run("a", train__ema_decay=0.95, train__epochs=2)
    run = fit(store, "a")
    last = load_checkpoint(run.path / "last.safetensors")
    images, labels = tiny.subset("val")
    top1 = (compute_logits(last.model, last.preprocess, torch.from_numpy(images)).argmax(1) == labels).mean()
    assert top1 == pytest.approx(run.last["val_top1"])
    saved = torch.load(run.path / "resume.pt", weights_only=True)
    assert not all(torch.equal(saved["mean"][k], saved["model"][k]) for k in saved["model"])


def test_all_remedies_together_stopped_and_resumed_are_the_same_as_undisturbed(store, make_run, monkeypatch):
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)
    changes = {
        "train__epochs": 4,
        "train__patience": 3,
        "train__ema_decay": 0.9,
        "train__label_smoothing": 0.1,
        "train__balance": "sampling",
        "train__clip_norm": 1.0,
        "model__dropout": 0.2,
        "model__batch_norm": True,
        "augment__flip": True,
        "augment__rotate": 10.0,
        "augment__scale": 0.1,
        "augment__light": 0.2,
        "augment__erase": 0.5,
        "augment__mixup": 0.2,
        "schedule__name": "one-cycle",
    }
    make_run("whole", **changes)
    whole = fit(store, "whole")
    make_run("parted", **changes)
    looks = iter(range(10_000))
    fit(store, "parted", Watcher(should_stop=lambda: next(looks) == 11))  # in the third epoch
    assert store.get("parted").state == "stopped"
    assert len(store.get("parted").metrics) == 2
    store.requeue("parted")
    parted = fit(store, "parted")

    def figures(run) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k != "epoch_seconds"} for row in run.metrics]

    assert figures(parted) == figures(whole)
    for name in ("best", "last"):
        a, b = (load_checkpoint(run.path / f"{name}.safetensors").model.state_dict() for run in (whole, parted))
        assert all(np.array_equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def few_faces() -> dataset.Dataset:
    """140 train and 70 val faces, drawn as the sample's are and under its name."""
    drawn = [draw_face(dataset.CLASSES[i % 7], np.random.default_rng((VERSION, i))) for i in range(210)]
    return dataset.Dataset(
        dataset.SAMPLE,
        np.stack(drawn),
        np.arange(210) % 7,
        np.repeat(np.uint8([0, 1]), [140, 70]),
        np.array([f"face-{i}" for i in range(210)]),
        meta={"synthetic": True, "version": VERSION},
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_an_epoch_on_sample_faces(store, few_faces, name, resnet18_file):
    dataset.save(few_faces)
    changes = {"data.name": dataset.SAMPLE, "train.epochs": 1, "runtime.device": "cpu", "runtime.threads": 1}
    if name == "transfer-resnet18":
        changes |= {"model.weights": str(resnet18_file), "model.input_side": 48}
    run = create_run(store, with_settings(get_recipe(name).config(), changes), recipe=name)
    done = fit(store, run.id)
    assert (done.state, done.synthetic, done.report("val")["n"]) == ("finished", True, 70)
    assert math.isfinite(done.last["train_loss"])
