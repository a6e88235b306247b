"""Every record of a data set, read once on all cores: its facts, and what of it is damaged."""

import math
from pathlib import Path

import cv2
import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records, shards
from data_pipelines.inspect_hash import HASH_BYTES, look_hash
from data_pipelines.inspect_pieces import Damage, Piece, cut, over_pieces, read_piece
from data_pipelines.privacy_record import (
    TEXTS,
    Unsound,
    check_ids,
    check_numbers,
    check_sector,
    values_of,
)

LABELS = (
    "ejection_fraction", "phase", "end_diastole", "end_systole", "masks", "measurements",
    "aortic_stenosis", "aortic_regurgitation", "spacing", "heart_rate", "r_waves",
)  # fmt: skip
FACTS = np.dtype([
    ("split", "S8"), ("shard", np.int32), ("record", np.int32),
    ("clip_id", "S16"), ("patient_id", "S16"), ("segment", np.int32), ("segments", np.int32),
    ("view", "S16"), ("rhythm", "S20"), ("mode", "S16"), ("fps", np.float32),  # 0 = unknown
    ("frames", np.int32), ("seconds", np.float32),  # NaN = unknown
    ("brightness", np.float32),  # mean grey level inside the sector, in the middle frame
    ("coverage", np.float32),  # share of the picture that is sector
    ("look", f"V{HASH_BYTES}"), ("labels", bool, (len(LABELS),)),
])  # fmt: skip


def scan(folder: Path, processes: int) -> tuple[np.ndarray, list[Damage]]:
    """Facts of every readable record, [n] of FACTS in stored order, and all damage."""
    pieces, damages = cut(folder)
    facts = []
    for piece, answer in over_pieces(scan_piece, pieces, processes, "inspect"):
        if answer is None:
            what = f"reading one of records {piece.first} to {piece.stop - 1} kills the process"
            damages.append(Damage(piece.path.name, None, what))
            continue
        facts.append(answer[0])
        damages += answer[1]
    return np.concatenate([np.zeros(0, FACTS), *facts]), damages


def scan_piece(piece: Piece) -> tuple[np.ndarray, list[Damage]]:
    """Facts and damage of some records; decodes every frame of each."""
    info = shards.dataset_info(piece.path.parents[2])
    facts, damages = [], []
    for number, data in read_piece(piece):
        try:
            if data is None:
                raise Unsound("its checksum does not match")
            facts.append((piece.split.encode(), piece.shard, number, *describe(data, info)))
        except Unsound as error:
            damages.append(Damage(piece.path.name, number, f"damaged ({error})"))
    return np.array(facts, FACTS), damages


def describe(data: bytes, info: shards.DatasetInfo) -> tuple:
    """A serialized record → its FACTS from `clip_id` on. Raises Unsound if it is damaged."""
    try:
        example = tf_example_pb2.Example.FromString(data)
    except Exception:  # protobuf has its own
        raise Unsound("not an example of the format") from None
    values = values_of(example)
    wrong = [*check_ids(values).values(), *check_numbers(values), *check_sector(values, info)]
    if wrong:
        raise Unsound(wrong[0])
    # Only words of ours are counted and shown; what else stands there the audit tells.
    for name, words in TEXTS.items():
        if values[name][0].decode(errors="replace") not in words:
            values[name] = [b"not a " + name.encode()]
    middle = middle_of(values, info)
    grey = middle if middle.ndim == 2 else cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    sector = records.unpack_sector(values["sector"][0], info.size)
    (fps,), times, count = values["fps"], values["times"], len(values["frames"])
    seconds = times[-1] * count / (count - 1) if fps and len(times) > 1 else math.nan
    return (
        *(values[name][0] for name in ("clip_id", "patient_id", "segment", "segments")),
        *(values[name][0] for name in ("view", "rhythm", "mode")), fps,
        count, seconds, grey[sector].mean() if sector.any() else math.nan,
        sector.mean(), look_hash(grey, sector),
        tuple(_known(example.features.feature[n]) for n in LABELS),
    )  # fmt: skip


def middle_of(values: dict, info: shards.DatasetInfo) -> np.ndarray:
    """The middle frame of a record whose frames and masks can all be decoded; else Unsound."""
    frames, middle = values["frames"], None
    for number, data in enumerate(frames):
        try:
            frame = decode(data, info)
        except Exception:  # each codec has its own
            raise Unsound(f"frame {number} cannot be decoded") from None
        if number == len(frames) // 2:
            middle = frame
    for number, data in enumerate(values["masks"]):
        try:
            records.decode_mask(data, info.size)
        except Exception:
            raise Unsound(f"mask {number} cannot be decoded") from None
    return middle


def decode(data: bytes, info: shards.DatasetInfo) -> np.ndarray:
    """One stored frame → [size, size] or [size, size, 3] uint8."""
    out = np.empty((info.size, info.size, 3) if info.colour else (info.size, info.size), np.uint8)
    records.decode_frame(data, info.encoding, out)
    return out


def _known(feature: tf_example_pb2.Example) -> bool:
    """Whether a label holds something: neither empty, nor NaN, nor -1 (`records.UNKNOWN`)."""
    if feature.HasField("int64_list"):
        values = feature.int64_list.value
        return bool(values) and values[0] != -1
    if feature.HasField("float_list"):
        return any(not math.isnan(value) for value in feature.float_list.value)
    return bool(feature.bytes_list.value)
