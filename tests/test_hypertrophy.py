"""Landmarks of walls: read from heatmaps to a part of a pixel, taught where known, measured."""

import dataclasses

import numpy as np
import pytest
import torch

from data_pipelines.labelled import LabelledClip, Pixels
from data_pipelines.records import LANDMARKS
from echofm_jax.pytorch import EchoFM, EchoFMConfig, hypertrophy
from echofm_jax.pytorch.hypertrophy_head import (
    THICK,
    EchoFMHypertrophy,
    HypertrophyConfig,
    at_end_diastole,
    end_diastole,
    landmarks,
    lengths,
)
from echofm_jax.pytorch.hypertrophy_samples import find_points, sample
from echofm_jax.pytorch.labelled_frames import epoch_length, training_samples

TINY = EchoFMConfig(
    frames=8, size=32, tubelet=2, patch=16, width=24, depth=3, heads=3,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=4, window_seconds=1.0,
)  # fmt: skip
NAN = float("nan")


def model(channels: int = 8) -> EchoFMHypertrophy:
    torch.manual_seed(0)
    config = HypertrophyConfig(landmarks=LANDMARKS, channels=channels)
    return EchoFMHypertrophy(EchoFM(TINY).requires_grad_(False), config)


@pytest.mark.parametrize("size", [32, 56, 112])
def test_a_blob_is_found_where_it_was_put(size: int):
    """To a twentieth of a pixel, x and y not mistaken, though another peak is somewhere else."""
    rng = np.random.default_rng(size)
    points = torch.from_numpy(rng.uniform(0.2 * size, 0.7 * size, (3, 4, 2)))
    maps = hypertrophy.blobs(points, size)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(3, 4, dtype=maps.dtype))
    places, sure = landmarks((maps + 1e-12).log())
    assert (places - points).abs().max() < 0.05
    assert sure.min() > 0.95
    maps[..., -2:, -2:] += 0.02 / 4
    places, doubtful = landmarks((maps + 1e-12).log())
    assert (places - points).abs().max() < 0.05
    assert (doubtful < sure - 0.01).all()
    _, nowhere = landmarks(torch.zeros(1, 4, size, size))
    assert nowhere.max() < 0.1


def test_lengths_are_in_mm_where_pixels_are_known():
    places = np.array([[[10, 5], [10, 10], [13, 14], [13, 15]]] * 2, float)
    spacing = np.array([[0.5, 2.0], [NAN, NAN]])  # rows, columns
    found = lengths(places, spacing)
    np.testing.assert_allclose(found[0], [2.5, np.hypot(3 * 2.0, 4 * 0.5), 0.5])
    np.testing.assert_allclose(found[1], [5, 5, 1])


def test_end_diastole_is_where_the_cavity_is_widest_and_not_where_a_frame_is_wrong():
    lvid = 45 + 5 * np.cos(2 * np.pi * np.arange(80) / 20)
    lvid[33] = 90.0  # a landmark that was lost
    frames = end_diastole(lvid)
    assert len(frames) == 4
    assert all(min(frame % 20, -frame % 20) <= 2 for frame in frames)
    assert end_diastole(np.array([3.0])).tolist() == [0]


def test_what_is_told_of_a_recording():
    lvid = 45 + 5 * np.cos(2 * np.pi * np.arange(40) / 20)
    y = np.cumsum([np.full(40, 20.0), np.full(40, 12.0), lvid, np.full(40, 10.0)], 0).T  # [40, 4]
    places = np.stack([np.full_like(y, 50), y], -1)
    sure = np.full((40, 4), 0.9)
    sure[:, 2] = 0.6
    told = at_end_diastole(places, sure, np.array([1.0, 1.0]))
    assert told["ivs"] == pytest.approx(12) and told["lvpw"] == pytest.approx(10)
    assert told["lvid"] == pytest.approx(50, abs=0.3) and told["unit"] == "mm"
    assert told["hypertrophy"] is True and told["confidence"] == pytest.approx(0.6)
    thin = at_end_diastole(places, sure, np.full(2, 0.9))
    assert thin["ivs"] == pytest.approx(10.8) and thin["hypertrophy"] is (thin["ivs"] >= THICK)
    unknown = at_end_diastole(places, sure, np.full(2, NAN))
    assert unknown["unit"] == "pixels" and unknown["hypertrophy"] is None
    assert unknown["ivs"] == pytest.approx(12)


def drawn(total: int = 12, seed: int = 0, size: int = 32) -> Pixels:
    """A septum and a posterior wall; the cavity narrows, every second frame is measured."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 40, (total, size, size))
    points = {}
    for frame, picture in enumerate(frames):
        top, wall, cavity = 5 + seed % 3, 3 + seed % 2, 10 - frame / 3
        edges = top + np.cumsum([0, wall, cavity, wall])
        rows = np.arange(size)[:, None]
        a, b, c, d = edges
        picture += 150 * ((rows >= a) & (rows < b) | (rows >= c) & (rows < d))
        picture[:, 15:17] += 50  # across which the calipers are put
        if frame % 2 == 0:
            points[frame] = np.stack([np.full(4, 15.5), edges - 0.5], 1).astype(np.float32)
    return Pixels(
        frames=frames.astype(np.uint8), sector=np.ones((size, size), bool), fps=8.0,
        spacing=np.ones(2, np.float32), masks={}, points=points, end_diastole=(0,),
    )  # fmt: skip


def test_a_decoder_learns_the_landmarks_of_its_own_frame():
    """Of the frame at the position, not of the tubelet's other one; in every frame of a clip."""
    own = model()
    pixels = drawn()
    samples = [sample(pixels, frame, TINY, None) for frame in pixels.points]
    optimizer = torch.optim.AdamW(own.decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        value = hypertrophy.loss(own, samples)
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    assert losses[-1] < 0.2 * losses[0]
    own.eval()
    truth = np.stack([s.points for s in samples])
    assert np.linalg.norm(hypertrophy.find(own, samples) - truth, axis=-1).mean() < 0.7
    places, sure = hypertrophy.landmarks_of_frames(own, pixels.frames, pixels.fps)
    assert places.shape == (12, 4, 2) and sure.shape == (12, 4)
    lvid = lengths(places, np.ones((12, 2)))[:, 1]
    np.testing.assert_allclose(lvid[::2], 10 - np.arange(0, 12, 2) / 3, atol=0.8)


def test_a_landmark_that_is_unknown_is_not_taught():
    own = model()
    (one,) = [sample(drawn(), 0, TINY, None)]
    half = one._replace(points=np.where(np.arange(4)[:, None] < 2, one.points, np.nan))
    none = one._replace(points=np.full((4, 2), np.nan, np.float32))
    hypertrophy.loss(own, [half]).backward()
    taught = own.decoder.out.bias.grad, own.decoder.out.weight.grad
    assert taught[1][:2].abs().sum(1).min() > 0 == taught[1][2:].abs().max()
    with torch.no_grad():
        both = hypertrophy.loss(own, [half, none])
        torch.testing.assert_close(both, hypertrophy.loss(own, [half]))  # the mean over two
        assert hypertrophy.loss(own, [none]) == 0


def test_augmentation_moves_frames_and_landmarks_together():
    """A bright spot is drawn at a landmark: after every change it lies there."""
    pixels = drawn(8, size=64)
    frames = np.zeros((8, 64, 64), np.uint8)
    y, x = np.mgrid[:64, :64]
    spot = np.float32([30.25, 22.5])
    frames += (250 * np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 8)).astype(np.uint8)
    points = np.full((4, 2), np.nan, np.float32)
    points[2] = spot
    pixels = dataclasses.replace(pixels, frames=frames, points={4: points})
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        made = sample(pixels, 4, TINY, rng)
        weight = made.clip[made.position].astype(float)
        place = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
        np.testing.assert_allclose(made.points[2], place, atol=0.4)
        assert np.isnan(made.points[[0, 1, 3]]).all()
        seen.add(tuple(made.points[2].round()))
    assert len(seen) > 10


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Reads a clip; of an odd number nothing is marked."""

    number: int

    def __call__(self, size: int, colour: bool) -> Pixels:
        pixels = drawn(seed=self.number, size=size)
        unknown = {0: np.full((4, 2), np.nan, np.float32)}
        return dataclasses.replace(pixels, points=unknown) if self.number % 2 else pixels


def test_clips_without_a_point_are_left_out_and_an_epoch_is_always_the_same():
    clips = [
        LabelledClip(name=f"{n}", patient=f"p{n}", targets={}, read=Drawn(n)) for n in range(4)
    ]
    measured = find_points(clips, 32, False)
    assert [clip.name for clip in measured.clips] == ["0", "2"]
    assert measured.each() == [(c, f) for c in range(2) for f in range(0, 12, 2)]
    assert measured.each(2) == [(0, 0), (0, 10), (1, 0), (1, 10)]
    assert measured.diastole == ((0,), (0,)) and measured.spacing.shape == (2, 2)
    assert find_points(clips[1:2], 32, False).clips == ()

    def epoch(number: int) -> list:
        found = training_samples(measured, TINY, batch=7, epoch=number, seed=1, colour=False)
        return [one for batch in found for one in batch]

    once, again, other = epoch(0), epoch(0), epoch(1)
    assert len(once) == epoch_length(measured.clips) == 200
    assert all((a.points == b.points).all() for a, b in zip(once, again, strict=True))
    assert not all((a.points == b.points).all() for a, b in zip(once, other, strict=True))
