"""Recipes: what they may say, and every wrong field in one line."""

import pytest

from echofm_jax import config_file
from echofm_jax.errors import InputError
from echofm_jax.pytorch.recipe import Recipe, checked, default_recipe, of_mode


def test_what_is_overridden_keeps_its_type():
    config = config_file.override(
        default_recipe(mode="full"), ["--config.lr=1e-3", "--config.study=True", "--config.batch=4"]
    )
    recipe = checked(config)
    assert recipe == Recipe(mode="full", lr=1e-3, study=True, batch=4)
    assert checked(default_recipe()) == Recipe()


def test_each_mode_has_its_own_rate():
    """One rate for all would compare rates."""
    full = default_recipe(mode="full", lr=6e-5, batch=32, head="temporal")
    found = {m: of_mode(full, m, "view", False) for m in ("frozen", "lora", "prompt", "full")}
    assert {mode: recipe.mode for mode, recipe in found.items()} == {m: m for m in found}
    assert {m: r.lr for m, r in found.items()} == {
        "frozen": 5e-4, "lora": 5e-4, "prompt": 5e-4, "full": 6e-5
    }  # fmt: skip
    assert all(r.batch == 32 and r.head == "temporal" for r in found.values())
    assert of_mode(default_recipe(), "full", "view", False).lr == 1e-3 * 8 / 256
    assert of_mode(full, "prompt", "view", True).lr == 6e-5  # the user's
    assert of_mode(default_recipe("segmentation"), "lora", "segmentation", False).lr == 2e-3


WRONG = {
    "mode": ("deep", "mode='deep' is none of frozen, lora, adapter, prompt, full"),
    "head": ("big", "head='big' is none of linear, mlp, attentive, temporal"),
    "precision": ("int8", "precision='int8' is none of float32, bfloat16, float16"),
    "class_weights": ("rare", "class_weights='rare' is none of balanced, none"),
    "epochs": (0, "epochs=0 must be at least 1"),
    "batch": (0, "batch=0 must be at least 1"),
    "hidden": (2, "hidden=2 must be at least 4"),
    "rank": (0, "rank=0 must be at least 1"),
    "adapter": (0, "adapter=0 must be at least 1"),
    "prompts": (0, "prompts=0 must be at least 1"),
    "clips_per_study": (0, "clips_per_study=0 must be at least 1"),
    "patience": (-1, "patience=-1 must be at least 0"),
    "frames": (-4, "frames=-4 must be at least 0"),
    "size": (-4, "size=-4 must be at least 0"),
    "weight_decay": (float("nan"), "weight_decay=nan must be at least 0"),
    "lr": (float("nan"), "lr=nan must be above 0"),
    "clip_norm": (0.0, "clip_norm=0.0 must be above 0"),
    "layer_decay": (0.0, "layer_decay=0.0 must be above 0"),
    "warmup": (1.0, "warmup=1.0 must be below 1"),
    "dropout": (1.0, "dropout=1.0 must be below 1"),
    "label_smoothing": (1.5, "label_smoothing=1.5 must be below 1"),
}


@pytest.mark.parametrize("field", WRONG)
def test_a_field_that_cannot_be(field):
    value, told = WRONG[field]
    with pytest.raises(InputError, match=r"^recipe: ") as raised:
        checked(default_recipe(**{field: value}))
    assert told in str(raised.value)


def test_all_that_is_wrong_is_told_at_once():
    wrong = default_recipe(mode="deep", lr=-1.0, head="attentive", hidden=6)
    with pytest.raises(InputError) as raised:
        checked(wrong)
    message = str(raised.value)
    assert "mode=" in message and "lr=-1.0" in message and "\n" not in message
    assert "hidden=6 must be a multiple of 4" in message
    with pytest.raises(InputError, match="hidden=6 must be a multiple of 4"):
        checked(default_recipe(head="temporal", hidden=6))


def test_a_config_of_something_else():
    config = default_recipe()
    config.model, config.data = "vit_l", "x"
    with pytest.raises(InputError, match=r"recipe: it has no data, model: give a file of"):
        checked(config)
