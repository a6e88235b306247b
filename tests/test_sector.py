"""Fans of random geometry among everything that surrounds them on a screen."""

import dataclasses
import zipfile

import cv2
import numpy as np
import pytest
from conftest import SAMPLES
from scipy import ndimage

from data_pipelines import fan, readers, sector
from data_pipelines.clean import to_grey
from data_pipelines.clip import Rejected

needs_samples = pytest.mark.skipif(
    not SAMPLES.is_dir(), reason="no sample clips: set ECHOFM_SAMPLES to their folder"
)


@dataclasses.dataclass
class Screen:
    """A recorded screen and what is true of it."""

    frames: np.ndarray  # [T, H, W] uint8
    truth: np.ndarray  # [H, W] bool
    overlay: np.ndarray  # [H, W] bool: all that was drawn around the sector


def speckle(rng, count, height, width):
    """Tissue that changes from frame to frame, around grey 70; [T, H, W]."""
    steady = cv2.GaussianBlur(rng.normal(size=(height, width)), None, 1.5)
    moving = rng.normal(size=(count, height, width)).astype(np.float32)
    moving = np.stack([cv2.GaussianBlur(frame, None, 1.2) for frame in moving])
    return 70 + 120 * steady + 90 * moving


def fan_screen(seed, count=16, height=200, width=260):
    """A fan somewhere on a screen with banner, ruler, logo, ECG and compression noise."""
    rng = np.random.default_rng(seed)
    half = np.radians(rng.uniform(50, 110)) / 2
    top = rng.uniform(-0.12, 0.08) * height
    top = max(top, 24.0) if seed % 4 else top  # every fourth is cut off above
    apex = width * rng.uniform(0.42, 0.58), top - rng.uniform(0, 0.12) * height
    # As deep as the screen allows; every third is cut off at its sides.
    depth = min(height * rng.uniform(0.7, 0.8), height - 26 - apex[1])
    room = min(apex[0], width - apex[0])
    if seed % 3:
        depth = min(depth, 0.97 * room / np.sin(half))
    geometry = (*apex, -half, half, max(top - apex[1], 2), depth)
    truth = fan.fan_mask(np.array(geometry), height, width)
    tissue = speckle(rng, count, height, width)
    y, x = np.mgrid[:height, :width]
    for _ in range(rng.integers(1, 4)):  # cavities, nearly black, that beat
        cx, cy = apex[0] + rng.uniform(-0.2, 0.2) * depth, apex[1] + rng.uniform(0.4, 0.8) * depth
        radii = depth * rng.uniform(0.06, 0.14) * (1 + 0.15 * np.sin(np.arange(count)))
        hole = np.hypot(x - cx, (y - cy) * 0.7)[None] < radii[:, None, None]
        tissue = np.where(hole, 6 + 0.05 * (tissue - 70), tissue)
    decay = 1 - 0.5 * np.clip(np.hypot(x - apex[0], y - apex[1]) / depth, 0, 1)
    frames = np.where(truth, np.clip(tissue * decay, 2, 255), 0)
    frames, overlay = with_overlays(frames, truth, rng)
    # What a codec adds: text flickers, black hardly does.
    noise = rng.normal(size=frames.shape) * np.where(overlay, 6, 0.3)
    return Screen(np.clip(frames + noise, 0, 255).astype(np.uint8), truth, overlay)


def with_overlays(frames, truth, rng):
    """Frames with texts, ruler, logo and an ECG drawn outside the sector; and where."""
    count, height, width = frames.shape
    drawn = np.zeros((count, height, width), np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    trace = height - 14 + 6 * np.sin(np.arange(width) / 6) * (rng.uniform(size=width) < 0.9)
    for number, screen in enumerate(drawn):
        cv2.putText(screen, "DOE JANE 1957-03-11 MERCY", (3, 12), font, 0.42, 200, 1)
        cv2.putText(screen, f"{72 + number % 2} bpm {number:03d}", (3, 28), font, 0.35, 180, 1)
        cv2.putText(screen, "PHI", (width - 34, height - 30), font, 0.5, 255, 1)
        for row in range(30, height - 30, 12):
            cv2.line(screen, (width - 6, row), (width - 2, row), 220, 1)
        cv2.circle(screen, (width - 14, 34), 7, 160, -1)
        points = np.stack([np.arange(width), trace], -1).astype(np.int32)
        cv2.polylines(screen, [points], False, 150, 1)
        cursor = (7 * number) % width
        screen[height - 24 :, cursor : cursor + 4] = 0
    drawn[:, truth] = 0
    return np.maximum(frames, drawn), drawn.any(0)


@pytest.mark.parametrize("seed", range(24))
def test_fans(seed):
    screen = fan_screen(seed)
    (found,) = sector.find_sectors(screen.frames)
    kept = (found.mask & screen.truth).sum() / screen.truth.sum()
    assert kept >= 0.96
    far = ndimage.distance_transform_edt(~screen.truth) > 3
    assert not (found.mask & screen.overlay & far).any()


def test_a_jump_is_no_cursor():
    screen = fan_screen(1)
    mean = screen.frames.mean(0)
    calm = mean + 0.08 * (screen.frames - mean)  # less changes in all steps than in the jump
    frames = np.concatenate([calm[:8], calm[8:] // 2]).astype(np.uint8)
    (found,) = sector.find_sectors(frames)
    assert (found.mask & screen.truth).sum() > 0.95 * screen.truth.sum()


def test_frames_that_a_codec_repeats_are_those_before_them():
    frames = fan_screen(1).frames.astype(int)
    noise = np.random.default_rng(3).normal(size=(5, *frames.shape)) * (frames > 0)
    repeated = np.stack([frames + n for n in noise], 1).reshape(-1, *frames.shape[1:])
    live = sector.moving(np.clip(repeated, 0, 255).astype(np.uint8))
    assert live.tolist() == list(range(0, 5 * len(frames), 5))


def degrees(*angles):
    return tuple(np.radians(angles))


@pytest.mark.parametrize(
    "geometry",
    [
        (150, 30, *degrees(-60, 62), 6, 110),  # wide
        (150, 24, *degrees(-13, 13), 6, 150),  # narrow
        (120, 26, *degrees(-10, 58), 6, 130),  # steered
        (170, 26, *degrees(-62, 8), 6, 130),
        (150, -40, *degrees(-30, 30), 80, 205),  # curved array, its apex outside
        (150, 24, *degrees(-46, 46), 6, 250),  # cut off at three sides
    ],
)
def test_fans_of_all_kinds(geometry):
    rng = np.random.default_rng(7)
    truth = fan.fan_mask(np.array(geometry), 200, 300)
    frames = np.where(truth, np.clip(speckle(rng, 16, 200, 300), 2, 255), 0)
    frames, overlay = with_overlays(frames, truth, rng)
    (found,) = sector.find_sectors(frames.astype(np.uint8))
    assert (found.mask & truth).sum() > 0.96 * truth.sum()
    far = ndimage.distance_transform_edt(~truth) > 3
    assert not (found.mask & overlay & far).any()


def test_an_m_mode_strip_below_a_sector_is_refused():
    frames = fan_screen(1).frames
    strip = np.zeros((len(frames), 120, frames.shape[2]), np.uint8)
    texture = np.clip(speckle(np.random.default_rng(8), 1, 120, frames.shape[2])[0], 20, 255)
    for t, picture in enumerate(strip):
        picture[:, : 16 * (t + 1)] = texture[:, : 16 * (t + 1)]
    with pytest.raises(Rejected) as caught:
        sector.find_sectors(np.concatenate([frames, strip], 1))
    assert caught.value.reason == "m_mode_or_spectral"


def test_a_masked_triangle_of_112_pixels_is_a_fan():
    rng = np.random.default_rng(1)
    truth = fan.fan_mask(np.array([56, -6, -0.78, 0.78, 0, 116]), 112, 112)
    frames = np.where(truth, np.clip(speckle(rng, 16, 112, 112), 1, 255), 0).astype(np.uint8)
    (found,) = sector.find_sectors(frames)
    assert (found.mask & truth).sum() > 0.97 * truth.sum()
    assert (found.mask & ~truth).sum() < 0.02 * truth.sum()


def scrolling(count=24):
    strip = np.clip(speckle(np.random.default_rng(2), 1, 120, 400)[0], 0, 255).astype(np.uint8)
    return np.stack([strip[:, 4 * t : 4 * t + 160] for t in range(count)])


def swept(count=24):
    rng = np.random.default_rng(3)
    picture = np.clip(speckle(rng, 1, 120, 160)[0], 0, 255).astype(np.uint8)
    frames = []
    for t in range(count):
        fresh = np.clip(speckle(rng, 1, 120, 160)[0], 0, 255).astype(np.uint8)
        picture = picture.copy()
        picture[:, 6 * t : 6 * t + 8] = fresh[:, 6 * t : 6 * t + 8]
        frames.append(picture)
    return np.stack(frames)


def still(count=8):
    return np.repeat(swept(1), count, 0)


def text_only(count=12):
    blank = np.zeros((count, 200, 260))
    frames, _ = with_overlays(blank, np.zeros((200, 260), bool), np.random.default_rng(4))
    return frames.astype(np.uint8)


def cropped(count=16):
    frames = speckle(np.random.default_rng(0), count, 112, 112)
    return np.clip(frames, 1, 255).astype(np.uint8)


def grey_screen():
    return np.maximum(fan_screen(1).frames, 32).astype(float)


def fading():
    frames = grey_screen()
    ramp = np.clip(np.arange(len(frames)) / 10, 0, 1)
    return (frames * ramp[:, None, None]).astype(np.uint8)


def flickering():
    frames = grey_screen()
    light = 1 + 0.05 * np.random.default_rng(5).normal(size=len(frames))
    return np.clip(frames * light[:, None, None], 0, 255).astype(np.uint8)


def noisy():
    frames, rng = fan_screen(1).frames + 16.0, np.random.default_rng(6)
    noise = np.stack([cv2.GaussianBlur(rng.normal(size=f.shape), None, 1.2) for f in frames])
    return np.clip(frames + 4 * noise / noise.std(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("make", [fading, flickering, noisy])
def test_a_screen_that_moves_all_over_never_shows_its_text(make):
    """Recordings whose whole screen varies: refused, or cut to the sector all the same."""
    truth = fan_screen(1).truth
    try:
        (found,) = sector.find_sectors(make())
    except Rejected as rejected:
        assert rejected.reason == "no_sector"
    else:
        far = ndimage.distance_transform_edt(~truth) > 3
        assert not (found.mask & fan_screen(1).overlay & far).any()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (scrolling, "m_mode_or_spectral"),
        (swept, "m_mode_or_spectral"),
        (still, "no_sector"),
        (text_only, "no_sector"),
        (cropped, "no_sector"),
    ],
)
def test_what_is_no_image_of_a_heart_is_refused(make, reason):
    with pytest.raises(Rejected) as caught:
        sector.find_sectors(make())
    assert caught.value.reason == reason


@needs_samples
@pytest.mark.parametrize(
    "name",
    ["volunteer_a4c.mov", "volunteer_psax_mv.mov", "echotracker_alax.mp4", "tee_mitral.mp4",
     "icu_a4c_gray.npy", "sonosite_a4c_ybr422_jpeg.dcm", "acuson_colour_doppler_rgb.dcm",
     "plax_colour_doppler_palette_rle.dcm"],
)  # fmt: skip
def test_real_sectors_hold_what_moves_and_no_banner(name):
    grey = to_grey(readers.read(SAMPLES / name).frames)
    (found,) = sector.find_sectors(grey)
    moving = cv2.blur(grey.std(0), (9, 9)) > 12  # tissue; text flickers less
    labels, _ = ndimage.label(moving)
    heart = labels == np.argmax(np.bincount(labels[labels > 0]))
    assert (found.mask & heart).sum() > 0.97 * heart.sum()
    if name.startswith("volunteer"):  # name, institution and date stand in the upper 60 rows
        assert not found.mask[:60].any()


@needs_samples
def test_a_linear_probe_with_burned_in_identity_is_refused(tmp_path):
    with zipfile.ZipFile(SAMPLES / "us_phantom_phi_burned_in.zip") as archive:
        archive.extractall(tmp_path)
    (file,) = tmp_path.rglob("*.dcm")
    with pytest.raises(Rejected) as caught:
        sector.find_sectors(to_grey(readers.read(file).frames))
    assert caught.value.reason == "no_sector"


@pytest.mark.parametrize("halves, count", [((1, 1), 2), ((1, None), 0), ((None, 1), 0)])
def test_a_part_that_is_no_fan_is_cut_in_two(halves, count, monkeypatch):
    some = np.array([60, 5, -0.6, 0.6, 8, 100])
    fits = iter([None, *(half and some for half in halves)])
    monkeypatch.setattr(sector, "fit_fan", lambda part: next(fits))
    assert len(sector.fit_parts(fan.fan_mask(some, 110, 120) > 0)) == count
