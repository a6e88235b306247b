"""What a code stream announces is found in each of the family, and believed by no codec first."""

import numpy as np
import pydicom
import pytest
import simplejpeg
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
)
from test_dicom import grey, rejection, transcode, write

from data_pipelines.codestream import coded_size

FAMILY = [JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless]


def streams(tmp_path, syntax):
    whole = transcode(write(tmp_path / "plain.dcm", grey()), tmp_path / "whole.dcm", syntax)
    return list(generate_frames(pydicom.dcmread(whole).PixelData, number_of_frames=4))


def enlarged(stream):
    """The same picture, announced as 60000 × 60000."""
    size = np.array([60000, 60000], ">u4" if stream[:2] == b"\xff\x4f" else ">u2").tobytes()
    if stream[:2] == b"\xff\x4f":
        return stream[:8] + size + stream[16:24] + size + stream[32:]  # picture and tile
    at = next(stream.index(m) for m in (b"\xff\xc1", b"\xff\xc0", b"\xff\xc3", b"\xff\xf7")
              if m in stream)  # fmt: skip
    return stream[: at + 5] + size + stream[at + 9 :]


@pytest.mark.parametrize("syntax", FAMILY)
def test_size(tmp_path, syntax):
    for stream in streams(tmp_path, syntax):
        assert coded_size(stream) == (48, 64)
        assert coded_size(enlarged(stream)) == (60000, 60000)
        for length in range(8):
            assert coded_size(stream[:length]) is None


def test_size_behind_other_segments():
    jpeg = simplejpeg.encode_jpeg(grey()[0][..., None], 95, "GRAY")
    comment = b"\xff\xfe\x00\x06\xff\xc0\x00\x11"  # that looks like a start of frame
    assert coded_size(jpeg[:2] + comment + b"\xff" + jpeg[2:]) == (48, 64)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 64, b"\xff\xd8\xff\xd9", b"\xff\xd8" + b"\xff" * 64]
)
def test_what_is_no_code_stream(data):
    assert coded_size(data) is None


@pytest.mark.parametrize("syntax", FAMILY)
def test_a_frame_that_announces_gigapixels_is_refused(tmp_path, syntax):
    first, *others = streams(tmp_path, syntax)
    path = tmp_path / "bomb.dcm"
    write(path, grey(), syntax, encapsulate([first, *map(enlarged, others)]))
    assert rejection(path) == "unreadable"
