"""The model's identities: what consistent masking lets us skip changes nothing."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from echofm_jax.architecture import Architecture
from echofm_jax.masking import KINDS, noise_shape, split_tokens
from echofm_jax.model import bind, gelu, init_params
from echofm_jax.objectives.echofm import EchoFMObjective, loss_and_metrics
from echofm_jax.patches import patchify, take_tokens, unpatchify

ARCH = Architecture(
    width=32, depth=2, heads=4, decoder_width=16, decoder_depth=2, decoder_heads=2,
    frames=16, size=32, tubelet=4, patch=8, pred_frames=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def params():
    return jax.jit(init_params, static_argnums=0)(ARCH, jax.random.key(0))


def batch(kind: str, colour: bool = False) -> dict:
    rng = np.random.default_rng(0)
    shape = (2, ARCH.frames, ARCH.size, ARCH.size) + (3,) * colour
    noise = rng.random((2, *noise_shape(kind, ARCH.steps, ARCH.positions)), np.float32)
    return {"clip": rng.integers(0, 256, shape, np.uint8), "noise": noise}


def test_masked_tokens_are_predicted_as_when_all_are(params):
    data = batch("consistent")
    model = bind(ARCH, params)
    visible, masked = split_tokens(data["noise"], "consistent", ARCH.steps, 0.75)
    tokens = model.encoder(data["clip"], visible)
    few = model.decoder(tokens, visible, masked)
    every = model.decoder(tokens, visible, masked, all_tokens=True)
    np.testing.assert_allclose(few, take_tokens(every, masked), rtol=1e-4, atol=1e-5)


def test_a_grey_clip_equals_the_same_clip_in_three_channels(params):
    data = batch("consistent")
    colour = data | {"clip": np.repeat(data["clip"][..., None], 3, -1)}
    grey_loss, _ = loss_and_metrics(params, data, ARCH, EchoFMObjective())
    colour_loss, _ = loss_and_metrics(params, colour, ARCH, EchoFMObjective())
    np.testing.assert_allclose(grey_loss, colour_loss, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prior", ["pixel", pytest.param("embedding", marks=pytest.mark.slow)])
def test_every_masking_trains_with_finite_gradients(params, kind, prior):
    objective = EchoFMObjective(masking=kind, prior=prior)
    gradient = jax.jit(jax.grad(loss_and_metrics, has_aux=True), static_argnums=(2, 3))
    grads, metrics = gradient(params, batch(kind), ARCH, objective)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((grads, metrics)))
    assert np.abs(grads["encoder"]["patch_embed"]["kernel"]).max() > 0
    assert np.abs(grads["decoder"]["mask_token"]).max() > 0


def test_a_frame_embedding_sees_its_own_step_only(params):
    data = batch("consistent")
    model = bind(ARCH, params)
    visible, _ = split_tokens(data["noise"], "consistent", ARCH.steps, 0.5)
    tokens = model.encoder(data["clip"], visible)
    z = model.projector(tokens, visible)
    first = np.asarray(visible[0]) // ARCH.positions == 1
    noise = np.random.default_rng(1).normal(size=(first.sum(), ARCH.width))
    changed = model.projector(tokens.at[0, np.flatnonzero(first)].add(noise), visible)
    moved = np.abs(np.asarray(changed - z)).max(-1)  # [B, t]
    assert moved[0, 1] > 1e-3 and moved[0, [0, 2, 3]].max() == 0 and moved[1].max() == 0


def test_bfloat16_computes_in_bfloat16_and_stays_close(params):
    half = Architecture(**{**ARCH.__dict__, "dtype": "bfloat16"})
    data = batch("consistent")
    visible, _ = split_tokens(data["noise"], "consistent", ARCH.steps, 0.75)
    assert bind(half, params).encoder(data["clip"], visible).dtype == jnp.bfloat16
    loss, metrics = loss_and_metrics(params, data, half, EchoFMObjective())
    assert loss.dtype == metrics["recon"].dtype == jnp.float32
    full, _ = loss_and_metrics(params, data, ARCH, EchoFMObjective())
    np.testing.assert_allclose(loss, full, rtol=2e-2)
    assert loss != full


def test_recomputation_changes_no_gradient(params):
    gradient = jax.jit(jax.grad(loss_and_metrics, has_aux=True), static_argnums=(2, 3))
    none = Architecture(**{**ARCH.__dict__, "remat": "none"})
    data = batch("consistent")
    a, _ = gradient(params, data, ARCH, EchoFMObjective())
    b, _ = gradient(params, data, none, EchoFMObjective())
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), a, b)


def test_parameters_stay_float32(params):
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 1001).astype(np.float32)
    expected = [0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x.tolist()]
    np.testing.assert_allclose(gelu(x), expected, atol=1e-6)
    assert gelu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_unpatchify_inverts_patchify():
    clips = np.random.default_rng(0).random((2, 8, 16, 16, 3)).astype(np.float32)
    patches = patchify(clips, 2, 4)
    assert patches.shape == (2, 4 * 16, 2 * 4 * 4, 3)
    np.testing.assert_array_equal(unpatchify(patches, 4, 2, 4), clips)
    # Token 5 is step 0, row 1, column 1; its elements run (frame, row, column).
    np.testing.assert_array_equal(patches[0, 5, :, 0], clips[0, :2, 4:8, 4:8, 0].ravel())
