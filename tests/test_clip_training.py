"""Training of clip heads on parts of labelled clips: what is fitted, and who is weighed."""

import dataclasses
import math

import discs
import numpy as np
import pytest
import torch

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError
from echofm_jax.pytorch import EchoFMHead
from echofm_jax.pytorch.clip_training import answers, map_batches, part, train_clips
from echofm_jax.pytorch.head_echofm import HeadConfig
from echofm_jax.pytorch.recipe import Recipe


def clip(number: int, each: int = 2) -> LabelledClip:
    patient = f"p{number // each}"
    return LabelledClip(name=str(number), patient=patient, study="s", targets={}, read=None)


def made(task: str, targets, study: bool = False, seed: int = 0, **config):
    """(a head, clips of a part whose maps tell their targets)."""
    names = ("%",) if task == "number" else ("none", "mild", "severe")
    kind = HeadConfig(task=task, target="x", outputs=names, study=study, hidden=8, **config)
    torch.manual_seed(0)
    model = EchoFMHead(discs.tiny(), kind).eval()
    targets = np.array(targets)
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(len(targets), 4, 32, generator=generator) * 0.3
    sign = torch.randn(4, 32, generator=torch.Generator().manual_seed(7))
    maps += sign * torch.from_numpy(targets / max(targets.std(), 1)).float()[:, None, None]
    return model, part([clip(i) for i in range(len(targets))], targets, maps, study)


def train(model, train_part, val_part, tmp_path, **recipe):
    how = Recipe(**{"dropout": 0.0, "epochs": 30, "lr": 0.02, "batch": 4, "patience": 0} | recipe)
    return train_clips(
        model, train_part, val_part, how,
        seed=0, colour=False, state_file=tmp_path / "state.pt", key="a",
    )  # fmt: skip


GRADES = np.repeat(np.arange(12) % 3, 2)


def test_parts_know_their_examinations():
    _, clips_alone = made("grades", GRADES)
    assert clips_alone.studies is None and clips_alone.first.tolist() == list(range(24))
    _, together = made("grades", GRADES, study=True)
    assert together.studies.tolist() == np.repeat(np.arange(12), 2).tolist()
    assert together.first.tolist() == list(range(0, 24, 2))
    with pytest.raises(
        InputError, match=r"clips of one examination have different labels \(0, 1\)"
    ):
        made("grades", np.arange(24) % 3, study=True)


def test_a_frozen_linear_head_needs_no_epoch_and_no_validation(tmp_path):
    numbers = np.repeat(np.linspace(40.0, 70.0, 12), 2)
    model, own = made("number", numbers)
    empty = dataclasses.replace(own, clips=[], targets=own.targets[:0], maps=own.maps[:0])
    assert train(model, own, empty, tmp_path) == [] and not list(tmp_path.iterdir())
    assert float(model.head.offset) == pytest.approx(55) and float(model.head.unit) > 5
    assert np.abs(answers(model, own, own.maps)[:, 0] - numbers).mean() < 2
    with pytest.raises(InputError, match="no validation clips to stop early by"):
        train(model, own, empty, tmp_path, head="mlp")


def test_what_was_fitted_outlives_a_rate_that_is_too_high(tmp_path):
    numbers = np.repeat(np.linspace(40.0, 70.0, 12), 2)
    model, own = made("number", numbers, study=True)
    history = train(model, own, own, tmp_path, study=True, lr=100.0, epochs=2)
    assert min(epoch["loss"] for epoch in history) > 100
    assert np.abs(answers(model, own, own.maps)[:, 0] - numbers[::2]).mean() < 2


@pytest.mark.parametrize("task", ["classes", "grades"])
@pytest.mark.parametrize("kind", ["linear", "mlp", "attentive"])
def test_examinations_are_learned_from_maps(tmp_path, task, kind):
    model, own = made(task, GRADES, study=True, kind=kind)
    _, val = made(task, GRADES[:12], study=True, seed=1)
    history = train(model, own, val, tmp_path, head=kind, study=True)
    assert len(history) == 30 and history[-1]["loss"] < history[0]["loss"]
    _, test = made(task, GRADES, study=True, seed=2)
    told = answers(model, test, test.maps)
    assert told.shape == (12, 3) and told.dtype == np.float64
    assert (told.argmax(1) == np.arange(12) % 3).mean() > 0.7  # chance is a third


def test_a_linear_head_begins_where_closed_form_ends(tmp_path):
    """Learning by steps that do nothing leaves what was fitted."""
    heads = []
    for mode in ("frozen", "full"):
        model, own = made("classes", GRADES)
        if mode == "full":  # no clip is read: its windows are made here
            own = dataclasses.replace(own, clips=[
                dataclasses.replace(c, read=Still(i)) for i, c in enumerate(own.clips)
            ])  # fmt: skip
        train(model, own, own, tmp_path, mode=mode, epochs=1, lr=1e-12)
        heads.append(model.head.out.weight.detach())
    assert heads[0].any()
    torch.testing.assert_close(*heads)


@dataclasses.dataclass
class Still:
    """A clip of one picture."""

    number: int

    def __call__(self, size, colour):
        from test_clip_batches import pixels

        return pixels(4)


def test_rare_classes_weigh_as_much_as_common_ones(tmp_path):
    """What cannot be told apart is answered by the weights alone."""
    targets = np.repeat([0, 0, 0, 0, 0, 0, 0, 2], 2)
    shares = {}
    for weights in ("balanced", "none"):
        model, own = made("classes", targets, kind="mlp")
        same = dataclasses.replace(own, maps=torch.ones_like(own.maps))
        (tmp_path / weights).mkdir()
        train(model, same, same, tmp_path / weights, head="mlp", class_weights=weights,
              epochs=60, batch=16)  # fmt: skip
        shares[weights] = answers(model, same, same.maps)[0]
    assert shares["balanced"][[0, 2]] == pytest.approx([0.5, 0.5], abs=0.06)
    assert shares["none"][[0, 2]] == pytest.approx([0.875, 0.125], abs=0.06)


def test_batches_of_maps():
    _, own = made("grades", GRADES, study=True)
    recipe = Recipe(batch=5)
    found = list(map_batches(own, recipe, seed=0, epoch=0))
    assert [len(batch.targets) for batch in found] == [5, 5, 2]
    rows = torch.cat([batch.clips for batch in found])
    assert sorted(rows[:, 0, 1].tolist()) == sorted(own.maps[:, 0, 1].tolist())
    for batch in found:
        assert batch.studies.tolist() == np.repeat(np.arange(len(batch.targets)), 2).tolist()
        for row, study in zip(batch.clips, batch.studies, strict=True):
            (at,) = torch.nonzero((own.maps == row).all((1, 2)))[:, 0]
            assert own.targets[at] == batch.targets[study]
    again = list(map_batches(own, recipe, seed=0, epoch=0))
    assert all(torch.equal(a.clips, b.clips) for a, b in zip(found, again, strict=True))
    other = next(map_batches(own, recipe, seed=0, epoch=1))
    assert not torch.equal(other.clips, found[0].clips)


def test_a_training_set_of_one_number(tmp_path):
    model, own = made("number", np.full(6, 55.0))
    train(model, own, own, tmp_path)
    found = answers(model, own, own.maps)
    assert float(model.head.unit) == 1 and not math.isnan(found.sum())
    assert found[:, 0] == pytest.approx(np.full(6, 55.0))
