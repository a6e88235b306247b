"""Every record of a data set, read once on all cores: its facts, and what of it is damaged."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from data_pipelines import records, shards, workers
from data_pipelines.inspect_hash import HASH_BYTES, look_hash
from echofm_jax.errors import InputError

PIECE = 64  # records that a process reads before it answers
LABELS = (
    "ejection_fraction", "phase", "end_diastole", "end_systole", "masks", "measurements",
    "aortic_stenosis", "aortic_regurgitation", "spacing", "heart_rate", "r_waves",
)  # fmt: skip
FACTS = np.dtype([
    ("split", "S8"), ("shard", np.int32), ("record", np.int32),
    ("clip_id", "S16"), ("patient_id", "S16"), ("segment", np.int32), ("segments", np.int32),
    ("view", "S16"), ("mode", "S16"), ("fps", np.float32),  # 0 = unknown
    ("frames", np.int32), ("seconds", np.float32),  # NaN = unknown
    ("brightness", np.float32),  # mean grey level inside the sector, in the middle frame
    ("coverage", np.float32),  # share of the picture that is sector
    ("look", f"V{HASH_BYTES}"), ("labels", bool, (len(LABELS),)),
])  # fmt: skip
Answer = TypeVar("Answer")


class Damage(NamedTuple):
    """What is wrong where. `record` counts within its shard; None: the whole of it."""

    shard: str
    record: int | None
    what: str

    def __str__(self) -> str:
        place = self.shard if self.record is None else f"{self.shard}, record {self.record}"
        return f"{place}: {self.what}"


class Piece(NamedTuple):
    """Consecutive records of one shard."""

    path: Path
    split: str
    shard: int  # its number in the split
    first: int
    stop: int
    last: bool = False  # whether the shard ends with it


def shard_lengths(folder: Path) -> dict[str, list[int]]:
    """Records of each shard of each split, as the metadata have them.

    Raises:
      InputError: `dataset_info.json` is missing or damaged.
    """
    path = folder / "dataset_info.json"
    try:
        splits = json.loads(path.read_text())["splits"]
        return {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = type(error).__name__
        raise InputError(f"{path} is missing or damaged ({reason}): ingest again") from None


def shard_name(split: str, number: int, total: int) -> str:
    """The file name of a shard."""
    return f"{records.DATASET}-{split}.array_record-{number:05d}-of-{total:05d}"


def cut(folder: Path) -> tuple[list[Piece], list[Damage]]:
    """What there is to read, and which shards are missing, cut short or of another length."""
    pieces, damages = [], []
    lengths = shard_lengths(folder)
    for split, told in shards.dataset_info(folder.parents[1]).records.items():
        if sum(lengths.get(split, [])) != told:
            what = f"echofm.json counts {told} records, dataset_info.json "
            damages.append(Damage(f"split {split}", None, f"{what}{sum(lengths.get(split, []))}"))
    for split, told in lengths.items():
        for number, expected in enumerate(told):
            path = folder / shard_name(split, number, len(told))
            if not path.is_file():
                damages.append(Damage(path.name, None, "missing"))
                continue
            count = _count(path)
            if count is None:
                damages.append(Damage(path.name, None, "cannot be opened: truncated or damaged"))
                continue
            if count != expected:
                what = f"holds {count} records, the metadata say {expected}"
                damages.append(Damage(path.name, None, what))
            pieces += [
                Piece(path, split, number, first, min(first + PIECE, count), first + PIECE >= count)
                for first in range(0, count, PIECE)
            ]
    return pieces, damages


def _count(path: Path) -> int | None:
    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records() if reader.ok() else None
        reader.close()
    except Exception:  # each version raises its own, with the path in its message
        return None
    return count


def read_piece(piece: Piece) -> Iterator[tuple[int, bytes | None]]:
    """(number in the shard, serialized record or None if it is damaged), one after the other."""
    reader = ArrayRecordReader(str(piece.path))
    for number in range(piece.first, piece.stop):
        try:
            yield number, reader.read([number])[0]
        except Exception:  # a checksum that differs; the message names the path
            yield number, None


def over_pieces(
    function: Callable[[Piece], Answer], pieces: Sequence[Piece], processes: int, name: str
) -> Iterator[tuple[Piece, Answer | None]]:
    """`function` of every piece on all cores, in order; None where it killed its process."""
    with tqdm(
        desc=name, total=sum(p.stop - p.first for p in pieces), unit="record", file=sys.stderr
    ) as bar:
        answers = workers.map_in_order(function, pieces, max(1, min(processes, len(pieces))))
        for piece, answer in zip(pieces, answers, strict=True):
            bar.update(piece.stop - piece.first)
            yield piece, answer


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
    """Facts and damage of some records; decodes one frame of each."""
    info = shards.dataset_info(piece.path.parents[2])
    facts, damages = [], []
    for number, data in read_piece(piece):
        try:
            if data is None:
                raise ValueError("its checksum does not match")
            facts.append((piece.split.encode(), piece.shard, number, *describe(data, info)))
        except Exception as error:  # protobuf and the codecs each raise their own
            what = str(error) if type(error) is ValueError and data is None else "not decodable"
            damages.append(Damage(piece.path.name, number, f"damaged ({what})"))
    return np.array(facts, FACTS), damages


def describe(data: bytes, info: shards.DatasetInfo) -> tuple:
    """A serialized record → its FACTS from `clip_id` on. Raises whatever its damage raises."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    text = {key: feature[key].bytes_list.value[0]
            for key in ("clip_id", "patient_id", "view", "mode", "sector")}  # fmt: skip
    # Only words of ours are counted and shown; what else stands there the audit tells.
    for name, words in (("view", records.VIEWS), ("mode", records.MODES)):
        if text[name].decode(errors="replace") not in words:
            text[name] = b"not a " + name.encode()
    frames = feature["frames"].bytes_list.value
    times = feature["times"].float_list.value
    middle = decode(frames[len(frames) // 2], info)
    grey = middle if middle.ndim == 2 else cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY)
    sector = records.unpack_sector(text["sector"], info.size)
    fps = feature["fps"].float_list.value[0]
    return (
        text["clip_id"], text["patient_id"],
        feature["segment"].int64_list.value[0], feature["segments"].int64_list.value[0],
        text["view"], text["mode"], fps,
        len(frames), times[-1] + 1 / fps if fps and len(times) else math.nan,
        grey[sector].mean() if sector.any() else math.nan, sector.mean(),
        look_hash(grey, sector), tuple(_known(feature[name]) for name in LABELS),
    )  # fmt: skip


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
