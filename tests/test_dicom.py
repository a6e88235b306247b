import dataclasses
import pathlib

import gdcm
import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

from data_pipelines import dicom, readers
from data_pipelines.clip import MAX_FRAMES_READ, Rejected

SECRET = "DOE^JANE"


def rgb(frames=4, height=48, width=64):
    """A smooth clip whose three channels differ; [T, H, W, 3]."""
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.stack([x * 3 + t, y * 4 + 5 * t, 200 - x - y + t], -1).astype(np.uint8)


def grey(frames=4, height=48, width=64):
    return np.ascontiguousarray(rgb(frames, height, width)[..., 0])


def write(path, frames, syntax=ExplicitVRLittleEndian, data=None, bits=8, **tags):
    """Write `frames`, or `data` that is to decode to them, with `tags` on top."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = UltrasoundMultiFrameImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientName = SECRET
    dataset.NumberOfFrames = len(frames)
    dataset.Rows, dataset.Columns = frames.shape[1:3]
    dataset.SamplesPerPixel = frames.shape[3] if frames.ndim == 4 else 1
    dataset.PhotometricInterpretation = "RGB" if frames.ndim == 4 else "MONOCHROME2"
    if frames.ndim == 4:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = 8 * frames.dtype.itemsize
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = 0
    big = syntax == ExplicitVRBigEndian
    if data is None:
        data = frames.astype(frames.dtype.newbyteorder(">" if big else "<")).tobytes()
    dataset.PixelData = data
    dataset["PixelData"].VR = "OB" if syntax.is_encapsulated or bits == 8 else "OW"
    dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    for tag, value in tags.items():
        setattr(dataset, tag, value)
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=not big,
        enforce_file_format=True,
    )
    return path


def transcode(source, path, syntax):
    """Rewrite an uncompressed file in another transfer syntax with gdcm."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(syntax))))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    return path


def rejection(path):
    with pytest.raises(Rejected) as caught:
        readers.read(path)
    assert SECRET not in str(caught.value) and path.name not in str(caught.value)
    return caught.value.reason


def sample(name):
    return pathlib.Path(get_testdata_file(name, download=False))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.dcm"


def test_patient_is_the_id_and_never_the_name(path):
    assert dicom.read(write(path, grey(), PatientID=" 0042 ")).patient == "0042"
    assert dicom.read(write(path, grey())).patient == ""


def test_invalid_tags_neither_warn_nor_fail(path, capfd):
    write(path, grey(), PatientID="7")
    data = path.read_bytes()
    dataset = pydicom.dcmread(path)
    dataset.StudyDate, dataset.PatientBirthDate = "19940130", "19410101"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.save_as(path)
    data = path.read_bytes()
    for old, new in (
        (b"19940130", b"30.01.94"),
        (b"19410101", b"unknown!"),
        (b"ISO_IR", b"ISO-IR"),
    ):
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    assert dicom.read(path).patient == "7"
    assert capfd.readouterr() == ("", "")


def test_still_and_too_many_frames(path):
    write(path, grey(1))
    assert rejection(path) == "single_frame"
    write(path, grey(), NumberOfFrames=MAX_FRAMES_READ + 1)
    assert rejection(path) == "too_long"
    write(path, grey(), NumberOfFrames=MAX_FRAMES_READ, Rows=65535, Columns=65535)
    assert rejection(path) == "too_long"


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        RLELossless,
        JPEGBaseline8Bit,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_file_cut_anywhere(path, tmp_path, capfd, syntax):
    if syntax == JPEGBaseline8Bit:
        jpeg = [simplejpeg.encode_jpeg(frame[..., None], 95, "GRAY") for frame in grey()]
        whole = write(path, grey(), syntax, encapsulate(jpeg))
    elif syntax == ExplicitVRLittleEndian:
        whole = write(path, grey())
    else:
        whole = transcode(write(path, grey()), tmp_path / "whole.dcm", syntax)
    data = whole.read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in np.linspace(1, len(data) - 16, 25).astype(int):
        cut.write_bytes(data[:length])
        assert rejection(cut) in ("truncated", "unreadable")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm"])
def test_dicom_without_an_image(name):
    with pytest.raises(Rejected, match="not_video"):
        dicom.read(sample(name))


def test_without_preamble_and_meta(path):
    write(path, grey(), ImplicitVRLittleEndian)
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x08\x00\x16\x00") :])
    np.testing.assert_array_equal(readers.read(path).frames, grey())


def test_no_text_of_the_header_but_the_patients_id(path):
    """Planted in every element of text that this reader looks at, and in others."""
    planted = "ZIZZI"
    region = pydicom.Dataset()
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 63, 47
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.add_new(0x00204000, "LT", planted)
    write(
        path, grey(), PatientID="7", ContrastBolusAgent=planted, ImageComments=planted,
        ImageType=["ORIGINAL", "PRIMARY", planted, "0001"], ProtocolName=planted,
        SequenceOfUltrasoundRegions=[region], FrameTime=40, CineRate=50, HeartRate=60,
        RWaveTimeVector=[10],
    )  # fmt: skip
    assert path.read_bytes().count(planted.encode()) == 5
    clip = dicom.read(path)
    told = repr(dataclasses.replace(clip, frames=np.zeros(0), patient=""))
    assert planted not in told and SECRET not in told
    assert clip.mode == "contrast" and clip.region and clip.note and clip.r_waves == (0.01,)
    for tags in ({"ImageType": [planted, planted, planted, "0003"]}, {"CineRate": 10**6}):
        write(path, grey(1) if "CineRate" in tags else grey(), ProtocolName=planted, **tags)
        with pytest.raises(Rejected) as caught:
            dicom.read(path)
        assert planted not in str(caught.value)


def test_the_ingest_report_tells_where_a_header_contradicts_itself(tmp_path):
    from test_ingest import ingest, report
    from test_sector import fan_screen

    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "clip.dcm", fan_screen(1).frames, FrameTime=40, CineRate=50)
    assert ingest(tmp_path / "in", tmp_path / "data") == 0
    assert (
        report(tmp_path / "data")["clip.dcm"]["detail"] == "FrameTime 25.0, CineRate 50.0 frames/s"
    )
