"""Traces and marks in phantoms and real clips: found and cut out, or not there."""

import cv2
import numpy as np
import pytest
from conftest import SAMPLES
from test_sector import needs_samples

from data_pipelines import ecg, readers
from data_pipelines.clean import to_grey
from data_pipelines.phantom_files import identity, screen
from data_pipelines.phantom_image import VIEWS, simulate
from data_pipelines.sector import find_sectors

SIZE = 300, 400


@pytest.fixture(scope="module")
def phantoms():
    return {view: simulate(view, 2, size=SIZE) for view in VIEWS}


def traced(clip, baseline=0.8):
    """Frames with a trace that is written as the heart beats, and its pixels, [T, H, W] bool."""
    frames = screen(clip, identity(0, 0), baseline)
    return frames, (frames != clip.frames) & clip.sector


@pytest.mark.parametrize("view", VIEWS)
def test_a_trace_is_cut_out_and_nothing_of_it_is_left(phantoms, view):
    clip = phantoms[view]
    frames, drawn = traced(clip)
    left, removed = ecg.cut_graphics(frames, clip.sector)
    assert removed
    assert drawn.sum() > 1000 and not (drawn & left).any()
    assert left.sum() > 0.7 * clip.sector.sum()
    # What is left is what it would be without a trace, and looked at again it holds none.
    assert (frames[:, left] == clip.frames[:, left]).all()
    assert ecg.cut_graphics(np.where(left, frames, 0), left) == (pytest.approx(left), False)


@pytest.mark.parametrize("view", VIEWS)
def test_a_phantom_without_trace_keeps_its_sector(phantoms, view):
    clip = phantoms[view]
    left, removed = ecg.cut_graphics(screen(clip, identity(0, 0)), clip.sector)
    assert not removed and left.sum() > 0.995 * clip.sector.sum()


def coloured(frames, drawn):
    """The trace in green on grey, in RGB."""
    image = np.repeat(frames[..., None], 3, -1)
    image[drawn] = (0, 230, 60)
    return image


def swept(frames, drawn):
    """A cursor with a gap behind it that wipes the trace and writes it again."""
    whole, width = drawn.any(0), frames.shape[2]
    x = np.arange(width)
    images = frames.copy()
    for t, image in enumerate(images):
        gap = (x - 0.4 * width - t * width / len(frames)) % width < 0.06 * width
        image[whole & ~gap] = 220
    return images


def thick(frames, drawn):
    lines = np.stack([cv2.dilate(f.astype(np.uint8), np.ones((2, 2))) for f in drawn])
    return np.where(lines > 0, 220, frames).astype(np.uint8)


@pytest.mark.parametrize("draw", [coloured, swept, thick])
def test_traces_of_other_looks(phantoms, draw):
    clip = phantoms["A4C"]
    _, drawn = traced(clip)
    left, removed = ecg.cut_graphics(draw(clip.frames, drawn), clip.sector)
    assert removed and not (drawn.any(0) & left).any()


def test_lines_and_arcs_are_no_trace(phantoms):
    """A colour box and rulers stay still and smooth: cut out as marks, not as a band."""
    clip = phantoms["A4C"]
    frames = clip.frames.copy()
    y, x = np.argwhere(clip.sector).mean(0).astype(int)
    for frame in frames:
        cv2.ellipse(frame, (x, y - 60), (90, 90), 0, 60, 120, 230, 2)
        cv2.line(frame, (x - 70, y + 55), (x + 70, y + 55), 230, 1)
    left, removed = ecg.cut_graphics(frames, clip.sector)
    assert not removed
    assert left.sum() > 0.95 * clip.sector.sum()
    assert not ((frames != clip.frames).any(0) & clip.sector & left).any()


def test_still_letters_are_cut_out(phantoms):
    clip = phantoms["PLAX"]
    frames = clip.frames.copy()
    y, x = np.argwhere(clip.sector).mean(0).astype(int)
    for frame in frames:
        cv2.putText(frame, "DOE JANE", (x - 60, y), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1)
    written = (frames != clip.frames).any(0)
    left, _ = ecg.cut_graphics(frames, clip.sector)
    assert (written & left).sum() < 0.03 * written.sum()
    assert left.sum() > 0.75 * clip.sector.sum()


def test_a_picture_that_is_still_is_left_alone(phantoms):
    clip = phantoms["A4C"]
    for frames in (np.repeat(clip.frames[:1], 20, 0), clip.frames[:4]):
        left, removed = ecg.cut_graphics(frames, clip.sector)
        assert not removed and (left == clip.sector).all()


@needs_samples
@pytest.mark.parametrize(
    ("name", "trace"),
    [("icu_a4c_gray.npy", True), ("echotracker_alax.mp4", False), ("tee_mitral.mp4", False),
     ("sonosite_a4c_ybr422_jpeg.dcm", False), ("acuson_colour_doppler_rgb.dcm", False),
     ("volunteer_a4c.mov", False), ("volunteer_psax_mv.mov", False)],
)  # fmt: skip
def test_traces_in_real_sectors(name, trace):
    """The volunteers' traces run below their sectors; that of the ICU patient inside."""
    frames = readers.read(SAMPLES / name).frames
    (sector,) = find_sectors(to_grey(frames))
    left, removed = ecg.cut_graphics(frames, sector.mask)
    assert removed == trace
    assert left.sum() > (0.85 if trace else 0.96) * sector.mask.sum()
    if trace:  # rows 183 to 192 hold it, as one sees
        assert not left[182:193].any()
