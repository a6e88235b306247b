"""Sizes of an image backbone."""

import pytest

from echofm_jax.image_architecture import ImageArchitecture


def test_hidden_units_are_the_official_ones():
    assert ImageArchitecture().hidden == 3072
    giant = ImageArchitecture(width=1536, depth=40, heads=24, ffn="swiglu")
    assert giant.hidden == 4096
    assert ImageArchitecture(width=50, heads=1, ffn="swiglu").hidden == 136  # 133 in whole eights


@pytest.mark.parametrize(
    "change, said",
    [
        ({"size": 100}, "model.size=100 is not divisible by model.patch=14"),
        ({"heads": 7}, "model.width=768 is not divisible by model.heads=7"),
        ({"ffn": "relu"}, "model.ffn=relu is none of mlp, swiglu"),
        ({"registers": -1}, "model.registers=-1"),
        ({"layer_scale": -1.0}, "model.layer_scale=-1.0"),
        ({"drop_path": 1.0}, "model.drop_path=1.0"),
    ],
)
def test_problems_name_the_number(change, said):
    assert ImageArchitecture().problems() == []
    [problem] = ImageArchitecture(**change).problems()
    assert said in problem
