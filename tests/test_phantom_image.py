"""A simulated clip: a heart that is ordered like a real one, and its truth."""

import dataclasses
import functools

import cv2
import numpy as np
import pytest

from data_pipelines import records
from data_pipelines.phantom_files import identity
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_image import VIEWS, simulate
from data_pipelines.phantom_long_axis import LongAxis
from data_pipelines.phantom_rhythm import RHYTHMS
from data_pipelines.phantom_screen import screen
from data_pipelines.phantom_short_axis import LEVELS, ShortAxis

SMALL = (120, 160)
PERSON = identity(0, 0)


@functools.cache
def clip(view="A4C", seed=0, size=SMALL):
    return simulate(view, seed, size)


@pytest.fixture(params=VIEWS)
def each_view(request):
    return clip(request.param)


def alike(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(np.corrcoef(a[where], b[where])[0, 1])


# ---- truth -------------------------------------------------------------------------------------


def test_a_seed_is_a_clip(each_view):
    again = simulate(each_view.view, 0, SMALL)
    np.testing.assert_array_equal(again.frames, each_view.frames)
    np.testing.assert_array_equal(again.phase, each_view.phase)
    other = clip(each_view.view, 1)
    assert other.frames.shape != each_view.frames.shape or (other.frames != each_view.frames).any()


def hearts(rhythm, count=6):
    return [Heart.draw(np.random.default_rng(seed), rhythm) for seed in range(count)]


@functools.cache
def beating(rhythm, seed=0, view="A4C"):
    """A small clip of a heart in some rhythm."""
    return simulate(view, seed, (64, 80), hearts(rhythm)[seed])


def test_times_and_rate(each_view):
    count = len(each_view.frames)
    assert 20 <= each_view.fps <= 80 and 2 <= (count + 1) / each_view.fps <= 4.1
    np.testing.assert_allclose(each_view.times, np.arange(count) / each_view.fps)
    # The phase advances by one each RR interval: its slope is the heart rate.
    beats = np.unwrap(each_view.phase, period=1)
    rate = 60 * (beats[-1] - beats[0]) / each_view.times[-1]
    assert rate == pytest.approx(each_view.heart_rate, rel=0.05)


@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("seed", range(3))
def test_phase_beats_and_landmarks_agree(rhythm, seed):
    """Phase is 0 at each R wave; ED and ES are the first frames after them."""
    clip = beating(rhythm, seed)
    assert clip.rhythm == rhythm
    assert clip.r_waves[0] <= 0 and (np.diff(clip.r_waves) > 0).all()
    np.testing.assert_allclose(np.diff(clip.r_waves), clip.rr_intervals[:-1])
    beat = np.searchsorted(clip.r_waves, clip.times, side="right") - 1
    np.testing.assert_allclose(
        clip.phase, (clip.times - clip.r_waves[beat]) / clip.rr_intervals[beat]
    )
    np.testing.assert_array_equal(clip.end_diastole, np.flatnonzero(np.diff(beat)) + 1)
    assert clip.phase[clip.end_diastole].max() < 1 / clip.fps / clip.rr_intervals.min()


@pytest.mark.parametrize("rhythm", RHYTHMS)
@pytest.mark.parametrize("seed", range(3))
def test_volumes_are_extreme_at_ed_and_es_and_give_the_ejection_fraction(rhythm, seed):
    clip = beating(rhythm, seed)
    whole = []
    for number, start in enumerate(clip.r_waves):
        frames = np.flatnonzero(
            (clip.times >= start) & (clip.times < start + clip.rr_intervals[number])
        )
        diastole, systole = np.isin(clip.end_diastole, frames), np.isin(clip.end_systole, frames)
        assert diastole.sum() <= 1 and systole.sum() <= 1
        if not systole.any():
            continue
        end = clip.volumes[clip.end_systole[systole][0]]
        assert end == pytest.approx(clip.volumes[frames].min())
        if diastole.any():
            begin = clip.volumes[clip.end_diastole[diastole][0]]
            before_es = frames[frames <= clip.end_systole[systole][0]]
            assert begin == pytest.approx(clip.volumes[before_es].max())
            whole.append(100 * (1 - end / begin))
            assert whole[-1] == pytest.approx(clip.beat_ejection_fractions[number])
    assert np.mean(whole) == pytest.approx(clip.ejection_fraction)


def test_a_regular_heart_has_the_ejection_fraction_that_was_drawn():
    for seed, heart in enumerate(hearts("sinus")[:3]):
        assert beating("sinus", seed).ejection_fraction == pytest.approx(
            heart.ejection_fraction, rel=0.05
        )


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_masks_follow_the_volume_from_beat_to_beat(rhythm):
    for seed in range(3):
        clip = beating(rhythm, seed)
        area = clip.masks["LV"].sum((1, 2)).astype(float)
        assert alike(area, clip.volumes, np.ones(len(area), bool)) > 0.95


def test_rhythms_differ_where_they_should():
    spread = {
        rhythm: np.mean([
            np.std(c.rr_intervals) / np.mean(c.rr_intervals)
            for c in (beating(rhythm, seed) for seed in range(3))
        ])
        for rhythm in RHYTHMS
    }  # fmt: skip
    assert spread["sinus"] < 0.03 < spread["sinus_arrhythmia"] < spread["bigeminy"]
    assert spread["atrial_fibrillation"] > 0.1
    assert all(beating("premature_beats", seed).premature.any() for seed in range(3))
    assert not beating("sinus").premature.any()


@functools.cache
def strong(view):
    """A clip of a heart that moves well."""
    heart = dataclasses.replace(hearts("sinus")[0], heart_rate=90, ejection_fraction=60)
    return simulate(view, 0, SMALL, heart)


@pytest.mark.parametrize("view", VIEWS)
def test_the_cavity_in_the_picture_follows_the_volume(view):
    clip = strong(view)
    area = clip.masks["LV"].sum((1, 2)).astype(float)
    assert alike(area, clip.volumes, np.ones(len(area), bool)) > 0.97
    diastole, systole = area[clip.end_diastole].mean(), area[clip.end_systole].mean()
    # An area goes roughly with the volume's power of 2/3; pixels and breath blur it.
    shrinks = (1 - clip.ejection_fraction / 100) ** (2 / 3)
    assert systole / diastole == pytest.approx(shrinks, abs=0.12)


def test_the_cavity_encloses_the_volume():
    heart = Heart.draw(np.random.default_rng(3))
    step = 0.02
    u, v = np.arange(-5, 5, step), np.arange(-1, heart.length + 1, step)
    shape = LongAxis(heart, "A4C")
    for contraction in (-0.05, 0.0, 0.6, 1.0):
        rest_u, rest_v = shape.origins(u[None, None], v[None, :, None], np.array([contraction]))
        rest_u, rest_v = rest_u[0], rest_v[0]
        # Labels look a surface up by its row, so each row of rest positions gets its own.
        inside = np.abs(rest_u) < shape._surfaces(rest_v)[0]
        inside &= (rest_v >= 0) & (rest_v <= heart.length)
        radius = inside.sum(1) * step / 2
        volume = np.pi * (radius**2).sum() * step
        assert volume == pytest.approx(heart.volumes(np.array(contraction)), rel=0.03)


def test_walls_move_inwards_and_the_base_towards_the_apex(each_view):
    """Radial and longitudinal motion, in the picture's masks."""
    cavity = each_view.masks["LV"]
    diastole, systole = (
        cavity[frames[0]] for frames in (each_view.end_diastole, each_view.end_systole)
    )
    extent = lambda mask, axis: np.flatnonzero(mask.any(axis)).size  # noqa: E731
    assert extent(systole, 0) <= extent(diastole, 0) and systole.sum() < diastole.sum()
    if each_view.view in ("A4C", "A2C"):
        lowest = lambda mask: np.flatnonzero(mask.any(1))[-1]  # noqa: E731
        assert lowest(systole) < lowest(diastole)


def test_the_parasternal_long_axis_is_the_right_way_up():
    """Right ventricle near the probe, apex to the left, left atrium to the right."""
    masks = clip("PLAX", size=(240, 320)).masks
    (rv, _), (lv, lv_x), (la, la_x) = (
        np.argwhere(masks[name][0]).mean(0) for name in ("RV", "LV", "LA")
    )
    assert rv < lv < la + 30 and lv_x < la_x


def test_short_axes_get_smaller_towards_the_apex():
    heart = Heart.draw(np.random.default_rng(0))
    radii = [ShortAxis(heart, view).cavity for view in ("PSAX_MV", "PSAX_PM", "PSAX_AP")]
    assert radii == sorted(radii, reverse=True) and radii[2] < 0.75 * radii[0]
    counts = [len(ShortAxis(heart, view).strands(0, 1, 0)) for view in LEVELS]
    assert counts == [2, 2, 0]  # lips of the mitral valve; papillary muscles; nothing
    # Papillary muscles are echoes in the cavity.
    one = clip("PSAX_PM", size=(240, 320))
    inside = cv2.erode(one.masks["LV"][0].astype(np.uint8), np.ones((5, 5))) > 0
    assert (one.frames[0][inside] > 120).mean() > 0.05


def test_every_heart_is_in_range_and_remodels():
    drawn = [Heart.draw(np.random.default_rng(seed)) for seed in range(300)]
    fractions = [heart.ejection_fraction for heart in drawn]
    assert 15 <= min(fractions) < 20 and 70 < max(fractions) <= 75
    rates = [heart.heart_rate for heart in drawn]
    assert 40 <= min(rates) < 50 and 150 < max(rates) <= 160
    weak = [h.end_diastolic_volume for h in drawn if h.ejection_fraction < 35]
    strong = [h.end_diastolic_volume for h in drawn if h.ejection_fraction > 55]
    assert np.mean(weak) > np.mean(strong)
    for valve in ("aortic_stenosis", "aortic_regurgitation"):
        assert {getattr(heart, valve) for heart in drawn} == set(records.GRADES)
    thick = [h.wall for h in drawn if h.aortic_stenosis == "significant"]
    assert np.mean(thick) > np.mean([h.wall for h in drawn if h.aortic_stenosis == "none"]) + 0.1


def test_stenosis_narrows_the_opening_and_thickens_the_leaflets():
    opening, thickness, echo = [], [], []
    for grade in records.GRADES:
        heart = dataclasses.replace(hearts("sinus")[0], aortic_stenosis=grade)
        upper, lower = LongAxis(heart, "PLAX").strands(0.5, 0.0, 1.0)[-2:]
        opening.append(lower.points[-1, 0] - upper.points[-1, 0])
        thickness.append(upper.thickness)
        echo.append(upper.echo)
    assert opening[0] > 1.6 and 1.1 < opening[1] < 1.5 and 0 < opening[2] < 0.8  # cm
    assert thickness == sorted(set(thickness)) and echo == sorted(set(echo))
    # And it is seen: in systole, between the leaflets, and nowhere else.
    healthy, narrow = (
        simulate("PLAX", 0, SMALL, dataclasses.replace(hearts("sinus")[0], aortic_stenosis=grade))
        for grade in ("none", "significant")
    )
    differs = (healthy.frames != narrow.frames).mean(0) > 0.5
    assert 5 < differs.sum() < 0.05 * differs.size
    assert narrow.frames[:, differs].mean() > healthy.frames[:, differs].mean() + 20


def test_chambers_are_those_that_the_view_shows():
    shown = {
        "A4C": {"LV", "LA", "RV", "RA", "myocardium"}, "A2C": {"LV", "LA", "myocardium"},
        "PLAX": {"LV", "LA", "RV", "myocardium"}, "PSAX_MV": {"LV", "RV", "myocardium"},
        "PSAX_PM": {"LV", "RV", "myocardium"}, "PSAX_AP": {"LV", "RV", "myocardium"},
    }  # fmt: skip
    assert set(shown) == set(VIEWS) <= set(records.VIEWS)
    for view, chambers in shown.items():
        masks = clip(view).masks
        assert {name for name, mask in masks.items() if mask.any()} == chambers, view
        assert sum(mask.astype(int) for mask in masks.values()).max() == 1
        blood, muscle = (clip(view).frames[masks[name]].mean() for name in ("LV", "myocardium"))
        assert blood < 0.75 * muscle, view


# ---- picture -----------------------------------------------------------------------------------


def best_matches(clip, block=14, reach=5) -> tuple[float, float, float]:
    """Median correlation of blocks of muscle with the next frame, in the fastest frames.

    Where they are, where they fit best within `reach`, and where they fit best upside down.
    """
    frames, muscle = clip.frames.astype(np.float32), clip.masks["myocardium"]
    found = []
    for t in np.argsort(np.abs(np.diff(clip.volumes)))[-6:]:
        whole = np.lib.stride_tricks.sliding_window_view(muscle[t], (block, block)).all((2, 3))
        whole[:reach] = whole[:, :reach] = whole[-reach:] = whole[:, -reach:] = False
        for y, x in np.argwhere(whole)[::37]:
            tissue = frames[t, y : y + block, x : x + block]
            rows, columns = (slice(a - reach, a + block + reach) for a in (y, x))
            around = frames[t + 1, rows, columns]
            fit = cv2.matchTemplate(around, tissue, cv2.TM_CCOEFF_NORMED)
            chance = cv2.matchTemplate(around, tissue[::-1, ::-1].copy(), cv2.TM_CCOEFF_NORMED)
            found.append((fit[reach, reach], fit.max(), chance.max()))
    assert len(found) > 30
    return tuple(np.median(found, axis=0))


@pytest.mark.parametrize("view", ["A4C", "A2C"])
def test_speckle_moves_with_the_tissue(view):
    still, moved, chance = best_matches(clip(view, size=(360, 480)))
    assert moved > 0.65  # the texture is carried along, not drawn anew
    assert moved > still + 0.25  # and it does move
    assert moved > chance + 0.2  # by more than the best of many places gives by luck


@pytest.mark.parametrize("view", VIEWS)
def test_the_same_phase_looks_more_alike_than_the_opposite_one(view):
    clip = strong(view)
    frames, phase = clip.frames.astype(float), clip.phase
    heart = clip.masks["LV"].any(0)
    beat = np.cumsum(np.r_[False, np.diff(phase) < 0])
    apart = np.abs((phase[:, None] - phase + 0.5) % 1 - 0.5)
    other_beat = beat[:, None] < beat
    same, opposite = (
        np.mean([alike(frames[i], frames[j], heart) for i, j in pairs[:: len(pairs) // 60]])
        for pairs in (
            np.argwhere(other_beat & (apart < 0.03)),
            np.argwhere(other_beat & (apart > 0.45)),
        )
    )
    assert same > opposite + 0.02


def test_nothing_lies_outside_the_sector(each_view):
    assert each_view.frames[:, ~each_view.sector].max() == 0
    assert each_view.frames[:, each_view.sector].mean() > 20
    assert 0.2 < each_view.sector.mean() < 0.8
    assert not any(mask[:, ~each_view.sector].any() for mask in each_view.masks.values())


def test_overlays_lie_outside_the_sector_only(each_view):
    shown = screen(each_view, PERSON)
    outside = shown[:, ~each_view.sector]
    changing = np.ptp(outside, axis=0) > 0  # the ECG and the counter
    assert 0 < changing.sum() < 0.5 * changing.size
    assert (outside[:, ~changing] > 150).any()  # the banner
    wide = each_view.sector.copy()
    wide[:, : SMALL[1] // 2] = True  # as if the sector reached under the banner and the ECG
    shown = screen(dataclasses.replace(each_view, sector=wide), PERSON)
    np.testing.assert_array_equal(shown[:, wide], each_view.frames[:, wide])
