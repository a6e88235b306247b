"""One labelled file: its masks lie where its frames are shown, and what does not fit is refused."""

import dataclasses
import math

import miniatures as mini
import numpy as np
import pydicom
import pytest
from PIL import Image

from data_pipelines.clean import Cleaned
from data_pipelines.cleaned_file import place_points
from data_pipelines.clip import Rejected
from data_pipelines.labelled_files import FileReader, header_patient, patient_of
from data_pipelines.labels import Label, Points

HEIGHT, WIDTH = 90, 120  # the sector does not fill the square
RADII = [20.0] * 4 + [12.0] * 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "a.npy", mini.video(RADII, 1, HEIGHT, WIDTH))
    for frame in (0, 6):
        heart = mini.inside(mini.ellipse(RADII[frame], HEIGHT, WIDTH), HEIGHT, WIDTH)
        Image.fromarray(heart.astype(np.uint8) * 2).save(folder / f"m{frame}.png")
    return folder


def reader(folder, *masks, **settings):
    label = Label(mask_files=tuple((str(folder / name), frame) for name, frame in masks))
    return FileReader(path=folder / "a.npy", label=label, precropped=True, **settings)


@pytest.mark.parametrize("size", [64, 160])
def test_masks_lie_where_the_frames_show_the_ventricle(folder, size):
    read = reader(folder, ("m0.png", 0), ("m6.png", 6), fps=30.0)
    pixels = read(size, False)
    assert pixels.frames.shape == (8, size, size) and pixels.fps == pytest.approx(30)
    assert sorted(pixels.masks) == [0, 6]
    middle = (pixels.sector[:: size - 1].sum() == 0, pixels.sector[size // 2].any())
    assert middle == (True, True)  # a wide picture in a square: black above and below
    for frame, mask in pixels.masks.items():
        dark = (pixels.frames[frame] < 95) & pixels.sector
        dark[np.abs(np.arange(size) - size / 2) > size * 0.33] = False  # the sector's edges
        assert set(np.unique(mask)) == {0, 2}
        shared = (dark & (mask == 2)).sum() / (dark | (mask == 2)).sum()
        assert shared > 0.85, shared


def test_masks_end_where_the_sector_does(folder, tmp_path):
    Image.fromarray(np.ones((HEIGHT, WIDTH), np.uint8)).save(tmp_path / "m.png")
    pixels = reader(folder, (str(tmp_path / "m.png"), 3))(64, False)
    assert np.array_equal(pixels.masks[3], pixels.sector) and pixels.masks[3].dtype == np.uint8


def test_a_palette_shows_numbers_in_colours(folder):
    image = Image.open(folder / "m0.png").convert("P")
    image.putpalette([0, 0, 0, 0, 255, 0, 255, 0, 0])
    image.putdata(list(np.asarray(Image.open(folder / "m0.png")).ravel()))
    image.save(folder / "palette.png")
    expected = reader(folder, ("m0.png", 0))(64, False).masks[0]
    assert np.array_equal(reader(folder, ("palette.png", 0))(64, False).masks[0], expected)


REFUSED = [
    (np.zeros((90, 119), np.uint8), 0, "another size"),
    (np.full((90, 120), 255, np.uint8), 0, "holds 255: 6 structures are named, 0 to 5"),
    (np.zeros((90, 120, 3), np.uint8), 0, "a mask of mode RGB"),
    (np.zeros((90, 120), np.uint8), 8, "a label outside them"),
]


@pytest.mark.parametrize(("mask", "frame", "what"), REFUSED)
def test_masks_that_do_not_fit(folder, tmp_path, mask, frame, what):
    Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(Rejected, match=what) as caught:
        reader(folder, (str(tmp_path / "m.png"), frame))(64, False)
    assert caught.value.reason == "label_mismatch" and str(tmp_path) not in str(caught.value)


def test_a_mask_that_cannot_be_read(folder, tmp_path):
    (tmp_path / "m.png").write_bytes(b"no picture")
    with pytest.raises(Rejected, match="label_mismatch: masks"):
        reader(folder, (str(tmp_path / "m.png"), 0))(64, False)


def test_as_many_structures_as_are_named(folder):
    assert reader(folder, ("m0.png", 0), structures=("none", "wall", "LV"))(64, False).masks
    with pytest.raises(Rejected, match="holds 2: 2 structures"):
        reader(folder, ("m0.png", 0), structures=("none", "LV"))(64, False)


@pytest.mark.parametrize("size", [41, 64, 160])
def test_points_lie_where_the_frames_show_them(folder, tmp_path, size):
    """To a part of a pixel; what was cut away is unknown, and the rate of pixels is the label's."""
    frames = np.load(folder / "a.npy") // 8
    places = [(50.0, 40.0), (60.25, 52.5), (70.0, 60.0), (math.nan, math.nan)]
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for column, row in places[:3]:
        frames[5] += (200 * np.exp(-((x - column) ** 2 + (y - row) ** 2) / 8)).astype(np.uint8)
    np.save(tmp_path / "p.npy", frames)
    label = Label(points=(Points(5, tuple(places)),), spacing=0.4, end_diastole=(5, 6))
    read = FileReader(path=tmp_path / "p.npy", label=label, precropped=True)
    pixels = read(size, False)
    assert list(pixels.points) == [5] and pixels.end_diastole == (5,)
    found = pixels.points[5]
    assert np.isnan(found[3]).all()
    y, x = np.mgrid[:size, :size]
    for column, row in found[:3]:
        near = np.hypot(x - column, y - row) < 4 * size / WIDTH
        weight = np.where(near, pixels.frames[5].astype(float), 0)
        assert (weight * x).sum() / weight.sum() == pytest.approx(column, abs=0.25)
        assert (weight * y).sum() / weight.sum() == pytest.approx(row, abs=0.25)
    length = np.linalg.norm((found[2] - found[0]) * pixels.spacing[::-1])
    assert length == pytest.approx(np.hypot(20, 20) * 0.4, rel=0.03)
    moved = dataclasses.replace(label, points=(Points(5, (*places[:3], (71.0, 63.0))),))
    assert dataclasses.replace(read, label=moved).key != read.key
    late = dataclasses.replace(label, points=(Points(8, tuple(places)),))
    with pytest.raises(Rejected, match="a label outside them"):
        dataclasses.replace(read, label=late)(size, False)


def test_a_point_in_what_was_cut_away_is_unknown():
    kept = Cleaned(
        frames=np.zeros((1, 32, 32), np.uint8), sector=np.ones((32, 32), bool), mode="b_mode",
        box=(slice(10, 42), slice(20, 52)), ecg_removed=False, cut=0.0,
    )  # fmt: skip
    label = Label(points=(Points(0, ((20.0, 10.0), (25.5, 20.0), (10.0, 20.0), (30.0, 45.0))),))
    (points,) = place_points(label, (90, 120), kept).values()
    np.testing.assert_allclose(points, [(0, 0), (5.5, 10), (np.nan, np.nan), (np.nan, np.nan)])


def test_the_key_follows_what_pixels_depend_on(folder, tmp_path):
    (tmp_path / "a.npy").write_bytes((folder / "a.npy").read_bytes())
    (tmp_path / "m.png").write_bytes((folder / "m0.png").read_bytes())
    read = reader(tmp_path, ("m.png", 0))
    keys = {read.key, dataclasses.replace(read, fps=20.0).key}
    keys.add(dataclasses.replace(read, precropped=False).key)
    keys.add(dataclasses.replace(read, structures=("a", "b", "c")).key)
    wrong = dataclasses.replace(read.label, end_systole=(9,))  # for which the file is refused
    keys.add(dataclasses.replace(read, label=wrong).key)
    (tmp_path / "m.png").write_bytes((folder / "m6.png").read_bytes() + b" ")
    keys.add(read.key)
    assert len(keys) == 6
    known = dataclasses.replace(read, label=dataclasses.replace(read.label, ejection_fraction=50.0))
    assert known.key == read.key  # a corrected label costs no second reading


def test_whose_clip_it_is(tmp_path):
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = pydicom.uid.UltrasoundMultiFrameImageStorage
    data.SOPInstanceUID, data.PatientID = "1.2.3", " 4711 "
    for name in ("a.dcm", "1.2.3"):  # named by their UID they have no suffix
        data.save_as(tmp_path / name, enforce_file_format=True)
        assert patient_of(tmp_path / name, (), name) == "4711"
    assert patient_of(tmp_path / "a.dcm", ("p1", "s1"), "p1/s1/a.dcm") == "p1"
    (tmp_path / "b.dcm").write_bytes(b"DAMAGED")
    (tmp_path / "c.avi").write_bytes(b"")
    assert header_patient(tmp_path / "b.dcm") == header_patient(tmp_path / "c.avi") == ""
    assert patient_of(tmp_path / "c.avi", (), "c.avi") == "c.avi"
