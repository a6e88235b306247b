"""TMED-2 in miniature: PNG stills, five grades that become three, patients with two studies."""

import miniatures as mini
import numpy as np
import pytest
from PIL import Image

from data_pipelines.loader import LoaderConfig, make_loader
from echofm_jax.errors import InputError

HEADER = ["query_key", "view_label", "diagnosis_label", "SourceFolder", "view_classifier_split",
          "diagnosis_classifier_split"]  # fmt: skip
FOLDER = "view_and_diagnosis_labeled_set/labeled"
ROWS = [  # key, view, diagnosis, split of the view, split of the diagnosis
    ("4860s1_0.png", "PLAX", "no_AS", "train", "train"),
    ("4860s1_1.png", "PSAX", "mild_AS", "train", "train"),
    ("12s1_0.png", "A4C", "mildtomod_AS", "val", "val"),
    ("12s1_1.png", "A2C", "moderate_AS", "val", "val"),
    ("13s1_4.png", "A4CorA2CorOther", "severe_AS", "test", "test"),
    ("77s1_0.png", "PLAX", "no_AS", "train", "train"),
    ("77s2_0.png", "PLAX", "severe_AS", "test", "test"),
    ("78s1_0.png", "PLAX", "Not_Provided", "train", "not_used"),
    ("79s1_0.png", "PLAX", "no_AS", "train", "train"),
]


def write(root, rows, header=HEADER):
    full = [[key, view, diagnosis, FOLDER, *splits] for key, view, diagnosis, *splits in rows]
    mini.write_csv(root / "DEV479" / "TMED2_fold0_labeledpart.csv", header, full)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tmed")
    root = folder / "approved_users_only"
    write(root, ROWS)
    for seed, (key, *_) in enumerate([*ROWS[:-1], ["99s1_0.png"]]):
        place = root / (FOLDER if seed < len(ROWS) - 1 else "unlabeled_set/unlabeled")
        place.mkdir(parents=True, exist_ok=True)
        picture = mini.video([18.0], seed)[0]
        Image.fromarray(picture if seed else np.stack([picture] * 3, -1)).save(place / key)
    data_dir = folder / "data"
    assert mini.ingest("tmed2", root, data_dir) == 0
    return data_dir


def still(data_dir, key):
    return mini.example(data_dir, f"{FOLDER}/{key}")


@pytest.mark.parametrize(
    ("key", "view", "stenosis", "split"),
    [
        ("4860s1_0.png", b"PLAX", 0, "train"),
        ("4860s1_1.png", b"PSAX", 1, "train"),
        ("12s1_0.png", b"A4C", 1, "val"),
        ("12s1_1.png", b"A2C", 2, "val"),
        ("13s1_4.png", b"other", 2, "test"),
        ("78s1_0.png", b"PLAX", -1, "train"),
    ],
)
def test_every_label_of_a_still(made, key, view, stenosis, split):
    record = still(made, key)
    assert (record["view"], record["aortic_stenosis"], record["split"]) == (view, stenosis, split)
    assert mini.is_patient(made, record, key.split("s")[0])
    assert len(record["frames"]) == 1 and record["times"].tolist() == [0]
    assert record["fps"] == 0 and record["fps_source"] == b"unknown"
    assert (record["segment"], record["segments"]) == (0, 1)


def test_pixels_are_those_of_the_picture(made):
    seed = 2
    shown = mini.picture(still(made, ROWS[seed][0]), 0).astype(int)
    sector = mini.fan()
    rows = np.flatnonzero(sector.any(1))
    drawn = mini.video([18.0], seed)[0]
    assert shown[shown > 0].mean() == pytest.approx(drawn[rows][drawn[rows] > 0].mean(), abs=4)


def test_a_patient_with_two_studies_is_in_one_split(made):
    one, two = still(made, "77s1_0.png"), still(made, "77s2_0.png")
    assert one["patient_id"] == two["patient_id"] and one["split"] == two["split"] == "test"
    assert (one["aortic_stenosis"], two["aortic_stenosis"]) == (0, 2)


def test_what_does_not_fit_is_reported_file_by_file(made):
    lines = mini.report(made).items()
    assert {n: (v["reason"], v["detail"]) for n, v in lines if v["status"] == "rejected"} == {
        f"{FOLDER}/79s1_0.png": ("missing", ""),
        "unlabeled_set/unlabeled/99s1_0.png": (
            "label_mismatch", "no row in TMED2_fold0_labeledpart.csv",
        ),
    }  # fmt: skip


def test_stills_are_read_for_fine_tuning_and_refused_for_pre_training(made):
    sizes = {"frames": 4, "size": 32, "tubelet": 4, "patch": 16, "workers": 1, "num_epochs": 1}
    cfg = LoaderConfig(data_dir=str(made), batch_size=2, labels=True, **sizes)
    batches = list(make_loader(cfg))
    assert sum(int(batch["valid"].sum()) for batch in batches) == 3
    clip = batches[0]["clip"][0]
    assert clip.any() and (clip == clip[:1]).all()  # the one frame, over and over
    cfg = LoaderConfig(data_dir=str(made), batch_size=2, **sizes)
    with pytest.raises(InputError, match="holds stills: pre-training needs clips"):
        next(make_loader(cfg))


def test_wrong_tables_are_named(tmp_path, capsys):
    root = tmp_path / "set"

    def said(*rows, header=HEADER):
        write(root, rows, header)
        return mini.refusal(capsys, "tmed2", root)

    good = ROWS[0]
    assert "TMED2_fold0_labeledpart.csv: column view_label is missing" in said(
        good, header=["query_key", "view", *HEADER[2:]]
    )
    assert "line 2: view_label is none of PLAX" in said((good[0], "SAX", *good[2:]))
    assert "line 2: diagnosis_label is none of no_AS" in said((*good[:2], "AS", *good[3:]))
    assert "line 2: query_key is not PATIENTsSTUDY_IMAGE.png" in said(("a.png", *good[1:]))
    assert "line 3: query_key was there before" in said(good, good)
