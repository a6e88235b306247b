"""Files of a phantom with invented secrets in every place that a format has for words."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, RepeatersDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from data_pipelines import phantom_files
from data_pipelines.phantom_image import PhantomClip

PERSON = {"name": "QUENTIN^ZYXWVA", "id": "MRN7734512", "born": "19410227", "seen": "20230817"}
WORDS = ("AE", "CS", "SH", "LO", "PN", "ST", "LT", "UT", "UC", "UR")
VALUES = {"DA": "19410227", "TM": "031759.7734", "DT": "19410227031759.7734", "AS": "097Y",
          "DS": "7734512.5", "IS": "7734512"}  # fmt: skip
# What the pixels cannot be read without, and how long a frame lasts.
NEEDED = {"SOPClassUID", "SpecificCharacterSet", "Modality", "PhotometricInterpretation",
          "NumberOfFrames", "FrameTime", "SequenceOfUltrasoundRegions", "ImageType"}  # fmt: skip
NAMED = {"PatientName", "PatientID", "PatientBirthDate", "StudyDate"}  # get those of PERSON
UNUSED_GROUPS = (0x0000, 0x0002, 0x7FE0, 0xFFFA, 0xFFFC, 0xFFFE)  # commands, meta, pixels, ends


def marker(tag: int, kind: str = "E") -> str:
    """A word of its own for each element; short enough for every VR of words."""
    return f"QZX{kind}{tag:08X}"


def planted_dicom(path: Path, clip: PhantomClip, coding: str = "raw") -> list[str]:
    """Write the clip with a secret in every element of the dictionary that holds words, numbers,
    dates or UIDs, in items of every sequence, private groups, overlays, meta and preamble.

    PS3.15 Annex E lists which of them identify: all of these are in the dictionary.

    Returns:
      The secrets, all of which the file contains.
    """
    phantom_files.write_dicom(path, clip, PERSON, coding)
    data = dcmread(path)
    secrets = [*PERSON["name"].split("^"), PERSON["id"], PERSON["born"], PERSON["seen"]]
    secrets += [VALUES["TM"], VALUES["DT"], VALUES["DS"]]
    for tag, vr in elements():
        if vr in WORDS:
            data.add_new(tag, vr, marker(tag))
            secrets.append(marker(tag))
        elif vr == "UI":
            data.add_new(tag, vr, f"1.2.826.0.1.77345.{tag}")
            secrets.append(f"1.2.826.0.1.77345.{tag}")
        elif vr in VALUES:
            data.add_new(tag, vr, VALUES[vr])
        elif vr in ("OB", "UN"):
            data.add_new(tag, vr, marker(tag, "O").encode())
            secrets.append(marker(tag, "O"))
        elif vr == "SQ":
            data.add_new(tag, vr, Sequence([item(marker(tag, "S"))]))
            secrets.append(marker(tag, "S"))
    data.ImageType = ["ORIGINAL", "PRIMARY", marker(0x00080008), "0001"]
    data.SequenceOfUltrasoundRegions[0].update(item(marker(0x00186011)))
    secrets += [marker(0x00080008), marker(0x00186011)]
    for group in (0x0009, 0x0019, 0x200D, 0x7FE1):
        block = data.private_block(group, marker(group, "C"), create=True)
        block.add_new(0x01, "LO", marker(group, "L"))
        block.add_new(0x02, "UN", marker(group, "U").encode() * 1000)
        nested = item(marker(group, "N"))
        nested.private_block(group, marker(group, "D"), create=True).add_new(
            0x01, "SQ", Sequence([item(marker(group, "T"))])
        )
        block.add_new(0x03, "SQ", Sequence([nested]))
        secrets += [marker(group, kind) for kind in "CLUNDT"]
    add_overlay(data, clip)
    data.file_meta.SourceApplicationEntityTitle = marker(0x00020016)
    data.file_meta.SendingApplicationEntityTitle = marker(0x00020017)
    data.file_meta.PrivateInformationCreatorUID = data.SOPInstanceUID
    data.file_meta.PrivateInformation = marker(0x00020102).encode()
    data.preamble = marker(0x00020000).encode().ljust(128, b"\0")
    secrets += [marker(tag) for tag in (0x00020016, 0x00020017, 0x00020102, 0x00020000)]
    data.save_as(path)
    return secrets


def elements() -> Iterator[tuple[int, str]]:
    """(tag, VR) of the dictionary's elements, repeating groups in two of their places."""
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        group = tag >> 16
        # In the image's own group words alone: its numbers say how to read the pixels.
        readable = group not in UNUSED_GROUPS and (group != 0x0028 or vr in WORDS)
        if readable and keyword not in NEEDED | NAMED:
            yield tag, vr
    for mask, (vr, *_) in RepeatersDictionary.items():
        if mask.startswith(("50xx", "60xx")) and vr in WORDS and not mask.endswith("0040"):
            yield int(mask.replace("xx", "00"), 16), vr
            yield int(mask.replace("xx", "02"), 16), vr


def item(word: str) -> Dataset:
    """An item of a sequence."""
    dataset = Dataset()
    dataset.ImageComments = word
    return dataset


def add_overlay(data: Dataset, clip: PhantomClip) -> None:
    """The banner, as an overlay plane in the middle of the sector."""
    height, width = clip.frames.shape[1:]
    plane = np.zeros((height, width), np.uint8)
    words = banner(clip) > 100
    top, left = height // 2, (width - words.shape[1]) // 2
    plane[top : top + words.shape[0], left : left + words.shape[1]] = words
    data.add_new(0x60000010, "US", height)
    data.add_new(0x60000011, "US", width)
    data.add_new(0x60000040, "CS", "G")
    data.add_new(0x60000050, "SS", [1, 1])
    data.add_new(0x60000100, "US", 1)
    data.add_new(0x60000102, "US", 0)
    data.add_new(0x60003000, "OW", np.packbits(plane, bitorder="little").tobytes())


def banner(clip: PhantomClip) -> np.ndarray:
    """The two lines with name, number and dates as the phantom draws them, cut out; uint8."""
    height, width = clip.frames.shape[1:]
    drawn = phantom_files.screen(clip, PERSON)[0, : int(0.085 * height), : int(0.72 * width)]
    drawn = np.where(clip.sector[: drawn.shape[0], : drawn.shape[1]], 0, drawn)
    rows, columns = np.flatnonzero(drawn.max(1) > 60), np.flatnonzero(drawn.max(0) > 60)
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def planted_video(path: Path, clip: PhantomClip, codec: str) -> list[str]:
    """A screen recording whose container tells who and when."""
    keys = ("title", "artist", "comment", "copyright", "album", "genre", "description")
    words = {key: f"QZX {key} ZYXWVA {path.suffix[1:]}" for key in keys}
    with av.open(str(path), "w") as container:
        container.metadata.update(words)
        stream = container.add_stream(codec, rate=Fraction(clip.fps).limit_denominator(1000))
        stream.metadata["title"] = "QZX STREAM ZYXWVA"
        frames = phantom_files.screen(clip, PERSON)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 8_000_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
    stored = path.read_bytes()
    return [word for word in words.values() if word.encode() in stored]


def planted_npz(path: Path, clip: PhantomClip) -> list[str]:
    """An archive whose other arrays are named after the patient and hold more of it."""
    frames = phantom_files.screen(clip, PERSON)[::-1]
    others = {"QZXKEY_ZYXWVA": np.array("QZXVALUE ZYXWVA"), "patient": np.array(PERSON["id"])}
    np.savez(path, clip=frames, fps=clip.fps, **others)
    return ["QZXKEY_ZYXWVA", "QZXVALUE ZYXWVA"]
