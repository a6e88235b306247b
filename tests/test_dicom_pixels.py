"""Every transfer syntax and colour space: what is decoded is what was encoded."""

import base64
import io

import av
import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from test_dicom import SECRET, grey, rejection, rgb, sample, transcode, write

from data_pipelines import clean, dicom, dicom_pixels, phantom_files, readers
from data_pipelines.clip import Rejected
from data_pipelines.phantom_image import simulate

LOSSLESS = [RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]
OPENJPH = {
    "grey": (
        "/0//UQApQAAAAAAYAAAAEAAAAAAAAAAAAAAAGAAAABAAAAAAAAAAAAABBwEB/1AACAACAAAAAv9SAAwAAgABAAUE"
        "BEAB/1wAEyBIUFBQUFBQUFBQUFBQSEhI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAEIAAf+TwCXN"
        "AQd0AMASgOYAh3QAwBGAF3MAwBKAWoDLdADAE4Ak+dinQnUAwCqAAADz8Cnp6eJ4AP/Z"
    ),
    "rgb": (
        "/0//UQAvQAAAAAAYAAAAEAAAAAAAAAAAAAAAGAAAABAAAAAAAAAAAAADBwEBBwEBBwEB/1AACAACAAAAA/9SAAwA"
        "AgABAQUEBEAB/1wAEyBQWFhYWFhYWFhYWFhYUFBQ/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAT4A"
        "Af+TwBIAAId0AMASgFIBh3QAwBKA/ABHdADACUDwAMd0AMAJQOEAB3QAwAlA5gCHdACgBIDeMjMAwAkgBMD+AGMA"
        "2+0AIjQAwAjgBMAXcwDH4wAiNADACSAEwPqbcwBM/gN3VADACOAE4KtzAG1rACR3VQDACWAE4FqAy3QA4xgAJHdV"
        "AMAJYAVo8NgL5AAAgIiI+AIGgY5UrbgAwAlgBVjYFPJ1ALWqqv7gDPfJ7LcAwAngBVgk+dinQnUAMSIi/uAM98ns"
        "twDAFqwBVwBVAAAAAADwAAJZZZZXZZZZZXec5zgQAQLg/xfv3+/f7LkA/3//EDrrrrqYAMATQBaI8/ApS+YAmSRJ"
        "kuT/EASe/ZJ79knsvADAFVAFcAAA8/Ap6enieAD/f/9//xFe/de/dey6AP/Z"
    ),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "clip.dcm"


def to_ybr(frames):
    """BT.601, full range: PS3.3 C.7.6.3.1.2."""
    matrix = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
    return np.rint(frames @ matrix.T + [0, 128, 128]).clip(0, 255).astype(np.uint8)


def lut(table, bits=16, first=0):
    """Tags of a palette; table is [3, entries]."""
    tags = {}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [len(entries) % 2**16, first, bits]
        tags[f"{colour}PaletteColorLookupTableData"] = entries.astype(f"<u{bits // 8}").tobytes()
    return tags


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


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("frames", [grey(), rgb()], ids=["grey", "rgb"])
def test_lossless_compression(path, tmp_path, syntax, frames):
    compressed = transcode(write(path, frames), tmp_path / "compressed.dcm", syntax)
    np.testing.assert_array_equal(dicom.read(compressed).frames, frames)


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000]
)
@pytest.mark.parametrize("frames", [grey(), rgb()], ids=["grey", "rgb"])
def test_lossy_compression(path, tmp_path, syntax, frames):
    """With gdcm, JPEG baseline of RGB is YBR 4:2:0 of which the tag says RGB."""
    compressed = transcode(write(path, frames), tmp_path / "compressed.dcm", syntax)
    decoded = dicom.read(compressed)
    np.testing.assert_allclose(decoded.frames, frames.astype(int), atol=6)


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless])
def test_16_bits_compressed(path, tmp_path, syntax):
    stored = grey().astype(np.uint16) * 257
    compressed = transcode(write(path, stored, bits=16), tmp_path / "compressed.dcm", syntax)
    np.testing.assert_array_equal(dicom.read(compressed).frames, grey())


@pytest.mark.parametrize("syntax", [HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K])
@pytest.mark.parametrize("kind", ["grey", "rgb"])
def test_high_throughput_jpeg_2000(path, syntax, kind):
    """Code streams of OpenJPH of the first frame of `grey(height=16, width=24)` and of `rgb`."""
    stream = base64.b64decode(OPENJPH[kind])
    frame = {"grey": grey, "rgb": rgb}[kind](1, 16, 24)
    write(path, frame.repeat(3, 0), syntax, encapsulate([stream] * 3))
    np.testing.assert_array_equal(dicom.read(path).frames, frame.repeat(3, 0))
    write(path, frame.repeat(3, 0), syntax, encapsulate([stream] * 3), Rows=17)
    assert rejection(path) == "unreadable"


@pytest.mark.parametrize(
    ("number", "codec", "container"),
    [
        ("100", "mpeg2video", "mpeg2video"),
        ("101", "mpeg2video", "mpegts"),
        ("102", "libx264", "h264"),
        ("103", "libx264", "mpegts"),
        ("104.1", "libx264", "mp4"),
        ("105", "libx264", "h264"),
        ("106", "libx264", "h264"),
        ("107", "libx265", "hevc"),
        ("108", "libx265", "mp4"),
    ],
)
def test_video_streams(path, number, codec, container):
    stream = io.BytesIO()
    options = (
        {"crf": "1", "x265-params": "log-level=none"} if codec != "mpeg2video" else {"b": "8M"}
    )
    frames = rgb(6)
    frames[:, :, :8] = (np.arange(6) * 40)[:, None, None, None]  # tells which frame it is
    with av.open(stream, "w", format=container) as out:
        video = out.add_stream(codec, rate=25, options=options)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        for frame in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode())
    fragments = encapsulate([stream.getvalue()], 2, has_bot=False)
    syntax = UID(f"1.2.840.10008.1.2.4.{number}")
    tags = {"PhotometricInterpretation": "YBR_PARTIAL_420", "FrameTime": 40}
    clip = dicom.read(write(path, frames, syntax, fragments, **tags))
    assert clip.frames.shape == frames.shape and clip.fps == 25
    assert np.abs(clip.frames - frames.astype(int)).mean(axis=(1, 2, 3)).max() < 4
    grey_level = clip.frames[:, 8:40, 2:6].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(grey_level, np.arange(6) * 40, atol=8)
    write(path, frames, syntax, fragments, NumberOfFrames=7)
    assert rejection(path) in ("truncated", "unreadable")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, *LOSSLESS[1:]])
@pytest.mark.parametrize("table", ["none", "basic", "extended"])
@pytest.mark.parametrize("pieces", [1, 3])
def test_fragments_and_offset_tables(path, tmp_path, syntax, table, pieces):
    whole = transcode(write(path, grey()), tmp_path / "whole.dcm", syntax)
    streams = list(generate_frames(pydicom.dcmread(whole).PixelData, number_of_frames=4))
    tags = {}
    if table == "extended":  # which allows one fragment a frame
        data, tags["ExtendedOffsetTable"], tags["ExtendedOffsetTableLengths"] = (
            encapsulate_extended(streams)
        )
    else:
        data = encapsulate(streams, pieces, has_bot=table == "basic")
    write(path, grey(), syntax, data, **tags)
    np.testing.assert_array_equal(dicom.read(path).frames, grey())


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, *LOSSLESS[1:]])
def test_a_wrong_offset_table_does_no_harm(path, tmp_path, syntax):
    whole = transcode(write(path, grey()), tmp_path / "whole.dcm", syntax)
    streams = list(generate_frames(pydicom.dcmread(whole).PixelData, number_of_frames=4))
    data = encapsulate(streams, has_bot=True)
    write(path, grey(), syntax, data[:8] + bytes(16) + data[24:])  # four offsets of zero
    np.testing.assert_array_equal(dicom.read(path).frames, grey())


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_compressed_ybr_full(path, tmp_path, syntax):
    """Samples are YBR, whatever compresses them without touching colours."""
    write(path, to_ybr(rgb()), PhotometricInterpretation="YBR_FULL")
    compressed = transcode(path, tmp_path / "compressed.dcm", syntax)
    assert pydicom.dcmread(compressed).PhotometricInterpretation == "YBR_FULL"
    np.testing.assert_allclose(dicom.read(compressed).frames, rgb().astype(int), atol=3)


@pytest.mark.parametrize(
    ("syntax", "space"), [(JPEG2000Lossless, "YBR_RCT"), (JPEG2000, "YBR_ICT")]
)
def test_colour_transform_of_jpeg_2000(path, tmp_path, syntax, space):
    """The code stream undoes it; the tag only tells that it was done."""
    compressed = transcode(write(path, rgb()), tmp_path / "compressed.dcm", syntax)
    dataset = pydicom.dcmread(compressed)
    dataset.PhotometricInterpretation = space
    dataset.save_as(compressed)
    np.testing.assert_allclose(dicom.read(compressed).frames, rgb().astype(int), atol=2)


def stored(frames, kind):
    """What `write` needs to store RGB frames raw, with a palette, or as JPEG of YBR."""
    if kind == "raw":
        return {"frames": frames}
    if kind == "palette":
        colours, indices = np.unique(frames.reshape(-1, 3), axis=0, return_inverse=True)
        table = np.zeros((256, 3), int)
        table[: len(colours)] = colours
        return {"frames": indices.reshape(frames.shape[:3]).astype(np.uint8),
                "PhotometricInterpretation": "PALETTE COLOR", **lut(table.T)}  # fmt: skip
    ycc = [simplejpeg.encode_jpeg(frame, 95, "RGB", "422") for frame in frames]
    return {"frames": frames, "syntax": JPEGBaseline8Bit, "data": encapsulate(ycc),
            "PhotometricInterpretation": "YBR_FULL_422"}  # fmt: skip


KINDS = pytest.mark.parametrize("kind", ["raw", "palette", "jpeg"])


@KINDS
def test_grey_is_the_luma_of_the_colours(path, kind):
    """Without `colour`, once the header tells the mode; it is what `clean` would make of them."""
    tinted = np.stack([grey(20) // 2 + 20, grey(20) // 2 + 10, grey(20) // 2], -1)
    write(path, **stored(tinted, kind), ImageType=["ORIGINAL", "PRIMARY", "", "0001"])
    coloured = dicom.read(path).frames
    assert coloured.shape == tinted.shape
    luma = clean.to_grey(coloured).astype(int)
    atol = 2 if kind == "jpeg" else 0
    read = dicom.read(path, colour=False)
    np.testing.assert_allclose(read.frames, luma, atol=atol)
    assert read.coloured is None
    write(path, **stored(tinted, kind))
    assert dicom.read(path, colour=False).frames.shape == tinted.shape


@KINDS
@pytest.mark.parametrize("first", [0, 9])
@pytest.mark.parametrize("colour", [(0, 0, 255), (255, 0, 0), (90, 90, 150)])
def test_what_is_drawn_in_colour_is_told_and_can_be_read_in_colour(path, kind, first, colour):
    """As luma a blue line is darker than tissue, and nobody would find and cut it out."""
    frames = np.repeat(grey(30)[..., None] // 4, 3, -1)
    frames[first : first + dicom_pixels.EVERY, 20:22, 5:25] = colour
    write(path, **stored(frames, kind), ImageType=["ORIGINAL", "PRIMARY", "", "0001"])
    read = dicom.read(path, colour=False)
    assert read.frames.ndim == 3 and read.coloured[20, 15] and not read.coloured[:18].any()
    np.testing.assert_allclose(
        read.in_colour()[first, 20, 15], colour, atol=30 if kind == "jpeg" else 0
    )


@pytest.mark.parametrize("ink", [(0, 0, 255), (255, 0, 0)])
def test_a_coloured_trace_is_cut_out_of_a_clip_that_is_stored_grey(path, ink):
    one = simulate("A4C", 2, size=(300, 400))
    screen = phantom_files.screen(one, phantom_files.identity(0, 0), 0.8)
    drawn = (screen != one.frames) & one.sector
    frames = np.repeat(screen[..., None], 3, -1)
    frames[drawn] = ink
    write(path, frames, ImageType=["ORIGINAL", "PRIMARY", "", "0001"])
    cleaned = clean.clean(dicom.read(path, colour=False), size=224, colour=False)
    assert cleaned.ecg_removed and cleaned.mode == "b_mode" and cleaned.frames.ndim == 3


def test_more_bytes_than_a_clip_has(path, monkeypatch):
    monkeypatch.setattr(dicom_pixels, "MAX_BYTES_READ", 1 << 20)
    zeros = np.zeros((4, 512, 512), np.uint8)
    write(path, zeros, DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 10_000 and rejection(path) == "too_long"
    write(path, zeros)
    assert path.stat().st_size > 1 << 20 and rejection(path) == "too_long"


def test_jpeg_of_12_bits_is_refused_by_its_name(path):
    data = [simplejpeg.encode_jpeg(frame[..., None], colorspace="GRAY") for frame in grey()]
    write(path, grey(), JPEGExtended12Bit, encapsulate(data), bits=12, BitsAllocated=16)
    with pytest.raises(Rejected, match="unreadable: JPEG extended of 12 bits"):
        dicom.read(path)


def test_four_samples_a_pixel(path):
    cmyk = np.concatenate([rgb(), grey()[..., None]], -1)
    write(path, cmyk, PhotometricInterpretation="CMYK")
    assert rejection(path) == "unreadable"


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
    ybr = to_ybr(rgb())
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


@pytest.mark.parametrize(
    ("bits", "shift"),
    [(16, 8), (16, 0), (8, 0)],
    ids=["16-bit entries", "8 bits in 16-bit entries", "8-bit entries"],
)
def test_palette(path, bits, shift):
    table = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) // 2])
    write(path, grey(), PhotometricInterpretation="PALETTE COLOR", **lut(table << shift, bits))
    np.testing.assert_array_equal(dicom.read(path).frames, table.T[grey()])


def test_palette_of_fewer_entries_than_indices(path):
    """What lies below and above the table has its first and last colour."""
    table = np.stack([np.arange(100), 150 - np.arange(100), np.arange(100) // 2])
    write(path, grey(), PhotometricInterpretation="PALETTE COLOR", **lut(table << 8, first=20))
    index = np.clip(grey().astype(int) - 20, 0, 99)
    np.testing.assert_array_equal(dicom.read(path).frames, table.T[index])


def test_segmented_palette(path):
    """Discrete, linear and indirect segments of PS3.3 C.7.9.2."""
    ramp = [0, 1, 0, 1, 127, 127 << 8]  # one entry of 0, then 127 more to 127
    again = [2, 2, 0, 0]  # both segments once more, from offset 0
    tags = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"Segmented{colour}PaletteColorLookupTableData"] = np.array(
            ramp + again, "<u2"
        ).tobytes()
    write(path, grey(), **tags)
    np.testing.assert_array_equal(dicom.read(path).frames, (grey() % 128)[..., None].repeat(3, -1))


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


def test_sequence_of_two_rle_frames():
    name = "SC_rgb_rle_2frame.dcm"
    expected = pydicom.dcmread(sample(name)).pixel_array
    np.testing.assert_array_equal(dicom.read(sample(name)).frames, expected)


def test_unknown_transfer_syntax(path):
    write(path, grey(), UID("1.2.840.10008.1.2.4.102"), encapsulate([b"\x00" * 64]))
    assert rejection(path) == "unreadable"
