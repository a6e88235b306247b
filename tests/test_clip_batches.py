"""Windows of labelled clips in batches: all of them, the same for the same epoch and seed."""

import dataclasses
import threading

import discs
import numpy as np
import pytest
import torch

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch.clip_batches import (
    all_windows,
    cut_of,
    one_window,
    read_ahead,
    studies_of,
    times,
    training_batches,
    windows_in_a_row,
)


def pixels(count: int, fps: float = 20.0, colour: bool = False) -> Pixels:
    """Frames that tell their number."""
    shape = (count, 32, 32, 3) if colour else (count, 32, 32)
    frames = np.zeros(shape, np.uint8) + np.arange(count, dtype=np.uint8).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    sector, spacing = np.ones((32, 32), bool), np.full(2, np.nan, np.float32)
    return Pixels(frames=frames, sector=sector, fps=fps, spacing=spacing, masks={})


def clip(number: int, patient: str, study: str = "") -> LabelledClip:
    """Its frames are all of its number."""
    own = pixels(6)
    own = dataclasses.replace(own, frames=np.full_like(own.frames, number))
    return LabelledClip(
        name=str(number), patient=patient, study=study, targets={}, read=lambda *_: own
    )


CLIPS = [clip(i, f"p{i // 3}", ("s", "s", "")[i % 3]) for i in range(9)]


def batches(**changes) -> list:
    given = {"batch": 4, "epoch": 0, "seed": 0, "colour": False} | changes
    return list(training_batches(CLIPS, [float(i) for i in range(9)], discs.tiny(), **given))


def numbers(batch) -> list[int]:
    return (batch.clips[:, 0, 0, 0, 0] * 255).round().int().tolist()


def test_every_clip_once_with_its_own_target():
    found = batches()
    assert [len(batch.clips) for batch in found] == [4, 4, 1]
    for batch in found:
        assert batch.clips.shape[1:] == (3, 4, 32, 32) and batch.clips.dtype == torch.float32
        assert batch.studies is None and batch.recordings.tolist() == list(range(len(batch.clips)))
        assert batch.targets.tolist() == numbers(batch)
    assert sorted(n for batch in found for n in numbers(batch)) == list(range(9))


def test_windows_in_a_row_are_side_by_side_and_from_anywhere():
    cut, long = cut_of(discs.tiny(), colour=False), pixels(14)  # windows of 4: three of them
    firsts = set()
    for seed in range(20):
        found = windows_in_a_row(long, cut, 2, np.random.default_rng(seed))[:, :, 0, 0]
        assert found.shape == (2, 4) and (found[1] == found[0] + 4).all()
        firsts.add(int(found[0, 0]))
    assert firsts == {1, 5}  # what is over is left out at both ends
    assert len(windows_in_a_row(long, cut, 9, np.random.default_rng(0))) == 3
    (batch,) = batches(batch=9, in_a_row=2)  # of 6 frames, one window each
    assert batch.recordings.tolist() == list(range(9)) and len(batch.clips) == 9
    longer = [dataclasses.replace(one, read=lambda *_: long) for one in CLIPS]
    given = {"batch": 9, "epoch": 0, "seed": 0, "colour": False, "in_a_row": 2}
    (batch,) = training_batches(longer, [0.0] * 9, discs.tiny(), **given)
    assert batch.recordings.tolist() == [i // 2 for i in range(18)] and len(batch.clips) == 18


def test_epoch_and_seed_say_the_order():
    order = [numbers(batch) for batch in batches()]
    assert [numbers(batch) for batch in batches()] == order
    assert [numbers(batch) for batch in batches(epoch=1)] != order
    assert [numbers(batch) for batch in batches(seed=1)] != order


def test_examinations_come_whole_and_alone():
    """Those of two patients may have one name; a clip of none is one of its own."""
    assert list(studies_of(CLIPS).values()) == [[0, 1], [2], [3, 4], [5], [6, 7], [8]]
    found = batches(study=2)
    assert [len(batch.targets) for batch in found] == [4, 2]
    groups = []
    for batch in found:
        for study, target in enumerate(batch.targets.tolist()):
            own = [n for n, s in zip(numbers(batch), batch.studies, strict=True) if s == study]
            groups.append(sorted(own))
            assert target == min(own)
    assert sorted(groups) == [[0, 1], [2], [3, 4], [5], [6, 7], [8]]
    one = [n for epoch in range(9) for batch in batches(study=1, epoch=epoch)
           for n in numbers(batch)]  # fmt: skip
    assert len(one) == 54 and set(one) == set(range(9))


def test_windows():
    cut = cut_of(discs.tiny(window_seconds=0.4), False)  # every other of 20 frames a second
    assert all_windows(pixels(16), cut)[:, :, 0, 0].tolist() == [[0, 2, 4, 6], [8, 10, 12, 14]]
    starts = set()
    for seed in range(40):
        window = one_window(pixels(10), cut, np.random.default_rng(seed))
        (shown,) = window[:, :, 0, 0].astype(int)
        assert np.diff(shown).tolist() == [2, 2, 2] and window.shape == (1, 4, 32, 32)
        starts.add(shown[0])
    assert starts == {0, 1, 2, 3}
    consecutive = cut_of(discs.tiny(), False)
    shown = one_window(pixels(10, fps=0.0), consecutive, np.random.default_rng(0))[0, :, 0, 0]
    assert np.diff(shown.astype(int)).tolist() == [1, 1, 1]
    still = one_window(pixels(1, fps=0.0), cut, np.random.default_rng(0))
    assert still.shape == (1, 4, 32, 32) and not still.any()
    assert all_windows(pixels(8, colour=True), consecutive).shape == (2, 4, 32, 32, 3)


def test_times():
    np.testing.assert_allclose(times(pixels(3)), [0, 0.05, 0.1])
    assert times(pixels(3, fps=0.0)) is None and times(pixels(1, fps=0.0)).tolist() == [0]


def test_reading_ahead_keeps_the_order_and_is_bounded():
    began, go = [], threading.Event()

    def read(task: int) -> int:
        began.append(task)
        if task == 0:
            go.wait(5)
        return task

    found = read_ahead(range(50), read)
    threading.Timer(0.1, go.set).start()
    assert next(found) == 0 and max(began) <= 8
    assert list(found) == list(range(1, 50))
    with pytest.raises(ZeroDivisionError):
        list(read_ahead([1, 0, 1], lambda task: 1 / task))
