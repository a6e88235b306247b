"""Which labelled frames are shown: every clip as often, any of its frames, in a known order."""

import collections
from types import SimpleNamespace

import numpy as np
import pytest

from data_pipelines.labelled import LabelledClip
from echofm_jax.pytorch import labelled_frames
from echofm_jax.pytorch.labelled_frames import (
    LabelledFrames,
    held_out_samples,
    spread_over,
    training_samples,
)

NUMBERS = ((0, 3, 7), (2,), (1, 4, 5, 6, 8))
CONFIG = SimpleNamespace(size=32)


class Told(LabelledFrames):
    """Samples that tell which frame they are of, and whether they may be changed."""

    @staticmethod
    def sample(pixels, frame, config, rng):
        return pixels.clip, frame, rng is not None


def clip(number: int) -> LabelledClip:
    pixels = SimpleNamespace(clip=number, spacing=np.full(2, number))
    return LabelledClip(name=str(number), patient=str(number), targets={}, read=lambda *_: pixels)


FRAMES = Told(clips=[clip(i) for i in range(3)], numbers=NUMBERS)


def epoch(number: int, seed: int = 0) -> list:
    batches = training_samples(FRAMES, CONFIG, batch=8, epoch=number, seed=seed, colour=False)
    return [sample for batch in batches for sample in batch]


def test_clips_count_alike_and_all_their_frames_come(monkeypatch):
    monkeypatch.setattr(labelled_frames, "LEAST", 90)
    found = epoch(0)
    assert collections.Counter(clip for clip, *_ in found) == {0: 30, 1: 30, 2: 30}
    assert {(clip, frame) for clip, frame, _ in found} == {
        (clip, frame) for clip, frames in enumerate(NUMBERS) for frame in frames
    }
    assert all(changed for *_, changed in found)
    assert found == epoch(0) and found != epoch(1) and found != epoch(0, seed=1)


def test_held_out_frames_come_in_order_and_unchanged():
    which = [(2, 8), (0, 3), (1, 2)]
    batches = list(held_out_samples(FRAMES, which, CONFIG, batch=2, colour=False))
    assert [sample for samples, _ in batches for sample in samples] == [
        (2, 8, False), (0, 3, False), (1, 2, False)
    ]  # fmt: skip
    assert np.concatenate([spacing for _, spacing in batches]).tolist() == [[2, 2], [0, 0], [1, 1]]


@pytest.mark.parametrize(("most", "of_third"), [(0, (1, 4, 5, 6, 8)), (2, (1, 8)), (3, (1, 5, 8))])
def test_a_few_frames_are_evenly_spaced_the_first_and_last_among_them(most, of_third):
    found = spread_over(NUMBERS, most)
    assert [frame for clip, frame in found if clip == 2] == list(of_third)
    assert (1, 2) in found and FRAMES.each(most) == found
