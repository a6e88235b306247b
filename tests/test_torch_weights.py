"""The key table: the public code's key list, a round trip without a bit lost, clear refusals."""

import dataclasses
import json
import os
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.model import init_params
from echofm_jax.pytorch import EchoFM, EchoFMConfig
from echofm_jax.torch_weights import fill_projector_norm, from_torch, to_torch, torch_shapes

GOLDENS = Path(os.environ.get("ECHOFM_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
TINY = Architecture(
    frames=8, size=48, tubelet=4, patch=8, width=24, depth=3, heads=3,
    decoder_width=16, decoder_depth=2, decoder_heads=2, pred_frames=4,
)  # fmt: skip
BASE = Architecture(width=768, depth=12, heads=12)


@pytest.fixture(scope="module")
def params() -> dict:
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: init_params(TINY, key), jax.random.key(0))
    return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def random_state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        key: rng.standard_normal(shape, np.float32) for key, shape in torch_shapes(TINY).items()
    }


def test_keys_are_those_of_the_public_code():
    path = GOLDENS / "vit_base_patch16.json"
    if not path.is_file():
        pytest.skip(f"no key list: {path} is absent")
    keys = json.loads(path.read_text())["keys"]
    assert {key: list(shape) for key, shape in torch_shapes(BASE).items()} == keys


def test_keys_are_those_of_our_pytorch_model():
    fields = {field.name for field in dataclasses.fields(EchoFMConfig)}
    config = {k: v for k, v in dataclasses.asdict(TINY).items() if k in fields}
    state = EchoFM(EchoFMConfig(**config)).state_dict()
    assert {key: tuple(x.shape) for key, x in state.items()} == torch_shapes(TINY)


def test_every_jax_parameter_makes_the_round_trip_bit_for_bit(params: dict):
    again = from_torch(to_torch(params, TINY), TINY)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, again, params)


def test_every_torch_parameter_makes_the_round_trip_bit_for_bit():
    state = random_state()
    again = to_torch(from_torch(state, TINY), TINY)
    assert again.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
        assert again[key].flags.c_contiguous


def test_half_precision_weights_become_float32():
    state = {key: value.astype(np.float16) for key, value in random_state().items()}
    assert {x.dtype.name for x in jax.tree.leaves(from_torch(state, TINY))} == {"float32"}


def test_a_projector_without_its_own_norm_takes_the_encoders():
    state = random_state()
    del state["prj_norm.weight"], state["prj_norm.bias"]
    with pytest.raises(InputError, match=r"2 missing: prj_norm\.weight, prj_norm\.bias"):
        from_torch(state, TINY)
    filled, missing = fill_projector_norm(state)
    assert missing == ["prj_norm.weight", "prj_norm.bias"]
    params = from_torch(filled, TINY)
    np.testing.assert_array_equal(params["projector"]["norm"]["scale"], state["norm.weight"])
    np.testing.assert_array_equal(params["projector"]["norm"]["bias"], state["norm.bias"])


def test_a_complete_state_is_not_filled():
    state = random_state()
    filled, missing = fill_projector_norm(state)
    assert missing == [] and filled.keys() == state.keys()


def test_what_does_not_fit_is_listed():
    state = random_state()
    state["head.weight"] = state.pop("norm.bias")
    state["cls_token"] = state["cls_token"][..., :-1]
    problems = (
        "1 missing: norm.bias; 1 unknown: head.weight; "
        "1 of another shape: cls_token [1, 1, 23], not [1, 1, 24]"
    )
    with pytest.raises(InputError, match=re.escape(problems)):
        from_torch(state, TINY)


def test_parameters_of_another_architecture_are_refused(params: dict):
    deeper = dataclasses.replace(TINY, depth=4)
    with pytest.raises(InputError, match=r"encoder/blocks/norm1/scale \[3, 24\], not \[4, 24\]"):
        to_torch(params, deeper)
    with pytest.raises(InputError, match="decoder/embed/kernel is missing"):
        to_torch(
            {"encoder": params["encoder"], "projector": params["projector"], "decoder": {}}, TINY
        )
