"""Frames of a DICOM file as displayed, in 8 bits, in every transfer syntax that can be decoded.

| transfer syntax | decoded by |
| --- | --- |
| uncompressed, deflated, RLE | pydicom |
| JPEG baseline, and extended of 8 bits | simplejpeg; pydicom where tag and markers dispute RGB |
| JPEG lossless, JPEG-LS, JPEG 2000 | gdcm, through pydicom |
| HTJ2K, MPEG-2, MPEG-4 AVC (H.264), HEVC | PyAV |
| JPEG extended of 12 bits | nothing that is installed: refused |
"""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pydicom
import simplejpeg
from pydicom.encaps import (
    encapsulate,
    generate_fragments,
    generate_frames,
    parse_basic_offsets,
)
from pydicom.filereader import read_file_meta_info
from pydicom.pixels import apply_color_lut, convert_color_space, get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
)

from data_pipelines.arrays import MAX_BYTES_READ
from data_pipelines.clip import Rejected
from data_pipelines.codestream import coded_size
from data_pipelines.modes import COLOURED

# Of a clip that is to be grey one in so many frames is looked at in colour. What is drawn in blue
# or red is hardly to be seen in grey, by whoever has to find it either: where it may be of a
# graphic in the sector, all frames are read in colour.
EVERY = 16
META_LENGTH_END = 144  # preamble, DICM and FileMetaInformationGroupLength
HTJ2K = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
VIDEO = tuple(
    f"1.2.840.10008.1.2.4.{number}{fragmentable}"
    for number in range(100, 109)  # MPEG-2, MPEG-4 AVC, HEVC
    for fragmentable in ("", ".1")
)


def decode(
    dataset: pydicom.Dataset, count: int, *, grey: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """uint8 [T, H, W] or [T, H, W, 3], with the colour space, table and window applied.

    With `grey`, colours become their luma of ITU-R BT.601, [T, H, W]; which pixels are coloured is
    the second result, [H, W] bool, or None where none is.

    Raises:
        Rejected: `truncated` or `unreadable`; a codec may raise anything else.
    """
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        to_8_bits = _palette(dataset)
    elif dataset.BitsStored == 8 and not dataset.get("PixelRepresentation"):
        to_8_bits = None
    else:
        to_8_bits = _window(dataset)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    frames, coloured, held = None, None, 0
    for held, decoded in enumerate(_raw_frames(dataset, count, grey), start=1):
        frame = decoded if to_8_bits is None else to_8_bits(decoded)
        if inverted:
            frame = 255 - frame
        if grey and frame.ndim == 3:
            if held % EVERY == 1:
                found = _coloured(frame)
                coloured = found if coloured is None else coloured | found
            frame = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if frames is None:
            if frame.shape[2:] not in ((), (3,)):
                raise Rejected("unreadable", "neither grey nor three colours")
            frames = np.empty((count, *frame.shape), np.uint8)
        frames[held - 1] = frame
        if held == count:
            break
    if held < count:
        raise Rejected("truncated", f"{held} of {count} frames")
    return frames, coloured if coloured is not None and coloured.any() else None


def _coloured(frame: np.ndarray) -> np.ndarray:
    """Which pixels of [H, W, 3] uint8 are; the luma of all others is nearly as bright."""
    red, green, blue = cv2.split(frame)
    highest, lowest = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    return cv2.subtract(highest, lowest) > COLOURED


def check_bytes(path: Path) -> None:
    """Refuse what takes more memory than any clip: pydicom reads, and inflates, all of a file.

    Raises:
        Rejected: `too_long`.
    """
    if path.stat().st_size > MAX_BYTES_READ:
        raise Rejected("too_long", "a file larger than any clip")
    with path.open("rb") as file:
        start = file.read(2048)  # holds the file meta information, mostly
        if str(DeflatedExplicitVRLittleEndian).encode() not in start:
            return
        meta = read_file_meta_info(path)
        if meta.TransferSyntaxUID != DeflatedExplicitVRLittleEndian:
            return
        file.seek(META_LENGTH_END + meta.FileMetaInformationGroupLength)
        inflate, size, data = zlib.decompressobj(-zlib.MAX_WBITS), 0, file.read()
        while data:
            size += len(inflate.decompress(data, 1 << 24))
            if size > MAX_BYTES_READ:
                raise Rejected("too_long", "a deflated data set larger than any clip")
            data = inflate.unconsumed_tail


def _raw_frames(dataset: pydicom.Dataset, count: int, grey: bool) -> Iterator[np.ndarray]:
    """Frames of the stored bits; colour is RGB, or mostly grey already where the codec can."""
    syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    if not syntax.is_encapsulated:
        yield from _uncompressed(dataset, count, syntax)
    elif syntax in VIDEO:
        yield from _video(dataset)
    elif syntax in HTJ2K:
        yield from _htj2k(dataset, count)
    elif _is_plain_jpeg(dataset, count, syntax):
        # Ten times as fast as pydicom's way. All frames of a kind are decoded into the same memory:
        # fresh one costs as much again.
        size, plain = (dataset.Rows, dataset.Columns), dataset.SamplesPerPixel == 1
        buffers = {"GRAY": np.empty((*size, 1), np.uint8), "RGB": np.empty((*size, 3), np.uint8)}
        for number, data in enumerate(_encoded(dataset, count)):
            space = "GRAY" if plain or (grey and number % EVERY) else "RGB"
            frame = simplejpeg.decode_jpeg(data, space, buffer=buffers[space])
            yield frame[..., 0] if space == "GRAY" else frame
    elif syntax == JPEGExtended12Bit and dataset.BitsStored != 8:
        raise Rejected("unreadable", "JPEG extended of 12 bits, for which there is no decoder")
    else:
        # The decoder converts YBR to RGB and the tag still says YBR: who converts by the tag
        # converts twice.
        if syntax != RLELossless:  # a frame each, none larger than announced
            dataset.PixelData = encapsulate(list(_encoded(dataset, count)), has_bot=False)
            dataset["PixelData"].is_undefined_length = True
            for tag in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
                dataset.pop(tag, None)
        for frame, _ in get_decoder(syntax).iter_array(dataset, raw=False):
            yield frame


def _is_plain_jpeg(dataset: pydicom.Dataset, count: int, syntax) -> bool:
    """Whether the JPEG's own markers tell its colours, as libjpeg reads them."""
    if syntax not in (JPEGBaseline8Bit, JPEGExtended12Bit) or dataset.BitsStored != 8:
        return False
    if dataset.PhotometricInterpretation == "RGB":
        # The tag may contradict the markers, which pydicom sorts out; but what is subsampled is
        # no RGB, whatever the tag says (gdcm writes such files).
        return simplejpeg.decode_jpeg_header(next(_encoded(dataset, count)))[3] != "444"
    return dataset.PhotometricInterpretation != "PALETTE COLOR"


def _uncompressed(dataset: pydicom.Dataset, count: int, syntax) -> Iterator[np.ndarray]:
    samples = 2 if dataset.PhotometricInterpretation == "YBR_FULL_422" else dataset.SamplesPerPixel
    needed = count * dataset.Rows * dataset.Columns * samples * dataset.BitsAllocated // 8
    if len(dataset.PixelData) < needed:
        raise Rejected("truncated", "fewer bytes than the image needs")
    decoder = get_decoder(syntax)
    # Not iter_array, which takes the second frame of YBR_FULL_422 for YBR_FULL (pydicom 3.0.2).
    for index in range(count):
        yield decoder.as_array(dataset, index=index, raw=False)[0]


def _encoded(dataset: pydicom.Dataset, count: int) -> Iterator[bytes]:
    """One code stream a frame, of the header's size, whatever table of offsets the file has.

    With a fragment for each frame, which an Extended Offset Table requires, none is needed.
    """
    buffer, size = io.BytesIO(dataset.PixelData), (dataset.Rows, dataset.Columns)
    parse_basic_offsets(buffer)  # moves to the first fragment
    frames = list(generate_fragments(buffer))
    if len(frames) != count:
        frames = generate_frames(dataset.PixelData, number_of_frames=count)
    for data in frames:
        _check_size(size, coded_size(data))
        yield data


def _check_size(announced: tuple[int, int], found: tuple[int, int] | None) -> None:
    if found != announced:
        raise Rejected("unreadable", "the frame size differs from the header's")


def _htj2k(dataset: pydicom.Dataset, count: int) -> Iterator[np.ndarray]:
    codec = av.CodecContext.create("jpeg2000", "r")
    codec.thread_count = 1
    for data in _encoded(dataset, count):
        [frame] = codec.decode(av.Packet(data))
        pixels = frame.to_ndarray()  # undoes the codec's own colour transform
        if dataset.PhotometricInterpretation.startswith("YBR_FULL"):
            pixels = convert_color_space(pixels, "YBR_FULL", "RGB")
        yield pixels


def _video(dataset: pydicom.Dataset) -> Iterator[np.ndarray]:
    """All fragments are one stream, in a container or bare."""
    stream = b"".join(generate_frames(dataset.PixelData, number_of_frames=1))
    with av.open(io.BytesIO(stream)) as container:
        video = container.streams.video[0]
        _check_size((dataset.Rows, dataset.Columns), (video.height, video.width))
        video.codec_context.thread_count = 1  # files are read side by side
        for frame in container.decode(video):
            _check_size((dataset.Rows, dataset.Columns), (frame.height, frame.width))
            yield frame.to_ndarray(format="rgb24")


def _palette(dataset: pydicom.Dataset):
    """A function from [H, W] indices to [H, W, 3] colours."""
    table = apply_color_lut(np.arange(2**dataset.BitsStored), dataset)[:, :3]  # [entries, 3]
    if table.max() > 255:
        table = table >> 8
    table = table.astype(np.uint8)
    return lambda indices: table[indices]


def _window(dataset: pydicom.Dataset):
    """A function from stored values to 8 bits: the linear window of PS3.3 C.11.2.1.2.1."""
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation"))
    low = -(2.0 ** (bits - 1)) if signed else 0.0
    high = low + 2.0**bits - 1
    try:
        slope = float(dataset.get("RescaleSlope", 1))
        intercept = float(dataset.get("RescaleIntercept", 0))
        centre = float(np.ravel(dataset.WindowCenter)[0])
        width = float(np.ravel(dataset.WindowWidth)[0])
    except (AttributeError, IndexError, TypeError, ValueError):
        pass
    else:
        if slope > 0 and width > 1 and np.isfinite(centre + width + intercept):
            low = (centre - 0.5 - (width - 1) / 2 - intercept) / slope
            high = (centre - 0.5 + (width - 1) / 2 - intercept) / slope
    scale = 255 / (high - low)
    return lambda stored: np.rint(np.clip((stored - low) * scale, 0, 255)).astype(np.uint8)
