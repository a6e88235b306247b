"""What one stored record may hold, checked to the last byte: an allow-list, as in `records`.

Every check returns what is wrong without quoting what it found.
"""

import math
import re
from collections.abc import Iterator

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records
from data_pipelines.privacy_image import check_image, check_mask, decode_image
from data_pipelines.privacy_known import Search
from data_pipelines.shards import DatasetInfo

TEXTS = {"mode": records.MODES, "view": records.VIEWS, "rhythm": records.RHYTHMS,
         "fps_source": records.FPS_SOURCES}  # fmt: skip
IDS = ("clip_id", "patient_id")
MAX_SEGMENTS, MAX_SECONDS = 4096, 4096  # of a clip
# Numbers: (lowest, highest, whether it may be unknown, as NaN). No date, no record number fits.
RANGES = {
    "fps": (0, 1000, False), "times": (0, MAX_SECONDS, False),
    "segment": (0, MAX_SEGMENTS - 1, False), "segments": (1, MAX_SEGMENTS, False),
    "ejection_fraction": (0, 100, True), "phase": (0, 1, False),
    "end_diastole": (0, records.MAX_FRAMES - 1, False),
    "end_systole": (0, records.MAX_FRAMES - 1, False),
    "mask_frames": (0, records.MAX_FRAMES - 1, False),
    "measurements": (0, 2000, True), "spacing": (1e-3, 10, True), "heart_rate": (0, 400, True),
    "aortic_stenosis": (-1, len(records.GRADES) - 1, False),
    "aortic_regurgitation": (-1, len(records.GRADES) - 1, False),
    "r_waves": (0, MAX_SECONDS, False),
}  # fmt: skip
KINDS = {"O": "bytes_list", "f": "float_list", "i": "int64_list"}  # of NumPy's dtypes
_expected = records.FEATURES.get_serialized_info()


def check_record(data: bytes, info: DatasetInfo, search: Search) -> Iterator[str]:
    """What of a serialized record should not be in a data set; nothing if all of it may be.

    Args:
      data: as stored.
      info: of the data set.
      search: for known names, in everything that is stored, compressed and not.
    """
    try:
        example = tf_example_pb2.Example.FromString(data)
    except Exception:  # protobuf's message quotes nothing, but says nothing either
        yield "not an example of the format"
        return
    example.DiscardUnknownFields()
    if example.ByteSize() != len(data):
        yield f"{len(data) - example.ByteSize()} bytes that belong to no feature"
    if unknown := set(example.features.feature) - set(_expected):
        yield f"{len(unknown)} feature(s) that no record has"
    try:
        values = values_of(example)
    except Unsound as error:
        yield str(error)
        return
    yield from check_texts(values, search)
    yield from check_numbers(values)
    yield from check_pixels(values, info, search)
    if search.in_ids(values[name][0].decode("latin-1") for name in IDS):
        yield "an id that is a known number, or a hash of a known name without the salt"
    yield from (f"{found} in its bytes" for found in sorted(search.among_pixels(data)))


class Unsound(Exception):
    """A record is not what one can be; the message quotes nothing of it."""


def values_of(example: tf_example_pb2.Example) -> dict[str, list]:
    """{feature: its values} of a record, each of its own kind and number; unknown if LATER.

    Raises:
      Unsound: a feature is not there, or is another.
    """
    feature = example.features.feature
    older = {
        name: [records.UNKNOWN[name].encode()] for name in records.LATER if name not in feature
    }
    if missing := set(_expected) - set(feature) - set(older):
        raise Unsound(f"no feature {', '.join(sorted(missing))}")
    values = {}
    for name, spec in _expected.items():
        if name in older:  # to look it up would put it there
            continue
        kind = KINDS[np.dtype(spec.np_dtype).kind]
        if feature[name].WhichOneof("kind") not in (kind, None):
            raise Unsound(f"{name} is of another kind")
        values[name] = list(getattr(feature[name], kind).value)
        length = spec.shape[0] if spec.shape else 1
        if length not in (None, len(values[name])):
            raise Unsound(f"{name} has {len(values[name])} values, not {length}")
    return values | older


def check_texts(values: dict, search: Search) -> Iterator[str]:
    """Texts of a vocabulary, and ids that are hashes; names in what is neither."""
    wrong = {
        name: f"{name} is none of its {len(vocabulary)} words"
        for name, vocabulary in TEXTS.items()
        if values[name][0] not in [word.encode() for word in vocabulary]
    } | check_ids(values)
    for name, what in wrong.items():
        yield what
        yield from (f"{found} in {name}" for found in sorted(search.in_text(values[name][0])))


def check_ids(values: dict) -> dict[str, str]:
    """{id: what is wrong with it} of those that are none."""
    return {
        name: f"{name} is no hash of 16 hexadecimal digits"
        for name in IDS
        if not re.fullmatch(rb"[0-9a-f]{16}", values[name][0])
    }


def check_numbers(values: dict) -> Iterator[str]:
    """Ranges of all numbers, and lengths that depend on the number of frames."""
    for name, (low, high, optional) in RANGES.items():
        numbers = [n for n in values[name] if not (optional and math.isnan(n))]
        if not all(low <= n <= high for n in numbers):  # a NaN lies in no range
            yield f"{name} is outside {low:g} to {high:g}"
    count = len(values["frames"])
    if not 1 <= count <= records.MAX_FRAMES:
        yield f"{count} frames, not 1 to {records.MAX_FRAMES}"
    for name in ("times", "phase"):
        if len(values[name]) not in (0, count):
            yield f"{len(values[name])} {name} for {count} frames"
    if len(values["mask_frames"]) != len(values["masks"]):
        yield "masks and mask_frames differ in number"
    if values["segment"][0] >= values["segments"][0]:
        yield "segment is not below segments"
    for name in ("end_diastole", "end_systole", "mask_frames"):
        if len(values[name]) > count or any(n >= count for n in values[name]):
            yield f"{name} names frames that are not there"
    if len(values["r_waves"]) > 20 * records.MAX_FRAMES:
        yield "more r_waves than a heart has"
    if any(b < a for a, b in zip(values["times"], values["times"][1:], strict=False)):
        yield "times go back"


def check_sector(values: dict, info: DatasetInfo) -> list[str]:
    """Whether the sector has a bit for every pixel."""
    found, needed = len(values["sector"][0]), -(-info.size * info.size // 8)
    return [f"sector has {found} bytes, not {needed}"] if found != needed else []


def check_pixels(values: dict, info: DatasetInfo, search: Search) -> Iterator[str]:
    """Frames and masks: exactly an image each, and nothing outside the sector."""
    if wrong := check_sector(values, info):
        yield from wrong
        return
    packed = values["sector"][0]
    if np.unpackbits(np.frombuffer(packed, np.uint8))[info.size * info.size :].any():
        yield "sector has bits behind its last pixel"
    sector = records.unpack_sector(packed, info.size)
    told: set[str] = set()  # the same in a hundred frames is one finding
    for number, data in enumerate(values["frames"]):
        image, wrong = decode_image(data, info)
        if image is not None:
            wrong += check_image(image, sector, info.encoding)
            if info.encoding == "zstd":  # JPEG keeps no bytes
                wrong += [
                    f"{found} in its pixels" for found in search.among_pixels(image.tobytes())
                ]
        for what in wrong:
            if what not in told:
                told.add(what)
                yield f"frame {number}: {what}"
    for number, data in enumerate(values["masks"]):
        yield from (f"mask {number}: {what}" for what in check_mask(data, sector))


def coverage(data: bytes, size: int) -> float:
    """The share of the picture that a record says is sector."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    return float(records.unpack_sector(feature["sector"].bytes_list.value[0], size).mean())
