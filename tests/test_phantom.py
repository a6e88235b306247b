"""`echofm phantom`: studies, labels, truth and shards as asked for."""

import dataclasses
import itertools
import json
import re
from collections import Counter

import numpy as np
import pytest

from data_pipelines import phantom, readers, records, shards, tracings
from data_pipelines.labels import read_labels
from data_pipelines.phantom_image import VIEWS
from data_pipelines.phantom_rhythm import RHYTHMS
from data_pipelines.phantom_screen import OVERLAYS
from echofm_jax import cli

TINY = ("--size", "96", "128")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    output = tmp_path_factory.mktemp("phantom") / "studies"
    argv = ["--output", str(output), "--studies", "2", "--clips_per_study", "1", *TINY, "--json"]
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
        beats = [
            100 * (1 - volumes[systole] / volumes[max(before)])
            for systole in label.end_systole
            if (before := [diastole for diastole in label.end_diastole if diastole < systole])
        ]
        assert np.mean(beats) == pytest.approx(label.ejection_fraction, abs=0.01)
        assert label.aortic_stenosis in range(len(records.GRADES))
        assert label.aortic_regurgitation in range(len(records.GRADES))
        grey = found.frames if found.frames.ndim == 3 else found.frames.mean(-1)
        assert grey[cavity].mean() < grey[muscle].mean()
        maps = tracings.label_maps(label, found.frames.shape[1:3], (studies / name).parent)
        assert sorted(maps) == sorted({label.end_diastole[0], label.end_systole[0]})
        for frame, found in maps.items():
            assert np.array_equal(found == records.STRUCTURES.index("LV"), cavity[frame])


def test_the_truth_tells_rhythm_and_beats_and_the_header_its_r_waves(studies):
    truth = studies.with_name("studies-truth") / "truth.jsonl"
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    labels = read_labels(studies / "labels.jsonl")
    assert [line["file"] for line in lines] == list(labels)
    for line in lines:
        label = labels[line["file"]]
        assert (
            line["rhythm"] == label.rhythm and label.rhythm in RHYTHMS and line["simulated"] is True
        )
        waves = np.array(line["r_waves"])
        np.testing.assert_allclose(np.diff(waves), line["rr_intervals"][:-1], atol=1e-3)
        inside = waves[(waves > 0) & (waves <= (len(label.phase) - 1) / label.fps)]
        assert len(inside) == len(label.end_diastole)
        np.testing.assert_array_equal(np.ceil(inside * label.fps - 0.01), label.end_diastole)
        found = readers.read(studies / line["file"])
        if line["file"].endswith(".dcm"):
            np.testing.assert_allclose(found.r_waves, inside, atol=1e-3)
            assert found.heart_rate == pytest.approx(line["heart_rate"], abs=0.5)
            assert found.spacing[0] == pytest.approx(found.spacing[1]) and found.spacing[0] > 0


def test_the_walls_of_a_parasternal_long_axis_are_measured(tmp_path):
    """In every format: the distance of two points is the thickness that the truth tells."""
    output = tmp_path / "studies"
    argv = ["--output", str(output), "--studies", "5", "--clips_per_study", "1", *TINY,
            "--views", "PLAX", "--hypertrophy", "0.4"]  # fmt: skip
    assert phantom.main(argv) == 0
    truth = (tmp_path / "studies-truth" / "truth.jsonl").read_text().splitlines()
    labels, thick = read_labels(output / "labels.jsonl"), 0
    for line in map(json.loads, truth):
        label = labels[line["file"]]
        told = {int(frame): values for frame, values in line["thickness_mm"].items()}
        assert [points.frame for points in label.points] == list(told)
        assert told.keys() == {*label.end_diastole, *label.end_systole}
        found = readers.read(output / line["file"])
        for frame, places in label.points:
            lengths = np.hypot(*np.diff(places, axis=0).T)  # pixels
            mm = [told[frame][name] for name in ("ivs", "lvid", "lvpw")]
            scale = np.array(mm) / lengths
            assert scale == pytest.approx(scale[0], rel=2e-3)
            if line["file"].endswith(".dcm"):
                assert found.spacing[0] == pytest.approx(scale[0], rel=2e-3)
            x, y = np.array(places).T
            assert min(x.min(), y.min()) >= 0
            assert x.max() < found.frames.shape[2] and y.max() < found.frames.shape[1]
        diastole, systole = told[label.end_diastole[0]], told[label.end_systole[0]]
        assert diastole["lvid"] > systole["lvid"] and diastole["ivs"] < systole["ivs"]
        thick += diastole["ivs"] > 12.2  # 1.3 cm of the walls of those who are asked for
    assert thick == 2


def test_hypertrophy_thickens_walls_and_changes_nothing_else(tmp_path):
    for share in ("0", "0.5"):
        argv = ["--output", str(tmp_path / share), "--studies", "2", "--clips_per_study", "1"]
        assert phantom.main([*argv, *TINY, "--views", "PLAX", "--hypertrophy", share]) == 0
    one, other = (read_labels(tmp_path / share / "labels.jsonl") for share in ("0", "0.5"))
    for study, (name, label) in enumerate(one.items()):
        same = (tmp_path / "0" / name).read_bytes() == (tmp_path / "0.5" / name).read_bytes()
        assert same == (study == 1)
        unlike = {"points": (), "mask_files": ()}
        assert dataclasses.replace(label, **unlike) == dataclasses.replace(other[name], **unlike)
        assert (label.points == other[name].points) == same


def test_its_last_line_is_json_and_options_decide_the_content(tmp_path, capsys):
    output = tmp_path / "one"
    argv = ["--output", str(output), "--studies", "4", "--clips_per_study", "1", *TINY, "--json"]
    wish = ["--rhythm", "atrial_fibrillation", "--views", "PLAX", "PSAX_AP", "--colour", "1",
            "--overlays"]  # fmt: skip
    assert phantom.main([*argv, *wish]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {
        "studies": 4, "clips": 4, "output": str(output), "truth": f"{output}-truth", "seed": 0,
        "rhythms": {"atrial_fibrillation": 4}, "views": {"PLAX": 2, "PSAX_AP": 2},
    }  # fmt: skip
    labels = read_labels(output / "labels.jsonl")
    for name, label in labels.items():
        frames = readers.read(output / name).frames
        assert frames.ndim == (4 if label.view == "PLAX" else 3) or name.endswith((".avi", ".mp4"))
        if name.endswith(".dcm"):  # no overlays but the word SIMULATED
            assert not frames[:, : frames.shape[1] // 5, : frames.shape[2] // 4].any()


def test_the_same_seed_writes_the_same(tmp_path):
    for name in ("a", "b"):
        output = tmp_path / name / "studies"
        argv = ["--output", str(output), "--studies", "1", "--clips_per_study", "3"]
        assert phantom.main([*argv, *TINY, "--seed", "5"]) == 0
    one, other = (
        {
            p.relative_to(tmp_path / n): p.read_bytes()
            for p in (tmp_path / n).rglob("*")
            if p.is_file()
        }
        for n in ("a", "b")
    )
    assert one.keys() == other.keys()
    assert all(one[p] == other[p] for p in one)


def test_label_maps_are_as_large_as_the_frames_of_every_format(tmp_path):
    output = tmp_path / "studies"
    argv = ["--output", str(output), "--studies", "1", "--clips_per_study", "5", *TINY]
    assert phantom.main(argv) == 0
    labels = read_labels(output / "labels.jsonl")
    assert {".npy", ".dcm", ".avi"} <= {(output / name).suffix for name in labels}
    for name, label in labels.items():
        shape = readers.read(output / name).frames.shape[1:3]
        maps = tracings.label_maps(label, shape, (output / name).parent)
        assert maps and all(found.any() for found in maps.values())


def test_what_it_wrote_becomes_a_data_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ECHOFM_SALT_FILE", str(tmp_path / "salt"))
    data = tmp_path / "data"
    argv = ["--output", str(tmp_path / "studies"), "--data_dir", str(data), "--studies", "3",
            "--clips_per_study", "1", "--size", "150", "200", "--json"]  # fmt: skip
    assert phantom.main(argv) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["ingest"]["accepted"] == 3 and summary["ingest"]["patients"] == 3
    assert shards.dataset_info(data).simulated
    stored = itertools.chain(
        *(shards.open_split(data, split) for split in shards.dataset_info(data).records)
    )
    rhythms = Counter(record["rhythm"].decode() for record in stored if not record["segment"])
    assert rhythms == summary["rhythms"]
    # Asked for again, nothing is written beside a data set that is there.
    argv[1] = str(tmp_path / "more")
    (data.parent / "data-ingest" / "settings.json").unlink()
    assert cli.main(["phantom", *argv]) == 2
    assert not (tmp_path / "more").exists()


def test_shares_hold_for_any_number_of_patients():
    shares = phantom.SHARES
    assert tuple(shares) == RHYTHMS
    for studies in (10, 20, 100):
        drawn = [phantom.rhythm_of(study, shares) for study in range(studies)]
        for name, share in shares.items():
            assert drawn.count(name) == pytest.approx(studies * share / 10, abs=1.5)
    assert {phantom.rhythm_of(n, {"bigeminy": 2.0}) for n in range(50)} == {"bigeminy"}


def test_help_names_every_choice(capsys):
    with pytest.raises(SystemExit):
        phantom.main(["--help"])
    said = capsys.readouterr().out
    assert set((*VIEWS, *RHYTHMS, *OVERLAYS)) <= set(re.findall("[A-Za-z0-9_]+", said))
    assert "simulation" in said


def test_existing_output_is_refused_and_left_alone(studies, capsys):
    before = sorted(studies.rglob("*"))
    assert cli.main(["phantom", "--output", str(studies), "--studies", "1"]) == 2
    said = capsys.readouterr().err.strip()
    assert "exists already" in said and "\n" not in said
    assert sorted(studies.rglob("*")) == before
    assert not list(studies.parent.glob(".*building*"))


@pytest.mark.parametrize(
    "wrong",
    [
        "--studies=0", "--clips_per_study=-1", "--seed=-1", "--colour=1.5", "--colour=nan",
        "--size 10 10", "--views A4C A9C", "--overlays text hat", "--rhythm flutter",
        "--rhythm sinus=0", "--rhythm sinus=many", "--rhythm bigeminy=-1",
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_one_line(wrong, tmp_path, capsys):
    assert cli.main(["phantom", f"--output={tmp_path / 'x'}", *wrong.split()]) == 2
    said = capsys.readouterr().err.strip()
    assert wrong.split("=")[0].split()[0] in said and "\n" not in said
    assert not list(tmp_path.iterdir())
