"""`echofm_jax.load(...).encode`: the same features from every form that a model takes."""

import jax
import numpy as np
import pytest
from test_model import ARCH

import echofm_jax
from echofm_jax import config, export
from echofm_jax.checkpoint import Checkpoints
from echofm_jax.errors import InputError
from echofm_jax.model import bind, init_params


@pytest.fixture(scope="module")
def params():
    return jax.jit(init_params, static_argnums=0)(ARCH, jax.random.key(0))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, params):
    folder = tmp_path_factory.mktemp("encode") / "run"
    folder.mkdir()
    settings = config.default_config("vit_s", "official")
    settings.model.update(vars(ARCH))
    config.save(settings, folder)
    checkpoints = Checkpoints(folder, every=1, keep=1)
    checkpoints.save(7, {"params": params}, {})
    checkpoints.finish()
    return folder


@pytest.fixture(scope="module")
def clips():
    shape = (3, ARCH.frames, ARCH.size, ARCH.size)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.fixture(scope="module")
def features(workdir, clips):
    return echofm_jax.load(str(workdir)).encode(clips)


def test_shapes(features):
    assert features.tokens.shape == (3, ARCH.tokens, ARCH.width)
    assert features.frames.shape == (3, ARCH.steps, ARCH.width)
    assert features.video.shape == (3, ARCH.width)
    assert {x.dtype for x in features} == {np.dtype("float32")}
    np.testing.assert_allclose(features.video, features.tokens.mean(1), rtol=1e-5, atol=1e-6)


def test_it_is_the_model_with_nothing_masked(features, params, clips):
    every = np.broadcast_to(np.arange(ARCH.tokens), (3, ARCH.tokens))
    model = bind(ARCH, params)
    tokens = model.encoder(clips, every)
    np.testing.assert_allclose(features.tokens, tokens, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        features.frames, model.projector(tokens, every), rtol=1e-4, atol=1e-5
    )


def test_clips_differ_and_a_clip_does_not_depend_on_its_batch(features, workdir, clips):
    alone = echofm_jax.load(workdir).encode(clips[1:2])
    for one, all_three in zip(alone, features, strict=True):
        np.testing.assert_allclose(one[0], all_three[1], rtol=1e-4, atol=1e-5)
        assert np.abs(all_three[0] - all_three[1]).max() > 1e-3


def test_uint8_floats_and_colour_are_the_same_clip(features, workdir, clips):
    model = echofm_jax.load(workdir)
    floats = clips.astype(np.float32) / 255
    for same in (floats, np.repeat(clips[..., None], 3, -1)):
        np.testing.assert_allclose(model.encode(same).video, features.video, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "echofm"
    export.export(workdir, folder)
    return folder


@pytest.mark.parametrize("form", ["", "echofm.pth"])
def test_an_export_encodes_as_its_workdir_does(form, features, exported, clips):
    found = echofm_jax.load(exported / form).encode(clips)
    for a, b in zip(found, features, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(16, 32, 32), (1, 8, 32, 32), (1, 16, 32, 16), (1, 16, 16, 32, 3), (1,)]
)
def test_clips_of_another_shape_are_refused(shape, workdir):
    with pytest.raises(InputError) as error:
        echofm_jax.load(workdir).encode(np.zeros(shape, np.uint8))
    assert f"clips of shape {list(shape)}" in str(error.value)
    assert "T, H, W = 16, 32, 32" in str(error.value)


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match="does not exist: give a workdir, an exported folder or"):
        echofm_jax.load(tmp_path / "nowhere")
    with pytest.raises(InputError):
        echofm_jax.load(tmp_path)
