"""Traces and marks in phantoms and real clips: found and cut out, or not there."""

import cv2
import numpy as np
import pytest
import simplejpeg
from conftest import SAMPLES
from test_sector import needs_samples

from data_pipelines import graphics, marks, readers
from data_pipelines.clean import to_grey
from data_pipelines.clip import Rejected
from data_pipelines.phantom_files import identity, screen
from data_pipelines.phantom_image import VIEWS, simulate
from data_pipelines.sector import find_sectors

SIZE = 300, 400


@pytest.fixture(scope="module")
def phantoms():
    return {view: simulate(view, 13, size=SIZE) for view in VIEWS}


def traced(clip, baseline=0.8):
    """Frames with a trace that is written as the heart beats, and its pixels, [T, H, W] bool."""
    frames = screen(clip, identity(0, 0), baseline)
    return frames, (frames != clip.frames) & clip.sector


@pytest.mark.parametrize("view", VIEWS)
def test_a_trace_is_cut_out_and_nothing_of_it_is_left(phantoms, view):
    clip = phantoms[view]
    frames, drawn = traced(clip)
    left, removed = graphics.cut_graphics(frames, clip.sector)
    assert removed
    assert drawn.sum() > 1000 and not (drawn & left).any()
    assert left.sum() > 0.7 * clip.sector.sum()
    # What is left is what it would be without a trace, and looked at again it holds none.
    assert (frames[:, left] == clip.frames[:, left]).all()
    again, removed = graphics.cut_graphics(np.where(left, frames, 0), left)
    assert not removed and again.sum() > 0.9 * left.sum()


@pytest.mark.parametrize("view", VIEWS)
def test_a_phantom_without_trace_keeps_its_sector(phantoms, view):
    clip = phantoms[view]
    left, removed = graphics.cut_graphics(screen(clip, identity(0, 0)), clip.sector)
    assert not removed and left.sum() > 0.96 * clip.sector.sum()


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
    left, removed = graphics.cut_graphics(draw(clip.frames, drawn), clip.sector)
    assert removed and not (drawn.any(0) & left).any()


def test_lines_and_arcs_are_no_trace(phantoms):
    """A colour box and rulers stay still and smooth: cut out as marks, not as a band."""
    clip = phantoms["A4C"]
    frames = clip.frames.copy()
    y, x = np.argwhere(clip.sector).mean(0).astype(int)
    for frame in frames:
        cv2.ellipse(frame, (x, y - 60), (90, 90), 0, 60, 120, 230, 2)
        cv2.line(frame, (x - 70, y + 55), (x + 70, y + 55), 230, 1)
    left, removed = graphics.cut_graphics(frames, clip.sector)
    assert not removed
    assert left.sum() > 0.85 * clip.sector.sum()
    assert not ((frames != clip.frames).any(0) & clip.sector & left).any()


NAMES = ("DOE JANE", "1957-03-11", "MERCY", "ID 4488", "DR. SMITH", "ROOM 12", "BED 3", "ACC 93")


def written(clip, lines, *, scale, bold, when=slice(None), grey=255, quality=0):
    """Frames with lines of text in the sector's middle, perhaps as a JPEG keeps them; and where."""
    text = np.zeros(clip.frames.shape[1:], np.uint8)
    y, x = np.argwhere(clip.sector).mean(0)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for number, line in enumerate(lines):
        (width, height), _ = cv2.getTextSize(line, font, scale, bold)
        row = y + (number - len(lines) / 2 + 0.7) * 1.7 * height
        cv2.putText(text, line, (int(x - width / 2), int(row)), font, scale, 1, bold)
    frames = clip.frames.copy()
    frames[when, text > 0] = grey
    if quality:
        encoded = (simplejpeg.encode_jpeg(f[..., None], quality, "GRAY") for f in frames)
        frames = np.stack([simplejpeg.decode_jpeg(e, "GRAY")[..., 0] for e in encoded])
    return frames, (text > 0) & clip.sector


@pytest.mark.parametrize(
    "how",
    [
        {"lines": NAMES[:1], "scale": 0.6, "bold": 1},
        {"lines": NAMES[:1], "scale": 0.4, "bold": 1, "grey": 200, "quality": 75},
        {"lines": NAMES[:3], "scale": 0.4, "bold": 1},
        {"lines": NAMES[:1], "scale": 1.0, "bold": 2, "when": slice(-24, None)},
        {"lines": NAMES[:1], "scale": 0.6, "bold": 1, "when": slice(20)},
        {"lines": NAMES[:1], "scale": 0.6, "bold": 1, "when": slice(30, 60), "quality": 75},
    ],
)
def test_letters_are_cut_out_as_blocks_and_are_no_trace(phantoms, how):
    clip = phantoms["A4C"]
    frames, letters = written(clip, **how)
    left, removed = graphics.cut_graphics(frames, clip.sector)
    assert not removed and left.sum() > 0.75 * clip.sector.sum()
    assert (letters & left).sum() < 0.01 * letters.sum()
    # Their shape cannot be read from the hole: what lies between letters went with them.
    around = cv2.morphologyEx(letters.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7))) > 0
    assert (around & left).sum() < 0.01 * around.sum()


@pytest.mark.parametrize("view", VIEWS)
def test_no_letter_is_left_in_any_view(phantoms, view):
    """In a PLAX, words that touch the aorta's long lines may be taken for a trace, or refused."""
    frames, letters = written(phantoms[view], NAMES[:3], scale=0.4, bold=1)
    try:
        left, _ = graphics.cut_graphics(frames, phantoms[view].sector)
    except Rejected:
        assert view == "PLAX"
        return
    assert (letters & left).sum() < 0.01 * letters.sum()


@pytest.mark.parametrize(
    "how",
    [
        {"lines": NAMES, "scale": 0.6, "bold": 1},
        {"lines": NAMES[:1], "scale": 3.0, "bold": 9},
    ],
)
def test_where_text_covers_the_picture_nothing_of_it_is_kept(phantoms, how):
    clip = phantoms["PLAX"]
    frames, letters = written(clip, **how)
    try:
        left, _ = graphics.cut_graphics(frames, clip.sector)
    except Rejected as rejected:
        assert rejected.reason == "no_sector"
    else:
        assert (letters & left).sum() < 0.03 * letters.sum()


def test_a_picture_that_is_still_or_too_short_is_refused(phantoms):
    clip = phantoms["A4C"]
    for frames in (np.repeat(clip.frames[:1], 20, 0), clip.frames[:4]):
        with pytest.raises(Rejected, match=r"still|fewer"):
            graphics.cut_graphics(frames, clip.sector)


@pytest.mark.parametrize("view", ["A4C", "PSAX_AP"])
def test_of_a_bright_picture_little_is_cut(view):
    """With twice the gain all is steadier."""
    clip = simulate(view, 12, size=(200, 260))
    frames = np.clip(clip.frames * 2.0, 0, 255).astype(np.uint8)
    left, _ = graphics.cut_graphics(frames, clip.sector)
    assert left.sum() > 0.9 * clip.sector.sum()


@needs_samples
def test_a_real_trace_is_found_in_a_dim_copy():
    frames = readers.read(SAMPLES / "icu_a4c_gray.npy").frames // 2
    (sector,) = find_sectors(frames)
    left, removed = graphics.cut_graphics(frames, sector.mask)
    assert removed and not left[182:193].any()


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
    left, removed = graphics.cut_graphics(frames, sector.mask)
    assert removed == trace
    assert left.sum() > (0.85 if trace else 0.92) * sector.mask.sum()
    if trace:  # rows 183 to 192 hold it, as one sees
        assert not left[182:193].any()


@pytest.mark.parametrize("count", [8, 11, 24, 26])  # 26: eight spans may sum to more than 255
def test_no_place_is_left_out_where_a_row_of_spans_has_enough_contrast(count):
    rng = np.random.default_rng(count)
    thin = rng.integers(0, 20, (count, 40, 50), np.uint8)
    thin[:, :5] = marks.CONTRAST  # just enough, all the time
    spans = marks._spans(count)
    for together in (1, 2, 4, 8):
        rows = [thin[a.start : b.stop] for a, b in zip(spans, spans[together - 1 :], strict=False)]
        if rows:
            enough = np.any([row.mean(0) >= marks.CONTRAST for row in rows], 0)
            found = marks._contrasting(thin, spans, together)
            assert set(np.flatnonzero(enough)) <= set(found)
            assert len(found) < enough.size
