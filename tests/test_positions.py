"""Other frame counts and sizes: the same embeddings as PyTorch interpolates, the same features."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_export import TINY, make_workdir

import echofm_jax
from echofm_jax import export
from echofm_jax.errors import InputError
from echofm_jax.positions import cubic_matrix, linear_matrix, resized
from echofm_jax.pytorch import EchoFM
from echofm_jax.torch_checkpoint import read_official
from echofm_jax.torch_parity import differences, jax_outputs, synthetic_clip
from echofm_jax.torch_weights import to_torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("positions")
    export.export(make_workdir(folder), folder / "exported")
    return folder / "exported"


@pytest.mark.parametrize(("n", "m"), [(14, 7), (14, 8), (14, 24), (4, 16), (1, 3), (5, 1), (6, 6)])
def test_weights_are_those_of_pytorch(n: int, m: int):
    """Applied to unit vectors, `interpolate` shows its weights."""
    eye = torch.eye(n, dtype=torch.float64)[None]  # [1, n, n]: a signal a sample
    linear = F.interpolate(eye, m, mode="linear", align_corners=False)[0].T
    cubic = F.interpolate(eye[None], (n, m), mode="bicubic", align_corners=False)[0, 0].T
    np.testing.assert_allclose(linear_matrix(n, m), linear, atol=1e-12)
    np.testing.assert_allclose(cubic_matrix(n, m), cubic, atol=1e-12)


@pytest.mark.parametrize(("frames", "size"), [(16, 56), (4, 24)])
def test_both_frameworks_interpolate_alike(folder: Path, frames: int, size: int):
    params, arch, _ = read_official(folder)
    params, arch = resized(params, arch, frames, size)
    model = EchoFM.from_pretrained(folder, frames=frames, size=size).eval()
    state = model.state_dict()
    for key, value in to_torch(params, arch).items():
        np.testing.assert_allclose(value, state[key], rtol=0, atol=1e-6, err_msg=key)
    clip = synthetic_clip(arch)
    found = differences(jax_outputs(params, arch, clip), model, clip)
    assert max(found.values()) < 1e-5, found


def test_load_and_from_pretrained_give_the_same_features(folder: Path):
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 48, 48), np.uint8)
    ours = echofm_jax.load(folder, frames=4, size=48).encode(clips)
    model = EchoFM.from_pretrained(folder, frames=4, size=48).eval()
    with torch.inference_mode():
        theirs = model.encode(model.preprocess(clips))
    assert ours.frames.shape == (2, 2, 24) and ours.tokens.shape == (2, 72, 24)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_one_axis_alone_leaves_the_other_as_it_is(folder: Path):
    params, arch, _ = read_official(folder)
    longer, _ = resized(params, arch, frames=16)
    larger, _ = resized(params, arch, size=64)
    for part in ("encoder", "decoder"):
        old = params[part]
        np.testing.assert_allclose(longer[part]["pos_spatial"], old["pos_spatial"], atol=1e-7)
        np.testing.assert_allclose(larger[part]["pos_temporal"], old["pos_temporal"], atol=1e-7)
        assert longer[part]["pos_temporal"].shape[0] == 2 * len(old["pos_temporal"])
        assert larger[part]["pos_spatial"].shape[0] == 4 * len(old["pos_spatial"])
    model = EchoFM.from_pretrained(folder, frames=16)
    old = EchoFM.from_pretrained(folder)
    assert torch.equal(model.pos_embed_spatial, old.pos_embed_spatial)


def test_a_token_reconstructs_as_many_frames_as_before(folder: Path):
    params, arch, _ = read_official(folder)
    _, wanted = resized(params, arch, frames=16, size=64)
    assert wanted == dataclasses.replace(TINY, frames=16, size=64, pred_frames=8)
    assert EchoFM.from_pretrained(folder, frames=16, size=64).config.pred_frames == 8


@pytest.mark.parametrize("wrong", [{"frames": 7}, {"size": 33}, {"size": 0}, {"frames": -2}])
def test_what_tubelets_do_not_fill_is_refused(folder: Path, wrong: dict):
    with pytest.raises(InputError, match="takes multiples of 2 frames and 8 pixels"):
        echofm_jax.load(folder, **wrong)
    with pytest.raises(ValueError, match="takes multiples of 2 frames and 8 pixels"):
        EchoFM.from_pretrained(folder, **wrong)
