"""Recipes of configs/finetune: each reads, differs from its siblings, and says what it is for."""

import re

import pytest
from conftest import REPO

from echofm_jax import config_file
from echofm_jax.errors import InputError
from echofm_jax.pytorch import finetune
from echofm_jax.pytorch.recipe import MODES, Recipe, checked

FILES = sorted((REPO / "configs" / "finetune").glob("*.py"))
VARIANTS = {
    "aortic_stenosis": ("frozen", "lora"),
    "ejection_fraction": ("full", "frozen", "temporal", "lora", "prompt"),
    "hypertrophy": ("full", "frozen", "adapter", "long"),
    "interactive_segmentation": ("frozen", "full", "adapter", "long"),
    "segmentation": ("full", "frozen", "adapter", "image", "long"),
    "view": ("attentive", "frozen", "prompt", "full"),
}  # the first is the default


def recipe(spec: str) -> Recipe:
    return checked(config_file.read(f"{REPO / 'configs' / 'finetune' / spec}"))


def test_every_file_is_known():
    assert [file.stem for file in FILES] == sorted(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_differ_and_the_first_is_the_default(name):
    recipes = [recipe(f"{name}.py:{variant}") for variant in VARIANTS[name]]
    assert len(set(recipes)) == len(recipes)
    assert recipe(f"{name}.py") == recipes[0]
    for variant, one in zip(VARIANTS[name], recipes, strict=True):
        if variant in MODES:
            assert one.mode == variant
    assert all(one.study for one in recipes) == (name == "aortic_stenosis")


@pytest.mark.parametrize("name", VARIANTS)
def test_an_unknown_variant_names_the_nearest(name):
    with pytest.raises(InputError, match="unknown variant 'frozn': did you mean 'frozen'"):
        recipe(f"{name}.py:frozn")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_runbooks_commands_are_understood(file):
    """Every `echofm finetune` of the docstring parses, for this very file and a known task."""
    text = file.read_text().replace("\\\\\n", " ")
    commands = re.findall(r"^ {4}echofm finetune (.+)$", text, re.MULTILINE)
    assert commands
    for command in commands:
        args, overrides = finetune.parse(command.split())
        assert args.task == file.stem and not overrides
        recipe(args.config.removeprefix("configs/finetune/"))
        finetune.check(args, finetune.TASKS[args.task][1], finetune.TASKS[args.task][1])
