"""Labelled clips of every kind of source, from miniature copies; nothing of them is decoded."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import miniatures as mini
import numpy as np
import pytest
import small_echo as small
import test_datasets_camus as camus
import test_datasets_echonet_dynamic as dynamic
import test_datasets_tmed2 as tmed2
from PIL import Image

from data_pipelines import records
from data_pipelines.labelled_cache import cached
from data_pipelines.labelled_sources import labelled_set
from echofm_jax import cli
from echofm_jax.errors import InputError


def named(found):
    return {clip.name: clip for clip in found.clips}


# ---- public data sets --------------------------------------------------------------------------


def test_echonet_dynamic(tmp_path, caplog):
    root = tmp_path / "EchoNet-Dynamic"
    splits = {"0XA": "TRAIN", "0XB": "TEST"}
    for seed, name in enumerate([*splits, "0XUNLISTED"]):
        mini.write_avi(root / "Videos" / f"{name}.avi", mini.video(dynamic.RADII, seed), fps=30)
    rows = [dynamic.row(name, split) for name, split in splits.items()]
    dynamic.write(root, rows, dynamic.both("0XA") + dynamic.both("0XB") + dynamic.both("0XGHOST"))
    found = labelled_set(tmp_path, dataset="echonet_dynamic")
    clips = named(found)
    assert list(clips) == ["Videos/0XA.avi", "Videos/0XB.avi"]
    assert found.structures == records.STRUCTURES and not found.simulated
    assert {c.patient: c.split for c in found.clips} == {"0XA": "train", "0XB": "test"}
    assert all(clip.masked for clip in found.clips)
    assert clips["Videos/0XA.avi"].targets == {
        "view": "A4C", "ejection_fraction": 64.5, "end_diastolic_volume": 85.125,
        "end_systolic_volume": 30.25,
    }  # fmt: skip
    pixels = clips["Videos/0XA.avi"].read(64, False)
    assert pixels.frames.shape == (12, 64, 64) and pixels.fps == pytest.approx(50)
    assert set(pixels.masks) == {2, 7} and set(np.unique(pixels.masks[2])) == {0, 1}
    # What its owners do not label is told and left out.
    assert "1 files are left out: no row in FileList.csv: Videos/0XUNLISTED.avi" in caplog.text
    assert "traced, but no row in FileList.csv: Videos/0XGHOST.avi" in caplog.text

    dynamic.write(root, [*rows, dynamic.row("0XC"), dynamic.row("0XD")], dynamic.both("0XA"))
    with pytest.raises(InputError, match=r"2 of its files .*: Videos/0XC\.avi, Videos/0XD\.avi:"):
        labelled_set(tmp_path, dataset="echonet_dynamic")
    with pytest.raises(InputError, match="brings its own"):
        labelled_set(tmp_path, dataset="echonet_dynamic", labels=tmp_path / "labels.csv")


def test_camus(tmp_path):
    for patient in (1, 2):
        for view in ("2CH", "4CH"):
            camus.write_new(tmp_path, patient, view, [18.0, 15.0, 12.0], patient)
    found = labelled_set(tmp_path, dataset="camus")
    assert len(found.clips) == 4 and found.structures == records.STRUCTURES
    assert [clip.patient for clip in found.clips] == ["patient0001"] * 2 + ["patient0002"] * 2
    assert [clip.study for clip in found.clips] == [clip.patient for clip in found.clips]
    assert found.clips[0].targets == {"view": "A2C", "ejection_fraction": 49.0}
    pixels = found.clips[0].read(64, False)
    assert set(pixels.masks) == {0, 1, 2} and set(np.unique(pixels.masks[0])) == {0, 1, 2, 3}


def test_tmed2_knows_examinations(tmp_path):
    tmed2.write(tmp_path, tmed2.ROWS)
    for seed, (key, *_) in enumerate(tmed2.ROWS):
        path = tmp_path / tmed2.FOLDER / key
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mini.video([18.0], seed)[0]).save(path)
    found = labelled_set(tmp_path, dataset="tmed2")
    studies = {Path(name).name: clip.study for name, clip in named(found).items()}
    assert studies["4860s1_0.png"] == studies["4860s1_1.png"] == "4860s1"
    assert (studies["77s1_0.png"], studies["77s2_0.png"]) == ("77s1", "77s2")
    both = [clip for clip in found.clips if clip.patient == "77"]
    assert len(both) == 2 and {clip.split for clip in both} == {"test"}
    assert found.structures == () and not any(clip.masked for clip in found.clips)
    (clip,) = (clip for clip in found.clips if clip.name.endswith("/12s1_1.png"))
    assert clip.targets == {"view": "A2C", "aortic_stenosis": "significant"}
    pixels = clip.read(64, False)
    assert pixels.frames.shape == (1, 64, 64) and pixels.fps == 0 and pixels.masks == {}


# ---- folders of classes ------------------------------------------------------------------------


def test_a_folder_a_class(tmp_path, caplog):
    for place in ("A4C/a.npy", "A4C/p1/b.npy", "PLAX/p1/visit/c.npy", "PLAX/.hidden", "readme.txt"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    camus.save_mhd(tmp_path / "PLAX" / "d.mhd", np.zeros((2, 20, 20), np.uint8))
    with caplog.at_level(logging.WARNING):
        clips = named(labelled_set(tmp_path))
    assert {name: (clip.targets, clip.patient) for name, clip in clips.items()} == {
        "A4C/a.npy": ({"view": "A4C"}, "A4C/a.npy"),
        "A4C/p1/b.npy": ({"view": "A4C"}, "p1"),
        "PLAX/d.mhd": ({"view": "PLAX"}, "PLAX/d.mhd"),
        "PLAX/p1/visit/c.npy": ({"view": "PLAX"}, "p1"),
    }
    assert "1 files are left out: lie in no class's folder: readme.txt" in caplog.text
    assert labelled_set(tmp_path, target="quality").clips[0].targets == {"quality": "A4C"}


def test_nothing_to_find(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        labelled_set(tmp_path / "none")
    (tmp_path / "a.npy").touch()
    with pytest.raises(InputError, match="no folder of a class with files in it"):
        labelled_set(tmp_path)


# ---- tables ------------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path):
    for number, place in enumerate(("p1/a.npy", "p2/b.npy", "c.npy")):
        path = tmp_path / "source" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, mini.video([18.0, 15.0, 12.0, 15.0], number))
    Image.fromarray(mini.video([18.0], 9)[0]).save(tmp_path / "source" / "still.png")
    return tmp_path / "source"


def table(source, text):
    path = source.parent / "labels.csv"
    path.write_text(text)
    return path


def test_a_table(source):
    heart = mini.inside(mini.ellipse(12.0)).astype(np.uint8)
    Image.fromarray(heart).save(source / "m.png")
    labels = table(
        source,
        "file,patient,study,split,fps,ef,mask,mask_frame\n"
        "p1/a.npy,,s1,train,50,60,m.png,2\np2/b.npy,x,,test,,,,\nc.npy,,,,,,,\nstill.png,,,,,55,,\n",
    )
    found = labelled_set(
        source, labels=labels, fps=25.0, precropped=True, structures=("background", "LV")
    )
    a, b, c, still = found.clips
    assert [clip.patient for clip in found.clips] == ["p1", "x", "c.npy", "still.png"]
    assert [clip.split for clip in found.clips] == ["train", "test", "", ""]
    assert a.study == "s1" and a.targets == {"ef": 60.0} and c.targets == {}
    assert found.structures == ("background", "LV")
    assert [clip.masked for clip in found.clips] == [True, False, False, False]
    assert a.read(64, False).fps == pytest.approx(50) and a.read(64, False).masks[2].any()
    assert b.read(64, False).fps == pytest.approx(25)
    assert still.read(64, False).frames.shape == (1, 64, 64)


def test_all_files_that_are_not_there_are_named(source):
    lost = [f"lost/{number}.npy" for number in range(30)]
    labels = table(source, "file,ef,mask\nc.npy,50,lost.png\n" + "".join(f"{n},1,\n" for n in lost))
    with pytest.raises(InputError, match="31 of its files are not below") as caught:
        labelled_set(source, labels=labels)
    message = str(caught.value)
    assert all(name in message for name in [*lost, "lost.png"]) and "\n" not in message


def test_a_patient_in_two_splits(source):
    labels = table(source, "file,patient,split\np1/a.npy,x,train\np2/b.npy,x,test\n")
    with pytest.raises(InputError, match=r"1 patients .* such as p1/a\.npy and p2/b\.npy:"):
        labelled_set(source, labels=labels)


def test_a_table_of_nothing(source):
    with pytest.raises(InputError, match="no clip in it"):
        labelled_set(source, labels=table(source, "file,ef\n"))


def test_labels_of_our_own_form(source):
    lines = [
        {"file": "p1/a.npy", "view": "A4C", "ejection_fraction": 61.5, "simulated": True},
        {"file": "c.npy", "patient": "x", "aortic_stenosis": "early", "rhythm": "sinus"},
    ]
    text = "\n".join(map(json.dumps, lines))
    (source / "labels.jsonl").write_text(text)
    found = labelled_set(source)
    assert found.simulated and found.structures == ()
    assert {clip.patient: clip.targets for clip in found.clips} == {
        "p1": {"view": "A4C", "ejection_fraction": 61.5},
        "x": {"aortic_stenosis": "early", "rhythm": "sinus"},
    }
    (source.parent / "others.jsonl").write_text(text + '\n{"file": "lost"}\n')
    with pytest.raises(InputError, match=r"labels others\.jsonl: 1 of its files .*: lost"):
        labelled_set(source, labels=source.parent / "others.jsonl")


def test_simulated_studies_through_the_cache(tmp_path):
    """Files as `echofm phantom` writes them: DICOM and others, with everything drawn around."""
    studies = tmp_path / "studies"
    assert cli.main(["phantom", "--output", str(studies), "--studies=2", "--clips_per_study=1",
                     "--size", "160", "200", "--overlays"]) == 0  # fmt: skip
    found = labelled_set(studies)
    assert found.simulated and [clip.patient for clip in found.clips] == ["P001", "P002"]
    assert all(15 < clip.targets["ejection_fraction"] < 75 for clip in found.clips)
    fast, refused = cached(found.clips, 64, False, tmp_path / "kept", 2)
    assert refused == [] and [clip.name for clip in fast] == [clip.name for clip in found.clips]
    for clip in fast:
        pixels = clip.read(64, False)
        assert pixels.frames.shape[1:] == (64, 64) and pixels.fps > 15
        assert 0.3 < pixels.sector.mean() < 0.9
        assert not pixels.frames[:, ~pixels.sector].any() and pixels.frames.mean() > 5


def test_neither_jax_nor_grain_nor_torch_is_needed(tmp_path):
    """Those who finetune in PyTorch may have none of the others."""
    data = small.write(tmp_path / "data", {"train": [0]})
    program = f"""
import sys
sys.modules |= dict.fromkeys(("jax", "flax", "grain", "torch"))
from pathlib import Path
from data_pipelines import labelled_cache, labelled_checks, labelled_splits
from data_pipelines.labelled_sources import labelled_set
clips = labelled_set(Path({str(data)!r})).clips
clips, _ = labelled_cache.cached(clips, 64, False, Path({str(tmp_path / "kept")!r}), 1)
print(clips[0].read(64, False).frames.shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(10, 64, 64)", done.stderr
