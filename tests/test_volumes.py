import gzip
import zlib

import nibabel
import numpy as np
import pytest

from data_pipelines import readers, volumes
from data_pipelines.clip import Rejected

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 30, 20)).astype(np.uint8)  # [T, H, W]


def nifti(path, array, spacing=(0.3, 0.3, 1)):
    affine = np.diag([*spacing, 1])
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), affine), path)
    return path


def mhd(path, array=FRAMES, data=None, **changes):
    header = {
        "NDims": array.ndim, "DimSize": " ".join(map(str, array.shape[::-1])),
        "ElementSpacing": "0.3 0.3 1", "ElementType": "MET_UCHAR", "CompressedData": "False",
        "ElementDataFile": f"{path.stem}.raw",
    } | changes  # fmt: skip
    path.write_text("".join(f"{key} = {value}\n" for key, value in header.items()))
    path.with_suffix(".raw").write_bytes(array.tobytes() if data is None else data)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
def test_nifti(tmp_path, name):
    clip = readers.read(nifti(tmp_path / name, FRAMES))
    assert np.array_equal(clip.frames, FRAMES) and clip.frames.dtype == np.uint8
    assert clip.times is None and clip.fps_source == "unknown"
    assert clip.spacing == pytest.approx((0.3, 0.3))


def test_odd_headers_are_read_without_a_word(tmp_path, capfd):
    data = bytearray(nifti(tmp_path / "a.nii", FRAMES).read_bytes())
    data[76:80] = np.float32(0.5).tobytes()  # pixdim[0], which is 1 or -1
    data[252:254] = np.int16(999).tobytes()  # the code of an orientation
    (tmp_path / "a.nii").write_bytes(data)
    assert np.array_equal(readers.read(tmp_path / "a.nii").frames, FRAMES)
    assert capfd.readouterr() == ("", "")


def test_other_shapes_and_types(tmp_path):
    deep = FRAMES[:, None]  # x, y, 1, t
    assert np.array_equal(readers.read(nifti(tmp_path / "a.nii", deep)).frames, FRAMES)
    whole = FRAMES.astype(np.float32)
    assert np.array_equal(readers.read(nifti(tmp_path / "b.nii", whole)).frames, FRAMES)
    for wrong in (whole - 1, whole + 1, whole * np.nan):
        with pytest.raises(Rejected, match="unreadable: values outside"):
            readers.read(nifti(tmp_path / "c.nii", wrong))
    with pytest.raises(Rejected, match="single_frame"):
        readers.read(nifti(tmp_path / "d.nii", FRAMES[0]))
    with pytest.raises(Rejected, match="not_video"):
        readers.read(nifti(tmp_path / "e.nii", np.stack([FRAMES, FRAMES])))


def test_metaimage(tmp_path):
    assert np.array_equal(readers.read(mhd(tmp_path / "a.mhd")).frames, FRAMES)
    packed = zlib.compress(FRAMES.tobytes())
    path = mhd(tmp_path / "b.mhd", data=packed, CompressedData="True")
    assert np.array_equal(readers.read(path).frames, FRAMES)
    big = FRAMES.astype(">u2")
    path = mhd(tmp_path / "c.mhd", big, ElementType="MET_USHORT", ElementByteOrderMSB="True")
    assert np.array_equal(readers.read(path).frames, FRAMES)
    path = mhd(tmp_path / "e.mhd", big, ElementType="MET_USHORT", BinaryDataByteOrderMSB="True")
    assert np.array_equal(readers.read(path).frames, FRAMES)
    front = b"a header of its own" + FRAMES.tobytes()
    for size in (19, -1):
        path = mhd(tmp_path / "f.mhd", data=front, HeaderSize=size, ElementNumberOfChannels=1)
        assert np.array_equal(readers.read(path).frames, FRAMES)
    path = mhd(tmp_path / "g.mhd", data=b"front" + packed, CompressedData="True", HeaderSize=5)
    assert np.array_equal(readers.read(path).frames, FRAMES)
    path = mhd(tmp_path / "d.mhd", ElementSpacing="0 0 1")
    assert np.isnan(readers.read(path).spacing).all()


@pytest.mark.parametrize(
    ("changes", "data", "reason"),
    [
        ({"ElementDataFile": "../a.raw"}, None, "unreadable"),
        ({"ElementDataFile": "LOCAL"}, None, "unreadable"),
        ({"ElementDataFile": "nothing.raw"}, None, "missing"),
        ({"ElementType": "MET_OTHER"}, None, "unreadable"),
        ({"DimSize": "20 30 many"}, None, "unreadable"),
        ({"DimSize": "20 30 6"}, None, "truncated"),
        ({"DimSize": "20 30 5000"}, None, "too_long"),
        ({"DimSize": "90000 90000 90"}, None, "too_long"),
        ({"DimSize": "20 30 1"}, None, "single_frame"),
        ({"DimSize": "20 30 0"}, None, "empty"),
        ({"CompressedData": "True"}, b"no zlib", "unreadable"),
        ({"CompressedData": "True"}, zlib.compress(FRAMES.tobytes() + b"x"), "unreadable"),
        ({"CompressedData": "True"}, zlib.compress(FRAMES.tobytes()) + b"x", "unreadable"),
        ({"CompressedData": "True"}, zlib.compress(FRAMES.tobytes()[1:]), "truncated"),
        ({"CompressedData": "yes"}, None, "unreadable"),
        ({"ElementDataFile": "LIST"}, None, "unreadable"),
        ({"ElementDataFile": "a%02d.raw 1 5 1"}, None, "unreadable"),
        ({"ElementDataFile": ""}, None, "unreadable"),
        ({"DimSize": "20 30 4"}, None, "unreadable"),  # more bytes than that
        ({"DimSize": "20 15 5", "ElementNumberOfChannels": "2"}, None, "unreadable"),
        ({"BinaryData": "False"}, None, "unreadable"),
        ({"ElementByteOrderMSB": "True", "BinaryDataByteOrderMSB": "False"}, None, "unreadable"),
        ({"HeaderSize": "19"}, None, "truncated"),
        ({"HeaderSize": "-1"}, FRAMES.tobytes()[1:], "truncated"),
        ({"HeaderSize": "-2"}, None, "unreadable"),
        ({"HeaderSize": "0"}, b"x" + FRAMES.tobytes(), "unreadable"),
    ],
)
def test_wrong_headers(tmp_path, changes, data, reason):
    with pytest.raises(Rejected) as caught:
        readers.read(mhd(tmp_path / "a.mhd", data=data, **changes))
    assert caught.value.reason == reason and str(tmp_path) not in str(caught.value)


def test_announced_sizes_take_no_memory(tmp_path):
    path = nifti(tmp_path / "a.nii", FRAMES)
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([20, 30, 30000], "<i2").tobytes()  # dim[1:4]
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data))
    with pytest.raises(Rejected, match="too_long"):
        readers.read(tmp_path / "b.nii.gz")
    data[42:48] = np.array([20, 30, 6], "<i2").tobytes()
    (tmp_path / "c.nii").write_bytes(data)
    with pytest.raises(Rejected) as caught:
        readers.read(tmp_path / "c.nii")
    assert caught.value.reason in ("truncated", "unreadable")


@pytest.mark.parametrize("spacing", [(0.3, 0.15, 1), (0.15, 0.3, 1)])
def test_pixels_become_square(tmp_path, spacing):
    """A disc in mm is a disc in pixels afterwards; masks go the same way, values untouched."""
    height, width = round(24 / spacing[1]), round(24 / spacing[0])
    y, x = np.mgrid[:height, :width].astype(float)
    disc = np.hypot((x + 0.5) * spacing[0] - 12, (y + 0.5) * spacing[1] - 12) < 8
    frames = np.stack([disc * 200] * 2).astype(np.uint8)
    clip = readers.read(nifti(tmp_path / "a.nii", frames, spacing))
    assert clip.frames.shape == (2, 80, 80) and clip.spacing == pytest.approx((0.3, 0.3))
    sides = np.ptp(np.argwhere(clip.frames[0] > 100), axis=0) + 1
    assert abs(sides - 2 * 8 / 0.3).max() < 1.5
    maps = volumes.read_label_maps(nifti(tmp_path / "b.nii", frames // 200 * 3, spacing))
    assert maps.shape == (2, 80, 80) and set(np.unique(maps)) == {0, 3}
    assert ((maps[0] > 0) ^ (clip.frames[0] > 100)).sum() < 200


def test_masks_that_cannot_be_used(tmp_path):
    assert volumes.read_label_maps(nifti(tmp_path / "a.nii", FRAMES[0] % 4)).shape == (1, 30, 20)
    (tmp_path / "DOE.nii").write_bytes(b"DOE")
    for path in (tmp_path / "DOE.nii", tmp_path / "none.nii", nifti(tmp_path / "b.nii", FRAMES)):
        with pytest.raises(Rejected) as caught:
            volumes.read_label_maps(path)
        assert caught.value.reason == "label_mismatch" and "DOE" not in str(caught.value)
