"""Optimizers: the settings reach them, and Muon is what its paper says, held to plain arithmetic and to torch's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fer.config import Config, ModelConfig, with_settings
from fer.models import build_model
from fer.optim import Muon, build_optimizer, hidden_kernels, orthogonalised, set_rate
from fer.train import fit


def muon(model: nn.Module, kernels: list[nn.Parameter], **changes) -> Muon:
    settings = {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, **changes}
    return Muon([{"params": list(model.parameters())}], kernels, **settings)


def newton_schulz(matrix: np.ndarray) -> np.ndarray:
    """The quintic iteration as the paper has it, in double precision, rows not more than columns."""
    if matrix.shape[0] > matrix.shape[1]:
        return newton_schulz(matrix.T).T
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
    return x


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (12, 5)])
def test_an_orthogonalised_matrix_keeps_its_directions_and_loses_its_sizes(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalised(matrix)
    np.testing.assert_allclose(found.numpy(), newton_schulz(matrix.numpy().astype(np.float64)), atol=1e-4)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ found @ v.T  # diagonal where the singular vectors are the same
    sizes = inner.diagonal()
    assert (inner - torch.diag(sizes)).abs().max() < 1e-3
    assert sizes.min() > 0.3 and sizes.max() < 1.3
    assert orthogonalised(torch.zeros(3, 4)).eq(0).all()


@pytest.mark.parametrize("nesterov", [True, False])
def test_kernels_move_as_the_papers_formulas_say(nesterov):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, bias=False).double()
    optimizer = muon(conv, [conv.weight], nesterov=nesterov)
    weight = conv.weight.detach().numpy().reshape(6, 36).copy()
    mean = np.zeros_like(weight)
    for _ in range(3):
        gradient = torch.randn_like(conv.weight)
        conv.weight.grad = gradient.clone()
        optimizer.step()
        g = gradient.numpy().reshape(6, 36)
        mean = 0.9 * mean + 0.1 * g
        update = newton_schulz(0.9 * mean + 0.1 * g if nesterov else mean)
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 36**0.5 * update
        np.testing.assert_allclose(conv.weight.detach().numpy().reshape(6, 36), weight, atol=1e-10)


def test_on_matrices_it_is_torchs_own_muon():
    torch.manual_seed(0)
    ours = nn.Linear(24, 16, bias=False)
    theirs = copy.deepcopy(ours)
    begin = ours.weight.detach().clone()
    optimizers = [
        muon(ours, [ours.weight]),
        torch.optim.Muon(theirs.parameters(), 0.01, 0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"),
    ]
    for _ in range(5):
        gradient = torch.randn(16, 24)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            model.weight.grad = gradient.clone()
            optimizer.step()
    moved = (theirs.weight - begin).norm()
    assert (ours.weight - theirs.weight).norm() < 0.03 * moved  # theirs computes in bf16


def test_everything_else_is_adamw():
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    theirs = copy.deepcopy(ours)
    kernels = hidden_kernels(ours)
    assert [id(p) for p in kernels] == [id(ours[1].weight)]
    optimizers = [muon(ours, kernels), torch.optim.AdamW(theirs.parameters(), 0.01, weight_decay=0.1)]
    for model, optimizer in zip((ours, theirs), optimizers, strict=True):
        for seed in range(3):
            draws = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=draws)
            optimizer.step()
    for (name, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a, b) == (name != "1.weight"), name


def test_only_hidden_ungrouped_kernels_are_orthogonalised():
    def named(name: str) -> list[str]:
        model = build_model(ModelConfig(name=name), 7)
        chosen = {id(p) for p in hidden_kernels(model)}
        return [n for n, p in model.named_parameters() if id(p) in chosen]

    assert named("baseline") == ["3.weight", "6.weight", "10.weight", "12.weight"]
    assert named("grouped-conv") == ["10.weight", "12.weight"]
    assert named("depthwise-conv") == ["3.1.weight", "6.1.weight", "10.weight", "12.weight"]


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)).to(memory_format=torch.channels_last)
    inputs, labels = torch.randn(8, 6), torch.arange(8) % 2

    def go(model: nn.Module, optimizer: Muon) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    optimizer = muon(model, hidden_kernels(model))
    go(model, optimizer)
    other = copy.deepcopy(model)
    again = muon(other, hidden_kernels(other))
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(2):
        go(model, optimizer)
        go(other, again)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_the_settings_reach_muon_and_the_rate_every_group():
    changes = {"optim.name": "muon", "optim.momentum": 0.8, "optim.nesterov": False, "optim.weight_decay": 0.02}
    config = with_settings(Config(), changes)
    optimizer = build_optimizer(config, build_model(config.model, 7))
    assert isinstance(optimizer, Muon)
    assert [group["kernels"] for group in optimizer.param_groups] == [True, False]
    for group in optimizer.param_groups:
        assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.8, False, 0.02)
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
    optimizer.param_groups[0]["share"] = 0.1
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]


def test_a_run_with_muon_learns(store, make_run):
    make_run("a", optim__name="muon", train__epochs=2, augment__flip=False)
    assert fit(store, "a").best["val_top1"] > 0.6
