"""Simulated studies: a heart that is ordered like a real one, in files that read back."""

import dataclasses
import functools
import json

import cv2
import numpy as np
import pydicom
import pytest

from data_pipelines import phantom, readers
from data_pipelines.labels import read_labels
from data_pipelines.phantom_anatomy import anatomy
from data_pipelines.phantom_files import FORMATS, identity, screen, write_dicom, write_video
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_image import VIEWS, simulate
from data_pipelines.phantom_rhythm import Cycle, beat_times, first_frames_after, phase_at
from echofm_jax import cli

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


# ---- rhythm ------------------------------------------------------------------------------------


@pytest.mark.parametrize("heart_rate", [45, 75, 120])
def test_contraction_is_none_at_end_diastole_and_whole_at_end_systole(heart_rate):
    cycle = Cycle.at(heart_rate)
    phase = np.linspace(0, 1, 2001)
    contraction = cycle.contraction(phase)
    assert 0 < cycle.ejection < cycle.end_systole < cycle.filling < cycle.atrial_kick < 1
    assert cycle.contraction(np.array([0.0, cycle.end_systole])).tolist() == [0, 1]
    assert contraction.min() == 0 and contraction.max() == 1
    assert (np.diff(contraction[phase <= cycle.end_systole]) >= 0).all()
    assert (np.diff(contraction[phase >= cycle.end_systole]) <= 0).all()
    # Inflow and outflow valves are never open together.
    assert (cycle.mitral_opening(phase) * cycle.aortic_opening(phase)).max() == 0
    assert abs(phase[cycle.ecg(phase).argmax()] % 1) < 0.01


def test_phase_is_zero_at_every_beat_and_rises_between():
    cycle = Cycle.at(60)
    beats = beat_times(cycle, 4.0, 0.03, np.random.default_rng(0))
    intervals = np.diff(beats)
    assert beats[0] <= 0 and beats[-1] > 4
    assert intervals == pytest.approx(cycle.rr, rel=0.08) and np.ptp(intervals) > 0
    assert phase_at((beats[:-1] + beats[1:]) / 2, beats) == pytest.approx(0.5)
    phase = np.array([0.8, 0.95, 0.1, 0.4, 0.7, 0.0, 0.3])
    assert first_frames_after(phase, 0.0).tolist() == [2, 5]
    assert first_frames_after(phase, 0.3).tolist() == [3, 6]


# ---- truth -------------------------------------------------------------------------------------


def test_a_seed_is_a_clip(each_view):
    again = simulate(each_view.view, 0, SMALL)
    np.testing.assert_array_equal(again.frames, each_view.frames)
    np.testing.assert_array_equal(again.phase, each_view.phase)
    other = clip(each_view.view, 1)
    assert other.frames.shape != each_view.frames.shape or (other.frames != each_view.frames).any()


def test_times_and_rate(each_view):
    count = len(each_view.frames)
    assert 25 <= each_view.fps <= 60 and 2 <= (count + 1) / each_view.fps <= 4.1
    np.testing.assert_allclose(each_view.times, np.arange(count) / each_view.fps)
    # The phase advances by one each RR interval: its slope is the heart rate.
    beats = np.unwrap(each_view.phase, period=1)
    rate = 60 * (beats[-1] - beats[0]) / each_view.times[-1]
    assert rate == pytest.approx(each_view.heart_rate, rel=0.03)


def test_volume_is_largest_at_end_diastole_and_smallest_at_end_systole(each_view):
    volumes = each_view.volumes
    assert len(each_view.end_diastole) and len(each_view.end_systole)
    np.testing.assert_allclose(volumes[each_view.end_diastole], volumes.max())
    np.testing.assert_allclose(volumes[each_view.end_systole], volumes.min())
    largest, smallest = volumes[each_view.end_diastole[0]], volumes[each_view.end_systole[0]]
    assert 100 * (1 - smallest / largest) == pytest.approx(each_view.ejection_fraction)


def test_the_cavity_in_the_picture_follows_the_volume(each_view):
    area = each_view.masks["LV"].sum((1, 2)).astype(float)
    assert alike(area, each_view.volumes, np.ones(len(area), bool)) > 0.97
    diastole, systole = area[each_view.end_diastole].mean(), area[each_view.end_systole].mean()
    # An area goes roughly with the volume's power of 2/3; pixels and breath blur it.
    shrinks = (1 - each_view.ejection_fraction / 100) ** (2 / 3)
    assert systole / diastole == pytest.approx(shrinks, abs=0.12)


def test_the_cavity_encloses_the_volume():
    heart = Heart.draw(np.random.default_rng(3))
    step = 0.02
    u, v = np.arange(-5, 5, step)[None], np.arange(-1, heart.length + 1, step)[:, None]
    shape = anatomy(heart, "A4C")
    for contraction in (0.0, 1.0):
        rest_u, rest_v = shape.origins(u, v, np.array([contraction]))
        rest_u, rest_v = rest_u[0], rest_v[0]
        # Labels look a surface up by its row, so each row of rest positions gets its own.
        inside = np.abs(rest_u) < shape._surfaces(rest_v)[0]
        inside &= (rest_v >= 0) & (rest_v <= heart.length)
        radius = inside.sum(1) * step / 2
        volume = np.pi * (radius**2).sum() * step
        assert volume == pytest.approx(heart.volumes(np.array(contraction)), rel=0.03)


def test_chambers_are_those_that_the_view_shows():
    shown = {
        "A4C": {"LV", "LA", "RV", "RA", "myocardium"}, "A2C": {"LV", "LA", "myocardium"},
        "PLAX": {"LV", "LA", "RV", "myocardium"}, "PSAX_MV": {"LV", "RV", "myocardium"},
    }  # fmt: skip
    for view, chambers in shown.items():
        masks = clip(view).masks
        assert {name for name, mask in masks.items() if mask.any()} == chambers, view
        assert sum(mask.astype(int) for mask in masks.values()).max() == 1
        blood, muscle = (clip(view).frames[masks[name]].mean() for name in ("LV", "myocardium"))
        assert blood < 0.75 * muscle, view


def test_weak_hearts_are_larger_and_every_heart_is_in_range():
    hearts = [Heart.draw(np.random.default_rng(seed)) for seed in range(200)]
    assert all(20 <= heart.ejection_fraction <= 75 for heart in hearts)
    weak = [h.end_diastolic_volume for h in hearts if h.ejection_fraction < 35]
    strong = [h.end_diastolic_volume for h in hearts if h.ejection_fraction > 55]
    assert np.mean(weak) > np.mean(strong)


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


def test_the_same_phase_looks_more_alike_than_the_opposite_one(each_view):
    frames, phase = each_view.frames.astype(float), each_view.phase
    beat = np.cumsum(np.r_[False, np.diff(phase) < 0])
    apart = np.abs((phase[:, None] - phase + 0.5) % 1 - 0.5)
    other_beat = beat[:, None] < beat
    same, opposite = (
        np.mean([alike(frames[i], frames[j], each_view.sector) for i, j in pairs[:60]])
        for pairs in (
            np.argwhere(other_beat & (apart < 0.03)),
            np.argwhere(other_beat & (apart > 0.45)),
        )
    )
    assert same > opposite + 0.05


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


# ---- files -------------------------------------------------------------------------------------

WRITERS = {
    "raw.dcm": lambda *a: write_dicom(*a, "raw"),
    "rle.dcm": lambda *a: write_dicom(*a, "rle"),
    "jpeg.dcm": lambda *a: write_dicom(*a, "jpeg"),
    "ybr.dcm": lambda *a: write_dicom(*a, "ybr_jpeg"),
    "screen.avi": lambda *a: write_video(*a, "mjpeg"),
    "screen.mp4": lambda *a: write_video(*a, "libx264"),
    "old.mp4": lambda *a: write_video(*a, "mpeg4"),
}
WORST = {"raw.dcm": 0, "rle.dcm": 0, "jpeg.dcm": 2, "ybr.dcm": 2}  # mean grey levels; videos 4


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_back(name, tmp_path):
    source = clip("A2C")
    WRITERS[name](tmp_path / name, source, PERSON)
    found = readers.read(tmp_path / name)
    expected = screen(source, PERSON)
    assert found.frames.shape[:3] == expected.shape
    assert found.fps == pytest.approx(source.fps, rel=0.01)
    grey = found.frames if found.frames.ndim == 3 else found.frames.mean(-1)
    assert np.abs(grey.astype(float) - expected).mean() <= WORST.get(name, 4)
    if name.endswith(".dcm"):
        assert found.patient == PERSON["id"]


def test_npy_holds_the_sector_alone(tmp_path):
    source = clip("A2C")
    dict(FORMATS)[".npy"](tmp_path / "clip.npy", source, PERSON)
    found = readers.read(tmp_path / "clip.npy").frames
    assert len(found) == len(source.frames) and found.size < source.frames.size
    assert found.sum(dtype=int) == source.frames.sum(dtype=int)


def test_a_dicom_says_that_it_is_simulated(tmp_path):
    write_dicom(tmp_path / "x.dcm", clip("A2C"), PERSON, "raw")
    data = pydicom.dcmread(tmp_path / "x.dcm")
    assert "SIMULATED" in data.SeriesDescription and data.PatientName == PERSON["name"]
    (region,) = data.SequenceOfUltrasoundRegions
    sector = clip("A2C").sector
    box = sector[
        region.RegionLocationMinY0 : region.RegionLocationMaxY1 + 1,
        region.RegionLocationMinX0 : region.RegionLocationMaxX1 + 1,
    ]
    assert box.sum() == sector.sum()
    assert box[0].any() and box[-1].any() and box[:, 0].any() and box[:, -1].any()


def test_identities_differ_by_study_and_stay_by_seed():
    people = [identity(study, 0) for study in range(100)]
    assert people[0] == identity(0, 0) != identity(0, 1)
    assert len({person["id"] for person in people}) == len(people)
    assert len({person["name"] for person in people}) == len(people)


# ---- command -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    output = tmp_path_factory.mktemp("phantom") / "studies"
    argv = ["--output", str(output), "--studies", "2", "--clips_per_study", "1", "--json"]
    assert phantom.main(argv) == 0
    return output


def test_the_command_writes_files_labels_and_truth(studies):
    labels = read_labels(studies / "labels.jsonl")
    files = sorted(p for p in studies.rglob("*") if p.is_file() and p.name != "labels.jsonl")
    assert sorted(labels) == [path.relative_to(studies).as_posix() for path in files]
    assert sorted(label.patient for label in labels.values()) == ["P001", "P002"]
    for name, label in labels.items():
        found = readers.read(studies / name)
        with np.load(studies.with_name("studies-truth") / f"{label.patient}_1.npz") as truth:
            volumes, width = truth["volumes"], int(truth["width"])
            cavity = np.unpackbits(truth["LV"], axis=-1, count=width).astype(bool)
            muscle = np.unpackbits(truth["myocardium"], axis=-1, count=width).astype(bool)
        assert label.simulated and label.view in VIEWS
        assert len(label.phase) == len(volumes) == len(found.frames)
        assert cavity.shape == muscle.shape == found.frames.shape[:3]
        assert found.fps == pytest.approx(label.fps, rel=0.01)
        assert 100 * (1 - volumes.min() / volumes.max()) == pytest.approx(
            label.ejection_fraction, abs=0.001
        )
        np.testing.assert_allclose(volumes[list(label.end_diastole)], volumes.max())
        grey = found.frames if found.frames.ndim == 3 else found.frames.mean(-1)
        assert grey[cavity].mean() < grey[muscle].mean()


def test_its_last_line_is_json(tmp_path, capsys):
    output = tmp_path / "one"
    argv = ["--output", str(output), "--studies", "1", "--clips_per_study", "1", "--json"]
    assert phantom.main(argv) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {
        "studies": 1, "clips": 1, "output": str(output), "truth": f"{output}-truth", "seed": 0,
    }  # fmt: skip


def test_existing_output_is_refused_and_left_alone(studies, capsys):
    before = sorted(studies.rglob("*"))
    assert cli.main(["phantom", "--output", str(studies), "--studies", "1"]) == 2
    said = capsys.readouterr().err.strip()
    assert "exists already" in said and "\n" not in said
    assert sorted(studies.rglob("*")) == before
    assert not list(studies.parent.glob(".*building*"))


@pytest.mark.parametrize("wrong", ["--studies=0", "--clips_per_study=-1", "--seed=-1"])
def test_numbers_without_sense_are_refused(wrong, tmp_path, capsys):
    assert cli.main(["phantom", f"--output={tmp_path / 'x'}", wrong]) == 2
    assert wrong in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
