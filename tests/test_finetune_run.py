"""What tells one training from another, and what chance is; `test_finetune` runs whole ones."""

import dataclasses
import json
from types import SimpleNamespace

import discs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_pipelines.labelled import LabelledClip
from echofm_jax.errors import InputError
from echofm_jax.pytorch.finetune_run import Run, blind, encoder, targets
from echofm_jax.pytorch.recipe import Recipe


def clip(number: int, **changes) -> LabelledClip:
    kind = ("dark", "bright", "bright")[number % 3]
    known = {"name": f"{number}", "patient": f"p{number}", "study": f"s{number}", "read": number,
             "targets": {"kind": kind}}  # fmt: skip
    return LabelledClip(**known | changes)


@pytest.fixture
def run(tmp_path) -> Run:
    clips = [clip(i) for i in range(6)]
    return Run(
        folder=tmp_path / "w" / "run", model=discs.write_encoder(tmp_path / "model"), random=False,
        task="classes", target="kind", outputs=("bright", "dark"),
        splits={"train": clips[:3], "val": clips[3:4], "test": clips[4:]}, seen=clips,
        recipe=Recipe(), seed=0, colour=False, device="cpu", cache=tmp_path / "w" / "cache",
        simulated=False,
    )  # fmt: skip


def test_the_key_tells_all_that_the_result_depends_on(run):
    def other(**changes) -> Run:
        return dataclasses.replace(run, **changes)

    def train(**changes) -> Run:
        return other(splits=run.splits | {"train": [clip(0, **changes), clip(1), clip(2)]})

    others = [
        other(seed=1), other(random=True), other(random=True, seed=1), other(colour=True),
        other(recipe=Recipe(lr=1.0)), other(outputs=("dark", "bright")), other(task="grades"),
        other(splits=run.splits | {"val": run.splits["test"]}), train(read=9), train(patient="x"),
        train(study="x"), train(targets={"kind": "bright"}),
    ]  # fmt: skip
    keys = [one.key for one in others]
    assert len({run.key, *keys}) == len(others) + 1
    unseen = [train(name="x"), train(targets={"kind": "dark", "ef": 1.0}), other(device="cuda"),
              other(folder=run.folder / "x"), other(cache=run.cache / "x")]  # fmt: skip
    assert {one.key for one in unseen} == {run.key}
    model = discs.tiny()
    with torch.no_grad():
        model.norm.bias += 1
    key = run.key
    save_file(model.state_dict(), run.model / "model.safetensors")
    assert dataclasses.replace(run).key != key


def test_weights_are_told_by_the_folders_own_digest(run):
    path = run.model / "config.json"
    described = json.loads(path.read_text()) | {"sha256": {"model.safetensors": "abc"}}
    path.write_text(json.dumps(described))
    assert run.weights == "abc" and "abc" not in dataclasses.replace(run, random=True).weights
    with pytest.raises(InputError, match="changed since its export"):
        encoder(run)


def test_an_image_models_window_is_part_of_what_it_is(run):
    """Which frames it is shown, and when, is told beside its weights."""
    before = run.weights, dataclasses.replace(run, random=True).weights
    (run.model / "echoapex.json").write_text(
        json.dumps({"frames": 8, "window_seconds": 1.0, "sha256": {"model.safetensors": "abc"}})
    )
    told = dataclasses.replace(run).weights
    assert told == "abc frames 8 window_seconds 1.0" and run.weights == before[0]
    assert (
        dataclasses.replace(run, random=True).weights == f"{before[1]} frames 8 window_seconds 1.0"
    )


def test_random_weights_follow_the_seed(run):
    plain = encoder(run)
    assert torch.equal(plain.norm.weight, discs.tiny().norm.weight)
    assert torch.equal(plain.cls_token, discs.tiny().cls_token)
    tokens = [
        encoder(dataclasses.replace(run, random=True, seed=seed)).cls_token for seed in (0, 0, 1)
    ]
    assert torch.equal(tokens[0], tokens[1]) and not torch.equal(tokens[0], tokens[2])
    assert not torch.equal(tokens[0], plain.cls_token)
    resized = encoder(dataclasses.replace(run, random=True, recipe=Recipe(frames=2, size=64)))
    assert (resized.config.frames, resized.config.size) == (2, 64)
    assert resized.pos_embed_spatial.shape == (1, 16, 16)


def test_chance_knows_the_training_labels_alone(run):
    found = targets(run, run.splits["train"])
    assert found.tolist() == [1, 0, 0]
    part = SimpleNamespace(targets=found, first=np.arange(3))
    np.testing.assert_allclose(blind(run, part, 2), [[2 / 3, 1 / 3]] * 2)
    number = dataclasses.replace(run, task="number", target="ef", outputs=("%",))
    clips = [clip(i, targets={"ef": 50.0 + i}) for i in range(3)]
    part = SimpleNamespace(targets=targets(number, clips), first=np.array([0, 2]))
    assert blind(number, part, 2).tolist() == [[51.0]] * 2
