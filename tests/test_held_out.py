"""Losses, hidden pixels and embeddings of held-out clips, on a tiny model."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from echofm_jax import held_out
from echofm_jax.architecture import Architecture
from echofm_jax.losses import pixel_prior
from echofm_jax.masking import noise_shape
from echofm_jax.model import init_params
from echofm_jax.objectives import Time
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.phase import similarity
from echofm_jax.step import eval_step

ARCH = Architecture(
    width=16, depth=1, heads=2, decoder_width=16, decoder_depth=1, decoder_heads=2,
    frames=8, size=32, tubelet=2, patch=8, pred_frames=4, remat="none",
)  # fmt: skip
OBJECTIVE = EchoFMObjective(cycle_gate=0.2)  # a clip's own gate is the one it has in a batch
METHOD = {"arch": ARCH, "objective": OBJECTIVE}
create = jax.jit(functools.partial(init_params, ARCH))


@pytest.fixture(scope="module")
def params():
    return create(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    sector = np.zeros((3, ARCH.size, ARCH.size), bool)
    sector[:, 8:] = True
    clips = rng.integers(0, 256, (3, ARCH.frames, ARCH.size, ARCH.size)).astype(np.uint8)
    shape = noise_shape("consistent", ARCH.steps, ARCH.positions)
    return {
        "clip": np.where(sector[:, None], clips, 0).astype(np.uint8),
        "noise": rng.random((3, *shape), np.float32),
        "sector": sector,
        "index": np.array([4, 5, 4]),
        "valid": np.array([True, True, False]),
    }


def inputs(batch):
    return {name: batch[name] for name in ("clip", "noise", "sector")}


def test_psnr_by_hand_counts_only_what_is_inside():
    targets = np.zeros((2, 3, 4, 1))
    predictions = np.full((2, 3, 4, 1), 0.1)
    predictions[1] = 0.2
    predictions[:, 0] = 1.0
    inside = np.ones((2, 3, 4, 1), bool)
    inside[:, 0] = False
    # -10 log10(0.1²) = 20 dB, -10 log10(0.2²) = 13.979 dB
    assert np.asarray(held_out.psnr(predictions, targets, inside)) == pytest.approx(
        [20, 13.979], abs=1e-3
    )


def test_losses_are_those_of_training_clip_by_clip(params, batch):
    found = held_out.clip_metrics(params, inputs(batch), **METHOD)
    step = jax.jit(functools.partial(eval_step, **METHOD, clock=lambda step: Time(step, 1.0)))
    state = {"params": params, "step": 0}
    for i in range(3):
        expected = step(state, {k: v[i : i + 1] for k, v in inputs(batch).items()})
        for name in ("loss", "recon", "triplet", "cycle", "gate"):
            assert float(found[name][i]) == pytest.approx(float(expected[name]), rel=1e-4)


def test_predicting_no_contrast_gives_the_psnr_of_the_patch_mean(params, batch):
    silent = params | {"decoder": params["decoder"] | {"pred": jax.tree.map(
        np.zeros_like, params["decoder"]["pred"])}}  # fmt: skip
    found = held_out.clip_metrics(silent, inputs(batch), **METHOD)
    assert np.asarray(found["psnr"]) == pytest.approx(
        np.asarray(found["psnr_patch_mean"]), rel=1e-5
    )
    # Uniform noise around its patch's mean: variance 1/12, 10.8 dB.
    assert np.asarray(found["psnr"]) == pytest.approx(np.full(3, 10.8), abs=0.3)


def test_black_outside_the_sector_does_not_count(params, batch):
    everywhere = inputs(batch) | {"sector": np.ones_like(batch["sector"])}
    inside = held_out.clip_metrics(params, inputs(batch), **METHOD)["psnr"]
    assert (held_out.clip_metrics(params, everywhere, **METHOD)["psnr"] > inside).all()


def test_prior_agreement_is_the_correlation_of_the_pairs(params, batch):
    r, z = held_out.prior_agreement(params, batch["clip"], **METHOD)
    prior = np.asarray(pixel_prior(batch["clip"], ARCH.tubelet, 1.0))
    pairs = np.triu_indices(ARCH.steps, 1)
    for i in range(3):
        S = similarity(np.asarray(z[i]), centre=False)
        assert float(r[i]) == pytest.approx(np.corrcoef(S[pairs], prior[i][pairs])[0, 1], abs=1e-3)
    centred = {"arch": ARCH, "objective": EchoFMObjective(embedding_alpha=1.0)}
    r, z = held_out.prior_agreement(params, batch["clip"], **centred)
    S = similarity(np.asarray(z[0]))
    assert float(r[0]) == pytest.approx(np.corrcoef(S[pairs], prior[0][pairs])[0, 1], abs=1e-3)


def test_effective_rank_counts_directions():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(500, 1)) @ rng.normal(size=(1, 32)) + 7
    assert held_out.effective_rank(line) == pytest.approx(1, abs=1e-6)
    assert held_out.effective_rank(np.concatenate([np.eye(8), -np.eye(8)])) == pytest.approx(8)
    assert held_out.effective_rank(rng.normal(size=(5000, 32))) == pytest.approx(32, abs=0.2)
    assert held_out.effective_rank(np.ones((10, 4))) == 1


def test_reconstruction_keeps_what_was_seen(params, batch):
    original, masked, reconstructed = map(
        np.asarray, held_out.reconstruction_frames(params, inputs(batch), **METHOD)
    )
    assert original == pytest.approx(batch["clip"][:, ARCH.target_frames] / 255, abs=1e-6)
    hidden = np.isnan(masked)
    assert hidden.mean() == pytest.approx(0.75)
    assert (masked[~hidden] == original[~hidden]).all()
    assert (reconstructed[~hidden] == original[~hidden]).all()
    assert np.abs(reconstructed[hidden] - original[hidden]).mean() > 0.01
    assert reconstructed.min() >= 0 and reconstructed.max() <= 1


def test_all_clips_without_those_that_fill_up_the_batch(params, batch):
    other = create(jax.random.key(1))
    found = held_out.measure_clips(
        {"model": params, "random": other}, [batch, batch], ARCH, OBJECTIVE
    )
    assert found["index"].tolist() == [4, 5, 4, 5]
    single = held_out.clip_metrics(params, inputs(batch), **METHOD)
    assert found["psnr"][:2] == pytest.approx(np.asarray(single["psnr"])[:2], rel=1e-4)
    assert found["prior_agreement_model"][0] != found["prior_agreement_random"][0]
    assert 1 < found["effective_rank_model"] < ARCH.width


def test_ssim_is_one_where_nothing_was_changed_and_counts_hidden_pixels_inside(batch):
    arch = dataclasses.replace(ARCH, size=64)  # room beside the windows' edges
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (2, arch.frames, 64, 64)).astype(np.uint8)
    masked = np.tile(np.arange(arch.tokens // 2, arch.tokens), (2, 1))  # the later steps
    patches = held_out.to_unit(held_out.target_patches(clips[..., None], arch))
    targets = held_out.take_tokens(patches, masked)
    inside = np.ones(targets.shape, bool)
    same = held_out.ssim(clips, masked, targets, inside, arch)
    assert np.asarray(same) == pytest.approx([1, 1], abs=1e-4)
    blurred = held_out.ssim(clips, masked, targets.mean((2, 3), keepdims=True), inside, arch)
    assert (np.asarray(blurred) < 0.2).all()
    inside[:, : inside.shape[1] // 2] = False
    half = np.where(inside, targets, targets.mean((2, 3), keepdims=True))
    assert (np.asarray(held_out.ssim(clips, masked, half, inside, arch)) > 0.9).all()
    assert (np.asarray(held_out.ssim(clips, masked, half, ~inside, arch)) < 0.2).all()
