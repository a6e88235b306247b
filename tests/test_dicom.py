import pathlib

import gdcm
import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
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


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
@pytest.mark.parametrize("frames", [grey(), rgb()], ids=["grey", "rgb"])
def test_uncompressed(path, syntax, frames):
    np.testing.assert_array_equal(dicom.read(write(path, frames, syntax)).frames, frames)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("frames", [grey(), rgb()], ids=["grey", "rgb"])
def test_lossless_compression(path, tmp_path, syntax, frames):
    compressed = transcode(write(path, frames), tmp_path / "compressed.dcm", syntax)
    np.testing.assert_array_equal(dicom.read(compressed).frames, frames)


@pytest.mark.parametrize("colour_space", ["YBR_FULL_422", "YBR_FULL"])
def test_jpeg_baseline_is_converted_to_rgb_once(path, colour_space):
    data = [
        simplejpeg.encode_jpeg(frame, 95, "RGB", "422" if "422" in colour_space else "444")
        for frame in rgb()
    ]
    tags = {"PhotometricInterpretation": colour_space}
    write(path, rgb(), JPEGBaseline8Bit, encapsulate(data), **tags)
    np.testing.assert_allclose(dicom.read(path).frames, rgb().astype(int), atol=12)


def test_grey_jpeg_baseline(path):
    data = [simplejpeg.encode_jpeg(frame[..., None], 95, "GRAY") for frame in grey()]
    write(path, grey(), JPEGBaseline8Bit, encapsulate(data))
    frames = dicom.read(path).frames
    assert frames.shape == grey().shape
    np.testing.assert_allclose(frames, grey().astype(int), atol=4)


@pytest.mark.parametrize(
    "name",
    [
        "SC_jpeg_no_color_transform.dcm",  # JPEG baseline, tag RGB, samples RGB
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_rgb_dcmtk_+eb+cy+np.dcm",
        "SC_rgb_jpeg_gdcm.dcm",  # JPEG lossless
        "SC_rgb_jls_lossy_sample.dcm",
        "SC_rgb_gdcm_KY.dcm",  # JPEG 2000
        "GDCMJ2K_TextGBR.dcm",  # JPEG 2000, YBR_RCT
        "examples_jpeg2k.dcm",
    ],
)
def test_each_frame_decodes_as_a_still_does(path, name):
    """What a decoder finds out about the first frame must not spoil the second."""
    still = pydicom.dcmread(sample(name))
    [data] = generate_frames(still.PixelData, number_of_frames=1)
    clip = np.stack([still.pixel_array] * 2)
    tags = {"PhotometricInterpretation": still.PhotometricInterpretation}
    write(path, clip, still.file_meta.TransferSyntaxUID, encapsulate([data, data]), **tags)
    np.testing.assert_allclose(dicom.read(path).frames, clip.astype(int), atol=3)


def test_uncompressed_ybr_full_and_422(path):
    # BT.601, full range: the inverse of PS3.3 C.7.6.3.1.2
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    ybr = np.rint(rgb() @ matrix.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)
    write(path, ybr, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(dicom.read(path).frames, rgb().astype(int), atol=3)

    flat = ybr[:, :, ::2].repeat(2, axis=2)  # pixel pairs share their colour
    pairs = np.concatenate([flat[:, :, ::2, :1], flat[:, :, 1::2, :1], flat[:, :, ::2, 1:]], -1)
    write(path, ybr, data=pairs.tobytes(), PhotometricInterpretation="YBR_FULL_422")
    np.testing.assert_allclose(
        dicom.read(path).frames, rgb()[:, :, ::2].repeat(2, axis=2).astype(int), atol=3
    )


def test_planar_configuration(path):
    planes = rgb().transpose(0, 3, 1, 2).tobytes()
    write(path, rgb(), data=planes, PlanarConfiguration=1)
    np.testing.assert_array_equal(dicom.read(path).frames, rgb())


@pytest.mark.parametrize("shift", [8, 0], ids=["16-bit entries", "8 bits in 16-bit entries"])
def test_palette(path, shift):
    table = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2])
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = (entries << shift).astype("<u2").tobytes()
    write(path, grey(), **tags)
    np.testing.assert_array_equal(dicom.read(path).frames, table.T[grey()])


def test_monochrome1_is_inverted(path):
    write(path, grey(), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(dicom.read(path).frames, 255 - grey())


def test_12_bits_are_scaled_and_embedded_overlay_bits_are_left_out(path):
    stored = grey().astype(np.uint16) * 16
    write(path, stored | 0xF000, bits=12)
    frames = dicom.read(path).frames
    np.testing.assert_array_equal(frames, np.rint(stored / 4095 * 255))


def test_window_of_the_header(path):
    stored = grey().astype(np.uint16) + 1000
    write(path, stored, bits=16, WindowCenter=1128, WindowWidth=256)
    np.testing.assert_array_equal(dicom.read(path).frames, grey())
    write(path, stored, bits=16, WindowCenter=128, WindowWidth=256, RescaleIntercept=-1000)
    np.testing.assert_array_equal(dicom.read(path).frames, grey())
    write(path, stored, bits=16, WindowCenter=128, WindowWidth=0)  # no window
    np.testing.assert_array_equal(dicom.read(path).frames, np.rint(stored / 65535 * 255))


def test_signed_samples(path):
    signed = (grey().astype(int) - 128).astype(np.int16)
    write(path, signed, bits=8, PixelRepresentation=1)
    np.testing.assert_array_equal(dicom.read(path).frames, grey())


def test_overlay_plane_is_not_drawn(path):
    write(path, grey())
    dataset = pydicom.dcmread(path)
    dataset.add_new((0x6000, 0x0010), "US", 48)
    dataset.add_new((0x6000, 0x0011), "US", 64)
    dataset.add_new((0x6000, 0x3000), "OW", b"\xff" * (48 * 64 // 8))
    dataset.save_as(path)
    np.testing.assert_array_equal(dicom.read(path).frames, grey())


@pytest.mark.parametrize(
    ("tags", "steps", "source"),
    [
        ({"FrameTime": 20, "CineRate": 10}, [20, 20, 20], "FrameTime"),
        ({"FrameTimeVector": [0, 33, 50, 40], "CineRate": 9}, [33, 50, 40], "FrameTimeVector"),
        ({"FrameTimeVector": [30, 33, 50, 40]}, [33, 50, 40], "FrameTimeVector"),
        ({"FrameTime": 0, "FrameTimeVector": [0, 9, 8, 7]}, [9, 8, 7], "FrameTimeVector"),
        ({"FrameTimeVector": [0, 33], "CineRate": 50}, [20, 20, 20], "CineRate"),
        ({"FrameTimeVector": [0, 33, -1, 3], "CineRate": 50}, [20, 20, 20], "CineRate"),
        (
            {"CineRate": 0, "RecommendedDisplayFrameRate": 25},
            [40, 40, 40],
            "RecommendedDisplayFrameRate",
        ),
        ({"FrameTime": -33, "CineRate": 0}, None, "unknown"),
        ({}, None, "unknown"),
    ],
)
def test_frame_times(path, tags, steps, source):
    clip = dicom.read(write(path, grey(), **tags))
    assert clip.fps_source == source
    if steps is None:
        assert clip.times is None
    else:
        np.testing.assert_allclose(np.diff(clip.times), np.array(steps) / 1000)
        assert clip.times[0] == 0


@pytest.mark.parametrize(
    ("code", "mode"),
    [("0001", "b_mode"), ("0011", "colour_doppler"), ("0101", "colour_doppler"), ("0040", "")],
)
def test_mode(path, code, mode):
    write(path, grey(), ImageType=["ORIGINAL", "PRIMARY", "TTE", code])
    assert dicom.read(path).mode == mode


@pytest.mark.parametrize("value", [b"NaN ", b"1e99", b"abc ", b"    "])
def test_frame_time_that_is_no_number(path, value):
    write(path, grey(), FrameTime="1234", CineRate=50)
    path.write_bytes(path.read_bytes().replace(b"1234", value))
    assert dicom.read(path).fps_source == "CineRate"


def test_mode_is_unknown_without_a_fourth_value(path):
    assert dicom.read(write(path, grey())).mode == ""
    assert dicom.read(write(path, grey(), ImageType=["ORIGINAL", "PRIMARY"])).mode == ""
    assert dicom.read(write(path, grey(), ImageType=["A", "B", "C", "M_FFE"])).mode == ""


@pytest.mark.parametrize("code", ["0002", "0003", "0004", "0009", "0020"])
def test_traces_are_rejected(path, code):
    write(path, grey(), ImageType=["ORIGINAL", "PRIMARY", "", code])
    assert rejection(path) == "m_mode_or_spectral"


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


def test_fewer_frames_than_announced(path):
    write(path, grey(), NumberOfFrames=5)
    assert rejection(path) == "truncated"
    jpeg = [simplejpeg.encode_jpeg(frame[..., None], 95, "GRAY") for frame in grey()]
    write(path, grey(), JPEGBaseline8Bit, encapsulate(jpeg), NumberOfFrames=5)
    assert rejection(path) in ("truncated", "unreadable")


def test_frame_of_another_size(path):
    jpeg = [simplejpeg.encode_jpeg(frame[..., None], 95, "GRAY") for frame in grey()]
    write(path, grey(), JPEGBaseline8Bit, encapsulate(jpeg), Rows=24)
    assert rejection(path) == "unreadable"


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


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_damaged_frames(path, tmp_path, capfd, syntax):
    """A broken code stream gives a rejection or an image, and prints nothing of the header."""
    data = transcode(write(path, grey()), tmp_path / "whole.dcm", syntax).read_bytes()
    damaged = tmp_path / "damaged.dcm"
    for start in range(len(data) // 2, len(data), len(data) // 12):
        damaged.write_bytes(data[:start] + b"\x00\xff" * 4 + data[start + 8 :])
        try:
            assert readers.read(damaged).frames.shape == grey().shape
        except Rejected as rejected:
            assert rejected.reason in ("truncated", "unreadable")
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("name", ["test-SR.dcm", "rtplan.dcm", "waveform_ecg.dcm"])
def test_dicom_without_an_image(name):
    with pytest.raises(Rejected, match="not_video"):
        dicom.read(sample(name))


def test_sequence_of_two_rle_frames():
    name = "SC_rgb_rle_2frame.dcm"
    expected = pydicom.dcmread(sample(name)).pixel_array
    np.testing.assert_array_equal(dicom.read(sample(name)).frames, expected)


def test_without_preamble_and_meta(path):
    write(path, grey(), ImplicitVRLittleEndian)
    data = path.read_bytes()
    path.write_bytes(data[data.index(b"\x08\x00\x16\x00") :])
    np.testing.assert_array_equal(readers.read(path).frames, grey())


def test_unknown_transfer_syntax(path):
    write(path, grey(), UID("1.2.840.10008.1.2.4.102"), encapsulate([b"\x00" * 64]))
    assert rejection(path) == "unreadable"
