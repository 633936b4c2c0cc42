"""Every schedule against torch's own scheduler, stepped as torch means it to be: at each step or after each epoch."""

from __future__ import annotations

import pytest
import torch
from torch.optim import lr_scheduler as torchs

from fer.config import Config, with_settings
from fer.recipes import RECIPES
from fer.schedules import lr_at, plateau_cuts

STEPS, EPOCHS, LR = 7, 12, 0.02


def config(**schedule) -> Config:
    changes = {f"schedule.{key}": value for key, value in schedule.items()}
    return with_settings(Config(), {"optim.lr": LR, "train.epochs": EPOCHS, **changes})


def ours(cfg: Config, val_losses=()) -> list[float]:
    """The rate of every step of the run."""
    return [lr_at(cfg, step, STEPS, val_losses[: step // STEPS]) for step in range(cfg.train.epochs * STEPS)]


def of_torch(build, *, per_epoch: bool = False, steps: int = EPOCHS * STEPS) -> list[float]:
    """The rates that a torch scheduler gives over the same run."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = build(optimizer)
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1 and (not per_epoch or (step + 1) % STEPS == 0):
            scheduler.step()
    return rates


def same(a: list[float], b: list[float]) -> None:
    assert a == pytest.approx(b, rel=1e-9, abs=1e-15)


TOTAL = EPOCHS * STEPS
PER_EPOCH = {
    "step": ({"name": "step", "step_size": 5, "gamma": 0.5}, lambda o: torchs.StepLR(o, 5, 0.5)),
    "step of one epoch": ({"name": "step", "step_size": 1, "gamma": 0.7}, lambda o: torchs.StepLR(o, 1, 0.7)),
    "exponential": ({"name": "exponential", "gamma": 0.9}, lambda o: torchs.ExponentialLR(o, 0.9)),
    "constant": ({"name": "constant"}, lambda o: torchs.ConstantLR(o, 1.0)),
}
PER_STEP = {
    "straight line": ({"name": "polynomial"}, lambda o, n: torchs.PolynomialLR(o, n, 1.0)),
    "polynomial": ({"name": "polynomial", "power": 2.5}, lambda o, n: torchs.PolynomialLR(o, n, 2.5)),
    "cosine": ({"name": "cosine"}, lambda o, n: torchs.CosineAnnealingLR(o, n)),
    "cosine to a tenth": (
        {"name": "cosine", "final_fraction": 0.1},
        lambda o, n: torchs.CosineAnnealingLR(o, n, eta_min=0.1 * LR),
    ),
    "one-cycle": ({"name": "one-cycle"}, lambda o, n: torchs.OneCycleLR(o, LR, total_steps=n, cycle_momentum=False)),
    "other one-cycle": (
        {"name": "one-cycle", "pct_start": 0.17, "div_factor": 7, "final_div_factor": 50},
        lambda o, n: torchs.OneCycleLR(
            o, LR, total_steps=n, pct_start=0.17, div_factor=7, final_div_factor=50, cycle_momentum=False
        ),
    ),
}


@pytest.mark.parametrize("case", PER_EPOCH)
def test_schedules_by_the_epoch_agree_with_torch(case):
    settings, build = PER_EPOCH[case]
    same(ours(config(**settings)), of_torch(build, per_epoch=True))


@pytest.mark.parametrize("case", PER_STEP)
def test_schedules_by_the_step_agree_with_torch(case):
    settings, build = PER_STEP[case]
    same(ours(config(**settings)), of_torch(lambda o: build(o, TOTAL)))


# torch steps the second scheduler of a chain without arguments, which ReduceLROnPlateau does not allow; one-cycle brings
# its own first rate, which SequentialLR does not set on entry. Both are compared behind the warm-up below.
@pytest.mark.parametrize("case", [c for c in PER_STEP if "one-cycle" not in c])
@pytest.mark.parametrize("epochs", [1, 2.5])
def test_warm_up_agrees_with_torchs_linear_lr_in_front(case, epochs):
    settings, build = PER_STEP[case]
    warm = round(epochs * STEPS)

    def chain(optimizer):
        rise = torchs.LinearLR(optimizer, start_factor=1 / (warm + 1), end_factor=1.0, total_iters=warm)
        return torchs.SequentialLR(optimizer, [rise, build(optimizer, TOTAL - warm)], milestones=[warm])

    same(ours(config(**settings, warmup_epochs=epochs)), of_torch(chain))


@pytest.mark.parametrize("case", PER_EPOCH)
def test_warm_up_in_front_of_a_schedule_by_the_epoch(case):
    settings, _ = PER_EPOCH[case]
    rates = ours(config(**settings, warmup_epochs=2))
    warm = 2 * STEPS
    assert rates[:warm] == pytest.approx([LR * (i + 1) / (warm + 1) for i in range(warm)])
    same(rates[warm:], ours(config(**settings))[: TOTAL - warm])


def test_one_cycle_after_a_warm_up_is_one_cycle_over_what_is_left():
    settings, build = PER_STEP["one-cycle"]
    warm = 2 * STEPS
    rates = ours(config(**settings, warmup_epochs=2))
    same(rates[warm:], of_torch(lambda o: build(o, TOTAL - warm), steps=TOTAL - warm))


@pytest.mark.parametrize(
    "losses",
    [
        [2.0, 1.9, 1.9, 1.9, 1.9, 1.8, 1.7, 1.7, 1.7, 1.7, 1.7, 1.7],
        [2.0] * 12,
        [2.0 - 0.1 * i for i in range(12)],
        [2.0, 1.9999, 1.9998, 1.9997, 1.9, 1.95, 1.96, 1.97, 1.98, 1.99, 2.0, 1.0],
    ],
)
@pytest.mark.parametrize("patience", [0, 1, 2])
def test_plateau_agrees_with_torch(losses, patience):
    cfg = config(name="plateau", factor=0.5, patience=patience)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = torchs.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, eps=0)
    rates = []
    for loss in losses:
        rates += [optimizer.param_groups[0]["lr"]] * STEPS
        scheduler.step(loss)
    same(ours(cfg, losses), rates)


@pytest.mark.parametrize(("warm", "behind"), [(2, 2), (1.5, 2), (0.25, 1), (0, 0)])
def test_plateau_judges_no_epoch_of_the_warm_up(warm, behind):
    stalled, then = [2.0] * behind, [2.1, 2.1, 1.9, 1.9, 1.8, 1.8]
    cfg = config(name="plateau", factor=0.5, patience=0, warmup_epochs=warm)
    plain = config(name="plateau", factor=0.5, patience=0)
    warm_up, rates = round(warm * STEPS), ours(cfg, [*stalled, *then])
    assert rates[:warm_up] == pytest.approx([LR * (i + 1) / (warm_up + 1) for i in range(warm_up)])
    assert rates[warm_up : behind * STEPS] == [LR] * (behind * STEPS - warm_up)
    same(rates[behind * STEPS : (behind + 6) * STEPS], ours(plain, then)[: 6 * STEPS])


def test_plateau_starts_at_the_base_rate_and_ignores_what_comes_later():
    assert plateau_cuts([], 2) == 0
    assert [plateau_cuts([1.0] * n, 2) for n in range(1, 11)] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("steps_per_epoch", [1, 2, 450])
@pytest.mark.parametrize("epochs", [1, 2, 25])
def test_no_recipe_leaves_the_range_of_its_rate(name, steps_per_epoch, epochs):
    cfg = with_settings(RECIPES[name].config(), {"train.epochs": epochs})
    rates = [lr_at(cfg, step, steps_per_epoch) for step in range(epochs * steps_per_epoch)]
    assert all(0 < rate <= cfg.optim.lr * (1 + 1e-12) for rate in rates)


def test_a_step_says_its_rate_without_the_steps_before_it():
    cfg = config(name="one-cycle")
    forward = [lr_at(cfg, step, STEPS) for step in range(TOTAL)]
    assert [lr_at(cfg, step, STEPS) for step in reversed(range(TOTAL))] == forward[::-1]
