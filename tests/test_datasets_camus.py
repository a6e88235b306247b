"""CAMUS in miniature, as NIfTI and as it was distributed first (MHD with RAW)."""

import miniatures as mini
import nibabel
import numpy as np
import pytest

from data_pipelines import records

HEIGHT, WIDTH = 100, 90


def segmented(radii, height=HEIGHT, width=WIDTH):
    """Maps as CAMUS has them: 1 LV, 2 the myocardium around it, 3 LA below."""
    maps = np.zeros((len(radii), height, width), np.uint8)
    for target, radius in zip(maps, radii, strict=True):
        target[mini.inside(mini.ellipse(radius + 6, height, width), height, width)] = 2
        target[mini.inside(mini.ellipse(radius, height, width), height, width)] = 1
        low = mini.ellipse(8, height, width) + np.array([0, 0.36 * height])
        target[mini.inside(low, height, width) & (target == 0)] = 3
    return maps


def write_info(folder, view, **values):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{key}: {value}" for key, value in values.items()]
    (folder / f"Info_{view}.cfg").write_text("\n".join(lines) + "\n")


def save_nifti(path, array, spacing=0.308):
    """[T, H, W] or [H, W] → x, y(, t) as in the data set."""
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.diag([spacing, spacing, 1, 1]))
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


def save_mhd(path, array, spacing=(0.308, 0.154)):
    path.parent.mkdir(parents=True, exist_ok=True)
    size = array.shape[::-1]
    path.with_suffix(".raw").write_bytes(array.tobytes())
    path.write_text(
        f"ObjectType = Image\nNDims = {len(size)}\nBinaryData = True\n"
        f"BinaryDataByteOrderMSB = False\nCompressedData = False\n"
        f"ElementSpacing = {' '.join(map(str, (*spacing, 1)[: len(size)]))}\n"
        f"DimSize = {' '.join(map(str, size))}\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {path.stem}.raw\n"
    )


def write_new(database, number, view, radii, seed, **info):
    name = f"patient{number:04d}"
    start = database / name / f"{name}_{view}_"
    frames, maps = mini.video(radii, seed, HEIGHT, WIDTH), segmented(radii)
    count = len(radii)
    info = {"ED": 1, "ES": count, "NbFrame": count, "Sex": "F", "Age": 56, "ImageQuality": "Good",
            "EF": 49, "FrameRate": 49.9} | info  # fmt: skip
    write_info(database / name, view, **info)
    for instant in ("ED", "ES"):
        at = info[instant] - 1
        if 0 <= at < count:
            save_nifti(start.with_name(f"{start.name}{instant}.nii.gz"), frames[at])
            save_nifti(start.with_name(f"{start.name}{instant}_gt.nii.gz"), maps[at])
    save_nifti(start.with_name(f"{start.name}half_sequence.nii.gz"), frames)
    save_nifti(start.with_name(f"{start.name}half_sequence_gt.nii.gz"), maps)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camus")
    root = folder / "CAMUS_public"
    database = root / "database_nifti"
    shrinking, growing = [18.0, 17.0, 16.0, 14.0, 12.0], [12.0, 14.0, 16.0, 18.0]
    write_new(database, 1, "4CH", shrinking, 1)
    write_new(database, 1, "2CH", growing, 2, ED=4, ES=1, EF=51)
    write_new(database, 2, "4CH", shrinking, 3)
    write_new(database, 2, "2CH", shrinking, 4, ES=9)
    write_new(database, 3, "4CH", shrinking, 5)
    write_new(database, 3, "2CH", growing, 6)
    write_new(database, 5, "4CH", growing, 7, FrameRate="fast")
    write_new(database, 5, "2CH", growing, 8, FrameRate="", EF="")
    (database / "patient0003" / "Info_2CH.cfg").unlink()
    save_nifti(database / "patient0003" / "patient0003_4CH_half_sequence_gt.nii.gz",
               segmented(shrinking) * 3)  # fmt: skip
    (database / "patient0002" / "patient0002_4CH_half_sequence_gt.nii.gz").unlink()
    for group, names in (
        ("training", "patient0001\n"),
        ("validation", "patient0002\n"),
        ("testing", "patient0003\npatient0004\n"),
    ):
        (root / "database_split").mkdir(exist_ok=True)
        (root / "database_split" / f"subgroup_{group}.txt").write_text(names)
    data_dir = folder / "data"
    assert mini.ingest("camus", root, data_dir) == 0
    return data_dir


def test_every_label_of_a_sequence(new):
    record = mini.example(new, "patient0001/patient0001_4CH_half_sequence.nii.gz")
    assert record["split"] == "train" and record["view"] == b"A4C"
    assert mini.is_patient(new, record, "patient0001")
    assert record["ejection_fraction"] == 49 and record["fps"] == pytest.approx(49.9)
    assert record["end_diastole"].tolist() == [0] and record["end_systole"].tolist() == [4]
    assert len(record["frames"]) == 5 and np.isnan(record["measurements"]).all()
    # The sector's longer side fills the frame: mm a stored pixel follow from that.
    box = np.argwhere(mini.fan(HEIGHT, WIDTH))
    side = max(np.ptp(box, axis=0) + 1)
    np.testing.assert_allclose(record["spacing"], 0.308 * side / mini.SIDE, rtol=0.03)


def test_every_frame_has_a_mask_of_three_structures(new):
    record = mini.example(new, "patient0001/patient0001_4CH_half_sequence.nii.gz")
    assert record["mask_frames"].tolist() == [0, 1, 2, 3, 4]
    for number in range(5):
        assert mini.overlap(record, number) > 0.95 and mini.offset(record, number) < 0.3
        assert set(np.unique(records.decode_mask(record["masks"][number], mini.SIDE))) == {
            records.STRUCTURES.index(name) for name in ("background", "LV", "myocardium", "LA")
        }
    rows = [np.argwhere(records.decode_mask(record["masks"][0], mini.SIDE) == i)[:, 0].mean()
            for i in (1, 3)]  # fmt: skip
    assert rows[0] + 10 < rows[1]  # the atrium lies below: rows are rows


def test_a_sequence_from_systole_to_diastole(new):
    record = mini.example(new, "patient0001/patient0001_2CH_half_sequence.nii.gz")
    assert record["view"] == b"A2C" and record["ejection_fraction"] == 51
    assert record["end_diastole"].tolist() == [3] and record["end_systole"].tolist() == [0]


def test_masks_of_two_frames_where_there_are_no_others(new):
    record = mini.example(new, "patient0002/patient0002_4CH_half_sequence.nii.gz")
    assert record["mask_frames"].tolist() == [0, 4]
    assert mini.overlap(record, 0) > 0.95 and mini.overlap(record, 1) > 0.93


def test_splits_and_what_does_not_fit(new):
    lines = mini.report(new)
    splits = {n[:11]: v["split"] for n, v in lines.items() if v["split"]}
    assert splits.pop("patient0005") in ("train", "val", "test")  # in no subgroup: by hash
    assert splits == {"patient0001": "train", "patient0002": "val"}
    record = mini.example(new, "patient0005/patient0005_2CH_half_sequence.nii.gz")
    assert np.isnan(record["ejection_fraction"]) and record["fps"] == 0
    refused = {n[12:].removesuffix("_half_sequence.nii.gz"): (v["reason"], v["detail"])
               for n, v in lines.items() if v["status"] == "rejected"}  # fmt: skip
    assert refused == {
        "patient0002_2CH": (
            "label_mismatch",
            "Info_2CH.cfg: ES does not lie within NbFrame",
        ),
        "patient0003_2CH": ("label_mismatch", "no Info_2CH.cfg"),
        "patient0003_4CH": ("label_mismatch", "masks of unknown structures"),
        "patient0005_4CH": ("label_mismatch", "Info_4CH.cfg: FrameRate is no number"),
        "patient0004_2CH": ("missing", ""),
        "patient0004_4CH": ("missing", ""),
    }


def test_as_it_was_distributed_first(tmp_path):
    """Pixels half as high as wide, masks of two frames, no rate, volumes; names in both groups."""
    radii = [18.0, 17.0, 16.0, 14.0, 12.0]
    name = "patient0007"
    for number, group in enumerate(("training", "testing")):
        folder = tmp_path / "set" / group / name
        for view in ("2CH", "4CH"):
            write_info(folder, view, ED=1, ES=5, NbFrame=5, Sex="M", Age=60, ImageQuality="Poor",
                       LVedv=94.5, LVesv=51.25, LVef=45.8)  # fmt: skip
            frames = mini.video(radii, number * 10 + int(view[0]), 2 * HEIGHT, WIDTH)
            save_mhd(folder / f"{name}_{view}_sequence.mhd", frames)
            if group == "testing":
                continue
            maps = segmented(radii, 2 * HEIGHT, WIDTH)
            save_mhd(folder / f"{name}_{view}_ED_gt.mhd", maps[0])
            save_mhd(folder / f"{name}_{view}_ES_gt.mhd", maps[4])
    data_dir = tmp_path / "data"
    assert mini.ingest("camus", tmp_path / "set", data_dir, "--fps=40") == 0
    record = mini.example(data_dir, "training/patient0007/patient0007_4CH_sequence.mhd")
    assert record["split"] == "train" and record["view"] == b"A4C"
    assert mini.measurement(record, "end_diastolic_volume") == 94.5
    assert mini.measurement(record, "end_systolic_volume") == 51.25
    assert record["ejection_fraction"] == np.float32(45.8)
    assert record["fps_source"] == b"option" and record["fps"] == pytest.approx(40)
    assert record["mask_frames"].tolist() == [0, 4]
    assert mini.overlap(record, 0) > 0.95 and mini.overlap(record, 1) > 0.95
    # Square again: the ventricle is as wide as in the NIfTI pictures of the same heart.
    mask = records.decode_mask(record["masks"][0], mini.SIDE) == 1
    height, width = np.ptp(np.argwhere(mask), axis=0) + 1
    assert height / width == pytest.approx(1.6 * HEIGHT / WIDTH, rel=0.05)
    assert mini.is_patient(data_dir, record, "training/patient0007")
    record = mini.example(data_dir, "testing/patient0007/patient0007_2CH_sequence.mhd")
    assert record["split"] == "test" and len(record["masks"]) == 0
    assert mini.is_patient(data_dir, record, "testing/patient0007")
    assert sum(line["status"] == "accepted" for line in mini.report(data_dir).values()) == 4


def test_wrong_files_are_named(tmp_path, capsys):
    database = tmp_path / "set" / "database_nifti"

    def said(**info):
        write_info(database / "patient0009", "4CH", **info)
        return mini.refusal(capsys, "camus", tmp_path / "set")

    good = {"ED": 1, "ES": 5, "NbFrame": 5}
    assert "Info_4CH.cfg of a patient: key NbFrame is missing" in said(ED=1, ES=5)
    assert "unknown key 'Name'" in said(**good, Name="X")
    for group in ("training", "testing"):
        (tmp_path / "set" / f"subgroup_{group}.txt").write_text("patient0009\n")
    assert "a patient in two subgroups" in said(**good)
    for path in (tmp_path / "set").glob("*.txt"):
        path.unlink()
    write_info(database / "copy" / "patient0009", "4CH", **good)
    assert "two folders of patient0009" in said(**good)
