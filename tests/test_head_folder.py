"""A head's folder: whole or not there, with a card that can be filled."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from echofm_jax import __version__
from echofm_jax.errors import InputError
from echofm_jax.pytorch import head_folder
from echofm_jax.pytorch.scores import Score
from echofm_jax.pytorch.trained_echofm import FORMAT
from echofm_jax.torch_checkpoint import sha256

CARD = {
    name: f"<{name}>" for name in (
        "title", "answers", "encoder", "train", "patients", "loader", "name", "alone", "test",
        "test_patients", "measured", "training", "simulated",
    )
}  # fmt: skip


def write(folder, **changes) -> None:
    given = {"described": {"head": 1}, "code": ("head_echofm.py",), "card": CARD} | changes
    head_folder.write_head(folder, nn.Linear(2, 3), **given)


def test_what_is_in_it(tmp_path):
    folder = tmp_path / "head"
    write(folder)
    described = json.loads((folder / "config.json").read_text())
    assert described["head"] == 1 and described["head_format"] == FORMAT
    assert described["sha256"] == {"model.safetensors": sha256(folder / "model.safetensors")}
    assert set(load_file(folder / "model.safetensors")) == {"weight", "bias"}
    code = folder / "head_echofm.py"
    assert code.read_text() == (head_folder.HERE / "head_echofm.py").read_text()
    card = (folder / "README.md").read_text()
    assert all(value in card for value in CARD.values()) and __version__ in card
    assert [p.name for p in tmp_path.iterdir()] == ["head"]


def test_it_is_whole_or_not_there(tmp_path):
    with pytest.raises(KeyError):
        write(tmp_path / "head", card={})
    with pytest.raises(InputError, match="head cannot be written"):
        write(tmp_path / "head", code=("none.py",))
    assert not list(tmp_path.iterdir())
    write(tmp_path / "head")
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "head")


def test_weights_that_share_memory_or_are_views_are_kept(tmp_path):
    model = nn.Linear(4, 2)
    model.weight = nn.Parameter(torch.arange(8.0).view(4, 2).T)
    given = {"described": {}, "code": (), "card": CARD}
    head_folder.write_head(tmp_path / "head", model, **given)
    kept = load_file(tmp_path / "head" / "model.safetensors")
    assert torch.equal(kept["weight"], model.weight)


def test_rows_of_the_card():
    rows = head_folder.score_rows({"balanced_accuracy": Score(0.5, 0.25, float("nan"))})
    assert rows == "| balanced accuracy | 0.500 | 0.250 – nan |"
