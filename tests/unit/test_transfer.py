"""torchvision's networks: theirs in all but the last layer, begun from a file, frozen, slowed by depth, and resumed to the bit."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional
from torchvision import models
from torchvision.models._api import WeightsEnum

from fer import train as training
from fer.checkpoint import load_checkpoint
from fer.cli import main
from fer.config import TRANSFER, Config, ModelConfig, read_config, with_settings
from fer.cost import estimate
from fer.device import Runtime
from fer.errors import CheckpointError, ConfigError
from fer.jobs import submit
from fer.models import build_model
from fer.models.summary import networks, summarise
from fer.models.transfer import BACKBONES, load_first_weights, load_weights, read_weights
from fer.optim import build_optimizer
from fer.pretrained import PUBLISHED, kept_path
from fer.runs import RunStore
from fer.train import Learner, Watcher, fit
from tests.conftest import tiny_config

# Parameters with seven classes, and multiply-adds at 96x96 pixels
SIZES = {
    "alexnet": (57_032_519, 157_468_352),
    "resnet18": (11_180_103, 333_106_688),
    "resnet34": (21_288_263, 672_845_312),
    "resnet50": (23_522_375, 750_712_832),
    "mobilenet-v3": (4_210_999, 41_789_120),
    "efficientnet-b0": (4_016_515, 71_149_792),
    "convnext-tiny": (27_825_511, 818_227_200),
}
CPU = Runtime(torch.device("cpu"), "fp32", 1)
SMALL = {"model__name": "resnet18", "model__input_side": 48}
every = pytest.mark.parametrize("name", TRANSFER)


def fresh(name: str = "resnet18", **changes) -> nn.Module:
    return build_model(ModelConfig(name=name, **{"input_side": 64, **changes}), 7)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# The networks


def test_the_tables_name_the_same_networks():
    assert tuple(SIZES) == tuple(BACKBONES) == TRANSFER


@every
def test_sizes_are_pinned_and_the_layer_table_adds_up(name):
    found = summarise(ModelConfig(name=name))
    assert (found["num_params"], found["multiply_adds"]) == SIZES[name]
    assert sum(layer["num_params"] for layer in found["layers"]) == found["num_params"]
    assert found["layers"][0]["kind"] == "Resize" and found["layers"][0]["output_shape"] == [3, 96, 96]
    assert found["layers"][-1]["output_shape"] == [7]
    assert all(layer["stage"] for layer in found["layers"])


def test_multiply_adds_are_those_that_torchvision_states_for_its_own_size():
    """Theirs are in thousand millions with 1,000 classes."""
    for name in ("resnet18", "mobilenet-v3", "convnext-tiny"):
        stated = models.get_model_weights(BACKBONES[name].name).DEFAULT.meta["_ops"]
        ours = summarise(ModelConfig(name=name, input_side=224), 1000)["multiply_adds"]
        assert ours / 1e9 == pytest.approx(stated, rel=0.02), name


@every
def test_every_network_is_torchvisions_and_goes_backward(name):
    torch.manual_seed(0)
    theirs, ours = models.get_model(BACKBONES[name].name, num_classes=7).eval(), fresh(name).eval()
    load_weights(ours, theirs.state_dict(), name, "theirs")
    images = torch.randn(2, 3, 48, 48)
    logits = ours(images)
    resized = functional.interpolate(images, size=(64, 64), mode="bilinear")
    assert torch.equal(logits, theirs(resized))
    functional.cross_entropy(logits, torch.tensor([0, 6])).backward()
    for label, parameter in ours.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, label
    before = logits.detach()
    torch.optim.SGD(ours.parameters(), 0.1).step()
    assert not torch.equal(ours(images), before)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet-v3"])
def test_a_small_one_learns_a_batch_by_heart(name):
    torch.manual_seed(0)
    model = fresh(name, input_side=48)
    images, labels = torch.randn(14, 3, 48, 48), torch.arange(14) % 7
    optimizer = torch.optim.Adam(model.parameters(), 0.001)
    for _ in range(15):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@every
def test_dropout_is_as_the_setting_says(name):
    for share in (0.0, 0.3):
        found = [m.p for m in fresh(name, dropout=share).modules() if isinstance(m, nn.Dropout)]
        assert set(found) <= {share}
        assert not share or found  # before the last layer at least


def test_the_table_of_networks_says_what_each_takes(capsys):
    table = {x["name"]: x for x in networks()}
    assert table["resnet18"]["input"] == "48x48, rgb, enlarged to 96x96"
    assert table["compact"]["input"] == "48x48, rgb or grey"
    assert all(x["description"].endswith(".") and x["num_params"] > 0 for x in table.values())
    assert main(["networks"]) == 0
    assert "11,180,103" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "resnet18", "model.channels": "grey"}, r"cannot take model\.channels=grey: set it to rgb"),
        ({"model.name": "alexnet", "model.input_side": 48}, r"alexnet cannot take model\.input_side=48.*64"),
        ({"model.pretrained": True}, r"no weights for baseline.*model\.pretrained=false.*resnet18"),
        ({"model.weights": "a.pth"}, r"no weights for baseline.*model\.weights=none"),
        ({"train.freeze_epochs": 2}, r"train\.freeze_epochs is 2.*baseline has no backbone"),
        ({"optim.layer_decay": 0.5}, r"optim\.layer_decay is 0\.5.*baseline has no backbone"),
        ({"model.name": "compact", "model.batch_norm": True}, r"model\.batch_norm is true, but compact takes neither"),
        ({"model.name": "vgg", "model.hidden_layers": 0}, r"model\.hidden_layers is 0 .*vgg takes neither.*baseline"),
        ({"model.name": "resnet18", "train.freeze_epochs": 2}, r"begins at random and would stay so"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        with_settings(Config(), changes)


def test_a_run_of_before_with_settings_that_its_network_ignores_is_still_read():
    content = Config().model_dump(mode="json")
    content["model"] |= {"name": "compact", "batch_norm": True}
    assert read_config(content).model.batch_norm
    with pytest.raises(ConfigError, match="compact takes neither: set them to 2 and false"):
        with_settings(read_config(content), {"seed": 1})
    assert with_settings(read_config(content), {"model.batch_norm": False}).model.name == "compact"


def test_a_path_is_kept_whole_and_an_empty_one_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ModelConfig(name="resnet18", weights="a.pth").weights == str(tmp_path / "a.pth")
    assert ModelConfig(name="resnet18", weights=" ").weights is None
    assert ModelConfig(name="resnet18", weights="~nobody-of-this-name/a.pth").weights.endswith("a.pth")  # no crash
    elsewhere = r"C:\weights\a.pth"  # another machine's run, looked at here
    assert ModelConfig(name="resnet18", weights=elsewhere).weights == elsewhere


# First weights


def first(path) -> nn.Module:
    config = ModelConfig(name="resnet18", input_side=64, weights=str(path))
    torch.manual_seed(1)
    model = build_model(config, 7)
    load_first_weights(model, config, RunStore())
    return model


def test_a_file_gives_the_backbone_and_leaves_the_last_layer(resnet18_file):
    torch.manual_seed(1)
    before, model = fresh(), first(resnet18_file)
    content = torch.load(resnet18_file, weights_only=True)
    assert content["fc.weight"].shape == (1000, 512)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, content[name]), name
    assert same(model.head, before.head)


def test_a_file_may_be_safetensors_a_training_scripts_or_our_own(resnet18_file, tmp_path):
    content, model = torch.load(resnet18_file, weights_only=True), first(resnet18_file)
    safetensors.torch.save_file(content, tmp_path / "a.safetensors")
    torch.save({"state_dict": content, "epoch": 3}, tmp_path / "b.pth")
    torch.save(model.state_dict(), tmp_path / "c.pt")
    old = {name: tensor for name, tensor in content.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "d.pth")  # as torch wrote it before version 0.4.1
    for name in ("a.safetensors", "b.pth", "c.pt", "d.pth"):
        assert same(first(tmp_path / name), model), name


def test_what_does_not_fit_is_named(resnet18_file, tmp_path):
    content = torch.load(resnet18_file, weights_only=True)
    torch.save({**content, "conv1.weight": torch.zeros(64, 1, 7, 7)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a\.pth do not fit resnet18: backbone\.conv1\.weight is 64x1x7x7 there"):
        first(tmp_path / "a.pth")
    torch.save({n: t for n, t in content.items() if not n.startswith("layer4.1")}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"it lacks backbone\.layer4\.1\.conv1\.weight,.* and 7 more"):
        first(tmp_path / "b.pth")
    torch.save({**content, "neck.weight": torch.zeros(1), "head.x": torch.zeros(1)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"it has besides backbone\.neck\.weight, head\.x\.$"):
        first(tmp_path / "c.pth")


def test_files_that_hold_no_weights_are_refused_and_nothing_in_them_is_run(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")  # a pickled network, which would be code
    (tmp_path / "b.pth").write_bytes(b"no weights")
    (tmp_path / "c.safetensors").write_bytes(b"no weights")
    (tmp_path / "d.pth").write_bytes(b"")
    for name in ("a.pth", "b.pth", "c.safetensors", "d.pth"):
        with pytest.raises(CheckpointError, match=f"{name} is damaged, or holds more than weights"):
            read_weights(tmp_path / name)
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "renamed.safetensors")
    others = {f"{first}.pth": bytes([first, 3, 0]) + b"weights" for first in range(256)}
    for name, content in {"renamed.pth": (tmp_path / "renamed.safetensors").read_bytes(), **others}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            CheckpointError, match=f"{name} (is damaged, or holds more than weights|holds no state dict)"
        ):
            read_weights(tmp_path / name)
    torch.save([torch.zeros(1)], tmp_path / "e.pth")
    with pytest.raises(CheckpointError, match=r"e\.pth holds no state dict"):
        read_weights(tmp_path / "e.pth")


def test_the_published_weights_come_through_torchvisions_loader(resnet18_file, monkeypatch, store, tiny):
    content, asked = torch.load(resnet18_file, weights_only=True), []

    def load(weights, **options):
        asked.append((weights.url.rpartition("/")[2], options["weights_only"], options["check_hash"]))
        return content

    monkeypatch.setattr(WeightsEnum, "get_state_dict", load)
    monkeypatch.setattr("fer.pretrained._reach", lambda network: None)
    config = tiny_config(**SMALL, model__pretrained=True).model
    model = build_model(config, 7)
    load_first_weights(model, config, store)
    assert torch.equal(model.backbone.layer4[1].conv2.weight, content["layer4.1.conv2.weight"])
    assert asked == [(PUBLISHED["resnet18"].file, True, True)]
    load_first_weights(model, config.model_copy(update={"weights": str(resnet18_file)}), store)
    assert len(asked) == 1  # a file is taken first


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)


RECIPE = ("train", "--recipe", "transfer-resnet18", "--dataset", "tiny", "--set", "model.input_side=48")
ONE_EPOCH = ("--set", "train.epochs=1", "--set", "runtime.device=cpu", "--set", "runtime.threads=1")


def test_without_a_network_a_run_is_refused_before_it_has_a_folder(offline, store, tiny, capsys):
    assert main([*RECIPE, *ONE_EPOCH]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    for part in ("resnet18-f37072fd.pth", "45 MB", "no route to host", "model.weights", "model.pretrained=false"):
        assert part in said
    assert store.runs() == []
    with pytest.raises(CheckpointError, match="cannot be fetched"):
        submit(store, [(None, tiny_config()), (None, tiny_config(**SMALL, model__pretrained=True))])
    assert store.runs() == []


def test_without_a_network_a_file_is_enough(offline, store, tiny, resnet18_file, capsys):
    assert main([*RECIPE, *ONE_EPOCH, "--set", f"model.weights={resnet18_file}"]) == 0
    (run,) = store.runs()
    assert run.state == "finished"
    assert run.config.model.weights == str(resnet18_file)
    assert run.status["first_weights"]["file"] == resnet18_file.name
    assert len(run.status["first_weights"]["sha256"]) == 64


def test_a_network_that_goes_away_in_between_fails_the_run_with_the_same_words(offline, make_run, store, monkeypatch):
    monkeypatch.setattr("fer.pretrained._reach", lambda network: None)
    make_run("a", **SMALL, model__pretrained=True)
    with pytest.raises(
        CheckpointError, match=r"cannot be fetched here \(no route to host\): bring .*resnet18-f37072fd"
    ):
        fit(store, "a")
    assert "cannot be fetched" in store.get("a").status["error"]


def test_torchvisions_file_that_was_changed_is_named_and_nothing_is_fetched(
    offline, store, tiny, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = kept_path("resnet18")
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(range(256)) * 400)
    assert main([*RECIPE, *ONE_EPOCH]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        f"torchvision's file {path} is damaged. Delete it, so that it is fetched anew, or set model.weights to another."
    )
    assert not any("weights_only" in line or "fetched here" in line for line in said)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, value):
    tensors = models.resnet18().state_dict()
    tensors["layer2.0.conv1.weight"][0, 0, 0, 0] = value
    tensors["layer3.0.conv1.weight"][0, 0, 0, 0] = value
    path = tmp_path / "diverged.safetensors"
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(
        CheckpointError, match=r"in diverged.safetensors hold .*backbone.layer2.0.conv1.weight and 1 more"
    ):
        load_first_weights(fresh(), ModelConfig(name="resnet18", weights=str(path)), RunStore())


def test_a_cost_is_told_without_the_weights(offline, tiny, tmp_path):
    settings = {**SMALL, "train__epochs": 5, "train__freeze_epochs": 2, "model__weights": str(tmp_path / "gone.pth")}
    found = estimate(tiny_config(**settings), seconds=0.1)
    assert 0 < found["frozen_epoch_seconds"] < found["epoch_seconds"]
    assert found["total_seconds"] == pytest.approx(3 * found["epoch_seconds"] + 2 * found["frozen_epoch_seconds"])


# Freezing and rates by depth


def learner(file, **changes) -> Learner:
    config = tiny_config(**SMALL, model__weights=str(file), **changes)
    return Learner.fresh(config, torch.arange(14) % 7, 7, CPU, trained_in=RunStore())


def test_a_frozen_backbone_stands_still_with_its_statistics(resnet18_file):
    one = learner(resnet18_file, train__freeze_epochs=1, train__clip_norm=1.0, optim__weight_decay=0.1)
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    images, labels = torch.randint(0, 256, (14, 48, 48), dtype=torch.uint8), torch.arange(14) % 7
    changed = []
    for epoch in (0, 1):
        one.begin_epoch(epoch)
        assert one.model.training and one.model.backbone.training == bool(epoch)
        one.step(images, labels, 0.001, epoch)
        now = one.model.state_dict()
        changed.append({name for name in now if not torch.equal(now[name], before[name])})
    assert changed[0] == {"head.weight", "head.bias"}
    assert changed[1] == set(before)


def test_each_stage_learns_at_the_next_ones_rate_times_the_decay(resnet18_file):
    one = learner(resnet18_file, optim__layer_decay=0.5)
    one.begin_epoch(0)
    one.step(torch.zeros(14, 48, 48, dtype=torch.uint8), torch.arange(14) % 7, 0.032, 0)
    rates = {id(p): group["lr"] for group in one.optimizer.param_groups for p in group["params"]}
    by_name = {name: rates.pop(id(p)) for name, p in one.model.named_parameters()}
    assert not rates
    expected = {"head": 0.032, "backbone.layer4": 0.016, "backbone.layer3": 0.008, "backbone.layer2": 0.004,
                "backbone.layer1": 0.002, "backbone.bn1": 0.001, "backbone.conv1": 0.001}  # fmt: skip
    for name, rate in by_name.items():
        assert rate == pytest.approx(next(r for part, r in expected.items() if name.startswith(part))), name


@every
def test_the_stages_hold_every_parameter_once_and_stand_in_order(name):
    model = fresh(name)
    held = [id(p) for stage in model.parameters_by_stage().values() for p in stage]
    assert held == [id(p) for p in model.parameters()]
    assert len(model.parameters_by_stage()) in (6, 7)
    assert [id(p) for p in list(model.parameters_by_stage().values())[-1]] == [id(p) for p in model.head.parameters()]


def test_without_decay_there_is_one_group():
    config = with_settings(Config(), {"model.name": "resnet18"})
    assert len(build_optimizer(config, build_model(config.model, 7)).param_groups) == 1


# A run


def test_stopped_while_frozen_and_after_is_the_same_as_undisturbed(store, make_run, tmp_path, monkeypatch):
    """With all at once; EfficientNet leaves out layers and values at random; the file is gone when the run goes on."""
    monkeypatch.setattr(training, "_REPORT_SECONDS", 0.0)
    torch.save(models.efficientnet_b0().state_dict(), tmp_path / "first.pth")
    settings = {
        "model__name": "efficientnet-b0", "model__input_side": 48, "model__weights": str(tmp_path / "first.pth"),
        "model__dropout": 0.2, "optim__name": "muon", "optim__layer_decay": 0.7, "train__freeze_epochs": 1,
        "train__epochs": 2, "train__ema_decay": 0.9, "augment__flip": True, "schedule__name": "cosine",
    }  # fmt: skip
    make_run("whole", **settings)
    left = {1: set(), 2: set()}
    whole = fit(store, "whole", Watcher(on_progress=lambda p: left[p.epoch].add(p.seconds_left)))
    assert left[1] == {None} and left[2] and None not in left[2]  # frozen steps do not tell how long the others take
    make_run("parted", **settings)
    for looks in (2, 4):  # in the first epoch, in which the backbone is frozen; in the second
        left = iter(range(looks))
        fit(store, "parted", Watcher(should_stop=lambda left=left, looks=looks: next(left) == looks - 1))
        assert store.requeue("parted").state == "queued"
        (tmp_path / "first.pth").unlink(missing_ok=True)
    parted = fit(store, "parted")
    rows = [[{k: v for k, v in row.items() if k != "epoch_seconds"} for row in run.metrics] for run in (whole, parted)]
    assert rows[0] == rows[1] and len(rows[0]) == 2
    for name in ("best", "last"):
        a, b = (safetensors.torch.load_file(run.path / f"{name}.safetensors") for run in (whole, parted))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    assert parted.status["first_weights"] == whole.status["first_weights"]


def test_a_trained_checkpoint_needs_neither_the_file_nor_a_network(offline, store, make_run, resnet18_file, tmp_path):
    file = tmp_path / "copy.pth"
    file.write_bytes(resnet18_file.read_bytes())
    make_run("a", **SMALL, model__weights=str(file), model__pretrained=True, train__epochs=1)
    run = fit(RunStore(), "a")
    file.unlink()
    best = load_checkpoint(run.path / "best.safetensors")
    assert best.config.model.weights == str(file)
    assert best.model(torch.zeros(1, 3, 48, 48)).shape == (1, 7)
    assert run.report("val")["n"] == 70
