"""Training that is killed goes on to the same weights; early stopping; what is refused."""

import itertools
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPO
from torch import nn

from echofm_jax.errors import InputError
from echofm_jax.pytorch.fitting import Job, draw, fit, rate, stale
from echofm_jax.pytorch.recipe import PRECISIONS, Recipe

STEPS = 4
RECIPE = {"epochs": 5, "patience": 0, "lr": 0.02}


def module() -> nn.Sequential:
    """A head with dropout on a layer that does not learn."""
    torch.manual_seed(5)
    built = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.3), nn.Linear(16, 1))
    built[0].bias.requires_grad_(False)
    return built


def job_for(model: nn.Module, kill: tuple[int, int] = (-1, -1), **changes) -> Job:
    """Learn a sum; `kill` the process for good before a batch of an epoch."""

    def batches(epoch: int):
        generator = torch.Generator().manual_seed(draw("data", epoch))
        for step in range(STEPS):
            if (epoch, step) == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            yield torch.randn(32, 8, generator=generator)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (model(x)[:, 0].float() - x.sum(1)).square().mean()

    def score() -> float:
        return -float(loss(torch.linspace(-1, 1, 80).view(10, 8)))

    learning = [p for p in model.parameters() if p.requires_grad]
    parts = {"groups": [{"params": learning, "lr": RECIPE["lr"]}], "steps": STEPS, "key": "a"}
    return Job(**{"module": model, "batches": batches, "loss": loss, "score": score}
               | parts | changes)  # fmt: skip


def killed(folder: Path) -> None:
    """In a process of its own: a training a precision, killed in its third epoch."""
    for precision in PRECISIONS:
        if not (child := os.fork()):
            recipe = Recipe(**RECIPE, precision=precision)
            fit(job_for(module(), kill=(2, 2)), recipe, 3, folder / f"{precision}.pt")
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_a_start_that_no_epoch_betters_is_kept(tmp_path):
    """What was fitted before is not lost to a rate that is too high."""
    for fitted in (True, False):
        model = module()
        before = [p.detach().clone() for p in model.parameters()]
        falling = map(float, range(0, -99, -1))
        worse = job_for(model, fitted=fitted, score=falling.__next__)
        history = fit(worse, Recipe(**RECIPE), 3, tmp_path / f"{fitted}.pt")
        assert len(history) == 5
        same = all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
        assert same == fitted


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    code = "import sys, pathlib, test_fitting; test_fitting.killed(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", code, folder], check=True, cwd=REPO / "tests",
        env=os.environ | {"PYTHONPATH": str(REPO)},
    )  # fmt: skip
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_in_an_epoch_it_ends_with_the_same_bits(left_behind, tmp_path, precision):
    recipe = Recipe(**RECIPE, precision=precision)
    whole, resumed = module(), module()
    history = fit(job_for(whole), recipe, 3, tmp_path / "state.pt")
    asked = []
    job = job_for(resumed)

    def batches(epoch: int):
        asked.append(epoch)
        return job.batches(epoch)

    file = left_behind / f"{precision}.pt"
    assert fit(job_for(resumed, batches=batches), recipe, 3, file) == history
    assert asked == [2, 3, 4] and len(history) == 5
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    assert history[-1]["loss"] < history[0]["loss"]
    assert not torch.equal(whole[0].weight, module()[0].weight)
    assert torch.equal(whole[0].bias, module()[0].bias)
    if precision != "float32":
        exact = module()
        assert fit(job_for(exact), Recipe(**RECIPE), 3, tmp_path / "other.pt") != history


def test_another_seed_drops_others(tmp_path):
    losses = [
        fit(job_for(module()), Recipe(**RECIPE), seed, tmp_path / f"{seed}.pt")[0]["loss"]
        for seed in (1, 2)
    ]
    assert losses[0] != losses[1]


def scripted(scores: list[float], patience: int, tmp_path) -> tuple[list[dict], list, nn.Module]:
    """(history, the weights after each epoch, the model) of a training with these scores."""
    model, seen = module(), []

    def score() -> float:
        assert not model.training and not torch.is_grad_enabled()
        seen.append(model[3].weight.detach().clone())
        return scores[len(seen) - 1]

    recipe = Recipe(**RECIPE | {"epochs": len(scores), "patience": patience})
    return fit(job_for(model, score=score), recipe, 0, tmp_path / "state.pt"), seen, model


@pytest.mark.parametrize(("patience", "epochs"), [(2, 4), (3, 5), (0, 6)])
def test_the_best_epoch_is_kept(tmp_path, patience, epochs):
    """The first of two equal ones; and no epoch after `patience` without a better one."""
    history, seen, model = scripted([1.0, 3.0, 3.0, 2.0, 0.0, 1.0], patience, tmp_path)
    assert [h["epoch"] for h in history] == list(range(1, epochs + 1))
    assert torch.equal(model[3].weight, seen[1]) and not torch.equal(seen[1], seen[2])
    assert not model.training


def test_stopped_early_it_stays_stopped(tmp_path):
    history, seen, _ = scripted([3.0, 2.0, 1.0, 0.0], 2, tmp_path)
    again, asked, model = scripted([9.0] * 4, 2, tmp_path)
    assert again == history and len(history) == 3 and asked == []
    assert torch.equal(model[3].weight, seen[0])


def test_the_state_of_another_training_is_not_taken(tmp_path):
    file = tmp_path / "state.pt"
    first = fit(job_for(module()), Recipe(**RECIPE), 1, file)
    model, fresh = module(), module()
    other = fit(job_for(model, key="b"), Recipe(**RECIPE), 2, file)
    assert other != first
    assert other == fit(job_for(fresh), Recipe(**RECIPE), 2, tmp_path / "other.pt")
    assert torch.equal(model[3].weight, fresh[3].weight)


def test_what_does_not_learn_is_not_kept(tmp_path):
    fit(job_for(module()), Recipe(**RECIPE), 1, tmp_path / "state.pt")
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert set(kept["module"]) == set(kept["best"]) == {"0.weight", "3.weight", "3.bias"}
    assert not list(tmp_path.glob(".*"))


def test_a_loss_that_is_no_number(tmp_path):
    model = module()
    job = job_for(model, loss=lambda x: model(x).mean() * math.nan)
    with pytest.raises(InputError, match=r"the loss is nan in epoch 1: lower --config\.lr"):
        fit(job, Recipe(**RECIPE), 0, tmp_path / "state.pt")
    job = job_for(module(), score=lambda: math.nan)
    with pytest.raises(InputError, match=r"validation is no number in epoch 1"):
        fit(job, Recipe(**RECIPE), 0, tmp_path / "state.pt")
    assert not list(tmp_path.iterdir())


def test_an_epoch_without_a_batch(tmp_path):
    job = job_for(module(), batches=lambda epoch: [] if epoch else [torch.ones(4, 8)])
    with pytest.raises(InputError, match="nothing to train on in epoch 2: label more frames"):
        fit(job, Recipe(**RECIPE), 0, tmp_path / "state.pt")


def test_out_of_memory_is_one_line_with_what_helps(tmp_path):
    def loss(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    with pytest.raises(InputError, match=r"cpu is out of memory: halve --config\.batch, or use"):
        fit(job_for(module(), loss=loss), Recipe(**RECIPE), 0, tmp_path / "state.pt")


def test_a_disk_that_takes_nothing(tmp_path):
    with pytest.raises(InputError, match=r"state\.pt: cannot be written .*: free some space"):
        fit(job_for(module()), Recipe(**RECIPE), 0, tmp_path / "none" / "state.pt")


def test_gradients_are_clipped_and_layers_learn_at_their_rates(tmp_path):
    """Adam's first step is the rate, whatever the gradient; clipped to nothing it is none."""
    model, before = module(), module()
    groups = [{"params": [model[0].weight], "lr": 0.01, "weight_decay": 0.0},
              {"params": [model[3].weight], "lr": 0.001, "weight_decay": 0.0}]  # fmt: skip
    fit(job_for(model, groups=groups, steps=1, batches=lambda _: [torch.ones(4, 8)]),
        Recipe(epochs=1, warmup=0.0), 0, tmp_path / "a.pt")  # fmt: skip
    moved = [(model[i].weight - before[i].weight).abs().max().item() for i in (0, 3)]
    assert moved == pytest.approx([0.01, 0.001], rel=0.01)
    assert torch.equal(model[3].bias, before[3].bias)
    model = module()
    fit(job_for(model), Recipe(**RECIPE, clip_norm=1e-12), 0, tmp_path / "b.pt")
    assert (model[3].weight - before[3].weight).abs().max() < 0.03


def test_warm_up_then_half_a_cosine():
    recipe = Recipe(warmup=0.2)
    rates = [rate(step, 20, recipe) for step in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0] and rates[4] == 1.0
    assert rates[12] == pytest.approx(0.5)
    assert all(a > b > 0 for a, b in itertools.pairwise(rates[4:]))


def test_patience():
    history = [{"score": s} for s in (1.0, 2.0, 2.0, 1.5)]
    assert [stale(history[:n], 2) for n in range(5)] == [False, False, False, False, True]
    assert not stale(history, 0) and not stale(history, 3)


def test_every_use_draws_its_own_seed():
    assert len({draw(0, 1), draw(1, 0), draw(0, 1, 0), draw(0, "1"), draw(0)}) == 5
    assert draw(0, 1) == draw(0, 1) < 2**48
