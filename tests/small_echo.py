"""Small data sets of fans for the tests of inspection and audit, and ways to spoil them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records, sector, segments, shards
from data_pipelines.labels import Label

SIZE = 64
FAN = sector.fan_mask(np.array([32, 2, -0.7, 0.7, 4, 58]), SIZE, SIZE)


def speckle(number: int, count: int = 10, colour: bool = False) -> np.ndarray:
    """[T, H, W(, 3)] uint8: something smooth that moves, inside a fan."""
    rng = np.random.default_rng(number)
    shape = (SIZE, SIZE, 3) if colour else (SIZE, SIZE)
    still = cv2.GaussianBlur(rng.normal(size=shape), None, 4) * 400 + 90
    frames = np.clip(still + rng.normal(size=(count, *shape)) * 4, 0, 255).astype(np.uint8)
    frames[:, ~FAN] = 0
    return frames


def example(number: int, encoding: str = "jpeg", frames: np.ndarray | None = None, **fields):
    """A record of one clip; `fields` replace what it holds."""
    frames = speckle(number) if frames is None else frames
    times = fields.pop("seconds", np.arange(len(frames)) / 40)
    masks = {0: FAN.astype(np.uint8)}
    known = {"fps_source": "CineRate", "mode": "b_mode", "clip_id": f"{number:016x}",
             "patient_id": f"{number // 2 + 256:016x}"}  # fmt: skip
    label = Label(
        view=("A4C", "PLAX")[number % 2],
        rhythm=("sinus", "atrial_fibrillation", "")[number % 3],
        ejection_fraction=50.0,
    )
    (made,) = segments.make_records(
        frames, FAN, times, label, encoding=encoding, masks=masks, **known
    )
    return made | fields


def write(folder: Path, splits: dict, encoding: str = "jpeg", **settings) -> Path:
    """A data set of examples (numbers or whole) by split."""
    made = {
        split: [example(e, encoding) if isinstance(e, int) else e for e in examples]
        for split, examples in splits.items()
    }
    settings = {"size": SIZE, "encoding": encoding, "simulated": True} | settings
    shards.write_dataset(folder, made, **settings)
    return folder


def copy(data: Path, to: Path) -> Path:
    return Path(shutil.copytree(data, to))


def shard(data: Path, split: str = "train", number: int = 0) -> Path:
    (path,) = data.rglob(f"*-{split}.array_record-{number:05d}-*")
    return path


def flip(path: Path, record: int) -> None:
    """Change a byte in the middle of a stored record; all records are about equally long."""
    length = len(next(iter(shards.read_shard(path))))
    content = bytearray(path.read_bytes())
    content[64 + int((record + 0.5) * length)] ^= 0xFF  # they follow one another
    path.write_bytes(content)


def rewrite_all(path: Path, change) -> None:
    """Put `change(serialized records)` in the place of a shard's; the metadata stay."""
    stored = change(list(shards.read_shard(path)))
    path.unlink()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for one in stored:
        writer.write(one)
    writer.close()


def rewrite(data: Path, record: int, change, split: str = "train") -> None:
    """Put `change(serialized)` in the place of one record."""

    def changed(stored: list[bytes]) -> list[bytes]:
        stored[record] = change(stored[record])
        return stored

    rewrite_all(shard(data, split), changed)


def edited(edit):
    """`edit(features)` of a parsed record, as a change of its bytes."""

    def change(data: bytes) -> bytes:
        parsed = tf_example_pb2.Example.FromString(data)
        edit(parsed.features.feature)
        return parsed.SerializeToString(deterministic=True)

    return change


def set_json(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def older(data: Path, to: Path) -> Path:
    """The data set as it was written before records held what is in `records.LATER`."""
    copy(data, to)

    def forget(feature):
        for name in records.LATER:
            del feature[name]

    for path in to.rglob("*.array_record-*"):
        rewrite_all(path, lambda stored: [edited(forget)(one) for one in stored])
    (path,) = to.rglob("features.json")
    described = json.loads(path.read_text())
    for name in records.LATER:
        del described["featuresDict"]["features"][name]
    path.write_text(json.dumps(described))
    return to
