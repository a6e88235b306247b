"""Cleaning: what is stored lies inside the sector, square, in the colours asked for."""

import dataclasses
import functools
import itertools

import cv2
import numpy as np
import pytest
import simplejpeg
from conftest import SAMPLES
from test_sector import fan_screen, needs_samples

from data_pipelines import readers
from data_pipelines.clean import clean
from data_pipelines.clip import Clip, Region, Rejected
from data_pipelines.phantom_files import identity, screen
from data_pipelines.phantom_image import simulate


def clip(frames, mode=""):
    return Clip(frames=frames, times=None, fps_source="unknown", mode=mode)


def test_frames_are_square_and_black_outside_the_sector():
    cleaned = clean(clip(fan_screen(1).frames), size=96, colour=False)
    assert cleaned.frames.shape == (16, 96, 96) and cleaned.frames.dtype == np.uint8
    assert cleaned.sector.shape == (96, 96) and cleaned.sector.dtype == bool
    assert cleaned.frames[:, ~cleaned.sector].max() == 0
    assert cleaned.frames[:, cleaned.sector].mean() > 20
    assert cleaned.mode == "b_mode"


def test_a_mask_goes_where_its_pixels_go():
    frames = fan_screen(1).frames.copy()
    inside = np.argwhere(fan_screen(1).truth)
    y, x = inside.mean(0).round().astype(int)
    truth = np.zeros(frames.shape[1:], np.uint8)
    truth[y - 9 : y + 10, x - 9 : x + 10] = 3
    frames[:, truth == 3] = 255
    cleaned = clean(clip(frames), size=96, colour=False)
    placed = cleaned.place(truth)
    assert set(np.unique(placed)) == {0, 3}
    bright = cleaned.frames.min(0) > 150
    assert (bright & (placed == 3)).sum() / (bright | (placed == 3)).sum() > 0.85
    assert cleaned.spacing((0.5, 0.25)).dtype == np.float32
    rows, columns = cleaned.spacing((0.5, 0.25))
    assert rows == 2 * columns
    assert (placed == 3).sum() * rows * columns == pytest.approx(19**2 * 0.5 * 0.25, rel=0.1)


def test_the_aspect_is_kept():
    screen = fan_screen(1)
    cleaned = clean(clip(screen.frames), size=96, colour=False)
    height, width = (np.ptp(np.flatnonzero(screen.truth.any(axis))) for axis in (1, 0))
    small = [np.ptp(np.flatnonzero(cleaned.sector.any(axis))) for axis in (1, 0)]
    assert small[0] / small[1] == pytest.approx(height / width, rel=0.06)
    assert max(small) >= 92


def coloured(screen, inside: bool):
    """The screen in RGB with a red jet in the sector, or a blue banner around it."""
    frames = np.repeat(screen.frames[..., None], 3, -1)
    if inside:
        rows, columns = np.nonzero(screen.truth)
        jet = np.hypot(*(np.mgrid[:200, :260] - np.array([[[rows.mean()]], [[columns.mean()]]])))
        frames[:, (jet < 20) & screen.truth] = (220, 40, 20)
    else:
        frames[:, 40:150, :14] = (10, 30, 240)
    return frames


@pytest.mark.parametrize(("inside", "mode"), [(True, "colour_doppler"), (False, "b_mode")])
def test_only_colour_inside_the_sector_is_doppler(inside, mode):
    frames = coloured(fan_screen(2), inside)
    assert clean(clip(frames), size=64, colour=False).mode == mode


def test_the_headers_mode_is_believed():
    frames = fan_screen(2).frames
    assert clean(clip(frames, "colour_doppler"), size=64, colour=False).mode == "colour_doppler"


def test_colour_is_kept_when_asked_for():
    cleaned = clean(clip(coloured(fan_screen(2), True)), size=64, colour=True)
    assert cleaned.frames.shape == (16, 64, 64, 3)
    red = cleaned.frames[..., 0].astype(int) - cleaned.frames[..., 2]
    assert red.max() > 100 and cleaned.frames[:, ~cleaned.sector].max() == 0


def test_nothing_is_kept_of_a_screen_without_sector():
    with pytest.raises(Rejected):
        clean(clip(np.zeros((8, 100, 100), np.uint8)), size=64, colour=False)


@functools.cache
def phantom(view, seed, size=(200, 260)):
    return simulate(view, seed, size=size)


def in_colour(frames):
    return np.repeat(frames[..., None], 3, -1)


def with_jet(clip):
    frames = in_colour(clip.frames)
    y, x = np.argwhere(clip.sector).mean(0)
    jet = np.hypot(*(np.mgrid[:200, :260] - np.array([[[y]], [[x]]]))) < 22
    frames[:, jet & clip.sector] = (220, 40, 20)
    return frames


def read_grey(frames, calls):
    """As `dicom.read` hands over a clip that is coloured somewhere and to be stored grey."""
    grey = clip(np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]), "b_mode")
    where = (np.ptp(frames, axis=-1) > 40).any(0)
    return dataclasses.replace(
        grey, coloured=where, in_colour=lambda: calls.append("read") or frames
    )


@pytest.mark.parametrize("inside", [True, False])
def test_colours_are_read_only_for_what_is_drawn_into_the_sector(inside):
    """A blue word on tissue is all but unseen in grey; buttons around it do not matter."""
    one, calls = phantom("A4C", 3), []
    frames = in_colour(one.frames)
    y, x = np.argwhere(one.sector).mean(0).astype(int)
    for frame in frames:
        place = (x - 25, y + 20) if inside else (2, 14)
        cv2.putText(frame, "DOE", place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 60, 255), 1)
    cleaned = clean(read_grey(frames, calls), size=96, colour=False)
    assert calls == ["read"] * inside and cleaned.mode == "b_mode" and cleaned.frames.ndim == 3
    assert (cleaned.cut > 0.01) == inside


def test_of_a_comparison_that_was_read_grey_the_plain_image_is_kept():
    one, calls = phantom("A4C", 3), []
    pair = np.concatenate([in_colour(one.frames), with_jet(one)], 2)
    cleaned = clean(read_grey(pair, calls), size=96, colour=False)
    assert calls and cleaned.box[1].stop <= 260


def test_of_a_comparison_with_colour_the_plain_image_is_kept_or_the_coloured_one():
    one = phantom("A4C", 3)
    alone = clean(clip(one.frames), size=96, colour=False)
    for order in (1, -1):
        pair = [in_colour(one.frames), with_jet(one)][::order]
        both = clip(np.concatenate(pair, 2), "colour_doppler")
        plain, flow = (clean(both, size=96, colour=colour) for colour in (False, True))
        assert (plain.mode, flow.mode) == ("b_mode", "colour_doppler")
        assert plain.frames.ndim == 3 and np.ptp(flow.frames, axis=-1).max() > 100
        left_one = plain if order == 1 else flow
        assert left_one.box[1].stop <= 260
        same = (plain.sector & alone.sector).sum() / (plain.sector | alone.sector).sum()
        assert same > 0.9


@pytest.mark.parametrize("repeat", [2, 5])
def test_repeated_frames_change_nothing(repeat):
    one = phantom("A4C", 3)
    slow = one.frames[::2]  # a recording of 12 to 30 frames a second
    alone = clean(clip(slow), size=96, colour=False)
    again = clean(clip(np.repeat(slow, repeat, 0)), size=96, colour=False)
    assert (again.sector == alone.sector).all() and again.cut == alone.cut < 0.05
    assert (again.frames == np.repeat(alone.frames, repeat, 0)).all()


def test_a_stop_is_kept_but_not_what_is_written_into_it():
    one = phantom("A4C", 3)
    stop = np.repeat(one.frames[-1:], 20, 0)
    assert len(clean(clip(np.concatenate([one.frames, stop])), size=96, colour=False).frames) > 20
    y, x = np.argwhere(one.sector).mean(0).astype(int)
    for frame in stop[6:]:
        cv2.putText(frame, "DOE JANE", (x - 30, y), cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 1)
    with pytest.raises(Rejected, match="appears while the picture stands still"):
        clean(clip(np.concatenate([one.frames, stop])), size=96, colour=False)


def test_of_a_fast_clip_little_is_cut():
    """Neighbours of 200 frames a second hardly differ."""
    one = phantom("PSAX_MV", 12)
    blend = [((4 - k) * a + k * b) // 4 for a, b in itertools.pairwise(one.frames[:60].astype(int))
             for k in range(4)]  # fmt: skip
    fast = np.stack(blend).astype(np.uint8)
    times = np.arange(len(fast)) / (4 * one.fps)
    read = Clip(frames=fast, times=times, fps_source="FrameTime")
    assert clean(read, size=96, colour=False).cut < 0.05


def test_what_is_too_short_to_verify_is_refused():
    with pytest.raises(Rejected, match="fewer than 8 frames that differ"):
        clean(clip(phantom("A4C", 3).frames[:7]), size=96, colour=False)


def test_only_what_lies_in_the_header_s_region_is_kept():
    one = phantom("A4C", 3)
    rows, columns = np.flatnonzero(one.sector.any(1)), np.flatnonzero(one.sector.any(0))
    lower = slice(rows[0] + 9, rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def box(*boxes):
        regions = tuple(Region(box=box, kind="2d") for box in boxes)
        read = dataclasses.replace(clip(one.frames), regions=regions)
        return clean(read, size=96, colour=False).box

    whole = box()
    assert whole[0].start < lower[0].start
    assert box(lower)[0].start >= lower[0].start
    assert box(lower, lower) == whole  # of two regions it is not known whose it is
    half = slice(rows[0], rows[0] + 80), lower[1]
    assert box(half) == whole  # that of another picture


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("gap", [0, 24])
def test_two_planes_in_one_picture_are_refused(axis, gap):
    one, other = phantom("A4C", 3).frames[:40], phantom("A2C", 4).frames[:40]
    if gap:  # one beside the other, so close that they touch
        picture = np.zeros((40, 200, 520 - gap), np.uint8)
        picture[:, :, :260] = one
        picture[:, :, -260:] = np.maximum(picture[:, :, -260:], other)
    else:
        picture = np.concatenate([one, other], axis)
    with pytest.raises(Rejected) as caught:
        clean(clip(picture), size=96, colour=False)
    assert caught.value.reason == "split_screen"


def test_a_frozen_image_beside_a_live_one_is_blanked():
    one, other = phantom("A4C", 3).frames[:40], phantom("A2C", 4).frames[:1].repeat(40, 0)
    cleaned = clean(clip(np.concatenate([one, other], 2)), size=96, colour=False)
    assert cleaned.box[1].stop <= 260


def masked(one, side=112):
    """A clip as public sets have them: cropped to its fan, compressed, black around."""
    rows, columns = np.flatnonzero(one.sector.any(1)), np.flatnonzero(one.sector.any(0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    small = np.stack([cv2.resize(f[box], (side, side)) for f in one.frames[:24]])
    encoded = [simplejpeg.encode_jpeg(f[..., None], 85, "GRAY") for f in small]
    frames = np.stack([simplejpeg.decode_jpeg(e, "GRAY")[..., 0] for e in encoded])
    inside = one.sector[box].astype(np.float32)
    return frames, cv2.resize(inside, (side, side)) > 0.5


@pytest.mark.parametrize("count", [1, 24])
def test_a_precropped_clip_keeps_its_fan(count):
    frames, truth = masked(phantom("PLAX", 4))
    cleaned = clean(clip(frames[:count]), size=112, colour=False, precropped=True)
    assert cleaned.sector.sum() == pytest.approx(truth.sum(), rel=0.12)
    assert cleaned.cut == 0 and not cleaned.ecg_removed


def test_a_precropped_rectangle_is_kept_whole_and_black_refused():
    frames, _ = masked(phantom("PLAX", 3))
    middle = frames[:, 30:80, 35:75]
    cleaned = clean(clip(middle), size=112, colour=False, precropped=True)
    assert cleaned.sector.mean() > 0.95 * 40 / 50
    with pytest.raises(Rejected):
        clean(clip(middle), size=112, colour=False)
    with pytest.raises(Rejected):
        clean(clip(np.zeros_like(frames)), size=112, colour=False, precropped=True)


def test_a_trace_in_the_sector_is_removed_and_reported():
    one = phantom("A4C", 2, (300, 400))
    cleaned = clean(clip(screen(one, identity(0, 0), 0.8)), size=224, colour=False)
    without = clean(clip(one.frames), size=224, colour=False)
    assert cleaned.ecg_removed and not without.ecg_removed
    assert 0.05 < cleaned.cut < 0.25 and without.cut < 0.04
    assert cleaned.frames[:, ~cleaned.sector].max() == 0


@needs_samples
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("volunteer_a4c.mov", "b_mode"),
        ("sonosite_a4c_ybr422_jpeg.dcm", "b_mode"),
        ("acuson_colour_doppler_rgb.dcm", "colour_doppler"),
        ("plax_colour_doppler_palette_rle.dcm", "colour_doppler"),
    ],
)
def test_modes_of_real_clips(name, mode):
    read = readers.read(SAMPLES / name)
    assert clean(read, size=112, colour=False).mode == mode
    assert cv2.getNumThreads() == 1
