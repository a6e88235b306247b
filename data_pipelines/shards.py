"""Shards on disk: ArrayRecord files that TFDS reads, without TensorFlow.

    DATA/echo_clips/1.0.0/  echo_clips-train.array_record-00000-of-00002 ...
                            features.json, dataset_info.json   TFDS's own
                            echofm.json                        size, encoding, counts

`tfds.builder("echo_clips", data_dir=DATA)` opens it, as does `open_split`. A data set is built in
a sibling folder, read back and counted, and only then given its name.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from data_pipelines import records
from data_pipelines.shard_files import (
    WRITER_OPTIONS,
    Identity,
    count_all,
    disk_errors,
    identities,
    identity,
    serialize,
    shard_name,
)
from data_pipelines.shard_files import read_shard as read_shard
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

SPLITS = ("train", "val", "test")
MAX_SIZE = 0xFFFF  # pixels along a side: no JPEG has more
SHARD_BYTES = 256 << 20  # a new shard begins after this much
TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What a loader must know before it reads."""

    size: int  # pixels along a side
    encoding: str  # of one frame: one of records.ENCODINGS
    colour: bool  # frames are [H, W, 3] instead of [H, W]
    simulated: bool  # by `echofm phantom`; whatever shows it says so
    records: dict[str, int]  # per split; empty splits are absent
    build: str = ""  # of the journal that can add files to it


class Contents:
    """What a split holds, shard by shard."""

    def __init__(self, folder: Path, split: str):
        self.folder, self.split = folder, split
        self.lengths: list[int] = []  # records of each shard
        self.identities: list[Identity] = []  # of all records, in order
        self.bytes = 0

    def finish(self) -> tfds.core.SplitInfo:
        """Describe the split for TFDS."""
        return tfds.core.SplitInfo(
            name=self.split,
            shard_lengths=self.lengths,
            num_bytes=self.bytes,
            filename_template=template(self.folder),
        )


class SplitWriter(Contents):
    """Writes one split, a shard after the other, and remembers what it wrote."""

    def __init__(self, folder: Path, split: str):
        super().__init__(folder, split)
        self._room = 0
        self._writer = None

    def write(self, data: bytes) -> None:
        """Append one serialized record."""
        if self._room <= 0:
            self._next_shard()
        with disk_errors():
            self._writer.write(data)
        self._room -= len(data)
        self.bytes += len(data)
        self.lengths[-1] += 1
        self.identities.append(identity(data))

    def _next_shard(self) -> None:
        self.close()
        path = self.folder / f"part-{self.split}-{len(self.lengths)}"
        with disk_errors():
            self._writer = ArrayRecordWriter(str(path), WRITER_OPTIONS)
        self.lengths.append(0)
        self._room = SHARD_BYTES

    def close(self) -> None:
        """End the shard that is being written."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with disk_errors():
                writer.close()

    def finish(self) -> tfds.core.SplitInfo:
        """Close, give the shards their names, and describe the split for TFDS."""
        self.close()
        total = len(self.lengths)
        for i in range(total):
            name = shard_name(self.split, i, total)
            (self.folder / f"part-{self.split}-{i}").rename(self.folder / name)
        return super().finish()


def target_folder(data_dir: Path | str) -> Path:
    """Where the shards of a data set lie, or will."""
    return local_path(data_dir) / records.DATASET / records.VERSION


@contextlib.contextmanager
def new_dataset(data_dir: Path | str) -> Iterator[Path]:
    """A folder to write splits into; it becomes the data set when the block ends well.

    Raises:
      InputError: there is a data set already, or no way to write one.
    """
    target = target_folder(data_dir)
    if target.exists():
        raise InputError(f"{data_dir} holds a data set already: give another folder")
    building = target.with_name(f".{records.VERSION}.building-{os.getpid()}")
    try:
        building.mkdir(parents=True)
        yield building
        building.rename(target)
    except OSError as error:
        raise cannot_write(data_dir, error) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
        for parent in (target.parent, target.parent.parent):
            with contextlib.suppress(OSError):  # holds something, or was never made
                parent.rmdir()


def cannot_write(data_dir: Path | str, error: OSError) -> InputError:
    """What the user is told of a full disk and the like."""
    return InputError(
        f"cannot write {data_dir}: {error.strerror or error}; free some space and start "
        "again, or choose another --data_dir"
    )


def describe(folder: Path, contents: Mapping[str, Contents], **settings) -> dict[str, int]:
    """Finish the splits and write the metadata; returns records per split.

    Raises:
      RuntimeError: a patient is in two splits.
    """
    check_patients(contents)
    contents = {split: held for split, held in contents.items() if held.lengths}
    infos = [held.finish() for held in contents.values()]
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=records.FEATURES,
        split_infos=infos,
        filename_template=template(folder),
        description="De-identified echocardiogram clips",
        check_data=False,
    )
    counts = {split: len(held.identities) for split, held in contents.items()}
    described = settings | {"records": counts}
    (folder / "echofm.json").write_text(json.dumps(described, indent=2) + "\n")
    return counts


def check_patients(contents: Mapping[str, Contents]) -> None:
    """Raise RuntimeError if a patient is in two splits."""
    splits: dict[str, str] = {}
    for split, held in contents.items():
        for patient in {record.patient_id for record in held.identities}:
            if splits.setdefault(patient, split) != split:
                raise RuntimeError(
                    f"patient {patient} is in two splits, {splits[patient]} and {split}"
                )


def verify(folder: Path, contents: Mapping[str, Contents]) -> None:
    """Read every shard; raise RuntimeError if it does not hold what `contents` says."""
    for split, held in contents.items():
        first = 0
        for number, length in enumerate(held.lengths):
            name = shard_name(split, number, len(held.lengths))
            expected = held.identities[first : first + length]
            first += length
            if identities(folder / name) != expected:
                raise RuntimeError(f"{name}: the shards do not hold what was written")


def template(folder: Path) -> tfds.core.ShardedFileTemplate:
    """How TFDS finds the shards of a split."""
    return tfds.core.ShardedFileTemplate(
        data_dir=str(folder),
        template=TEMPLATE,
        dataset_name=records.DATASET,
        filetype_suffix="array_record",
    )


def write_dataset(
    data_dir: Path | str,
    splits: Mapping[str, Iterable[Mapping]],
    *,
    size: int,
    encoding: str,
    colour: bool = False,
    simulated: bool = False,
) -> dict[str, int]:
    """Write a whole data set of examples (dicts of `records.FEATURES`) by split."""
    with new_dataset(data_dir) as folder:
        writers = {split: SplitWriter(folder, split) for split in splits}
        for split, examples in splits.items():
            for example in examples:
                writers[split].write(serialize(example))
        counts = describe(
            folder, writers, size=size, encoding=encoding, colour=colour, simulated=simulated
        )
        verify(folder, writers)
        return counts


def dataset_folder(data_dir: Path | str) -> Path:
    """Where a data set's shards lie; raises InputError if there is none."""
    folder = target_folder(data_dir)
    if not (folder / "echofm.json").is_file():
        raise InputError(
            f"no data set in {data_dir}: make one with `echofm ingest --source FILES "
            f"--data_dir {data_dir}`"
        )
    return folder


def dataset_info(data_dir: Path | str) -> DatasetInfo:
    """Size, encoding and counts; raises InputError if there is no data set."""
    path = dataset_folder(data_dir) / "echofm.json"
    try:
        info = DatasetInfo(**json.loads(path.read_text()))
        check_info(info)
        return info
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}): ingest again") from None


def check_info(info: DatasetInfo) -> None:
    """Raise ValueError naming a field that holds what it cannot."""
    counts = info.records
    sound = {
        "size": type(info.size) is int and 0 < info.size <= MAX_SIZE,
        "encoding": info.encoding in records.ENCODINGS,
        "colour": type(info.colour) is bool,
        "simulated": type(info.simulated) is bool,
        "records": isinstance(counts, dict)
        and all(split in SPLITS and type(n) is int and n > 0 for split, n in counts.items()),
        "build": type(info.build) is str,
    }
    if wrong := [name for name, good in sound.items() if not good]:
        raise ValueError(f"no data set has this {wrong[0]}")


def split_files(data_dir: Path | str, split: str) -> list[tuple[Path, int]]:
    """The shards of a split in order, and how many records each holds.

    Raises:
      InputError: no data set, no such split, or a shard that is missing or cut short.
    """
    folder, counts = dataset_folder(data_dir), dataset_info(data_dir).records
    if split not in counts:
        raise InputError(
            f"no split '{split}' in {data_dir}: it has {', '.join(counts)}; ingest more patients "
            "or choose one of these"
        )
    described = tfds.builder_from_directory(folder).info.splits[split]
    files = [Path(path) for path in described.filepaths]
    found = count_all(files)
    for path, count, expected in zip(files, found, described.shard_lengths, strict=True):
        if count != expected:
            what = "is missing" if count is None else f"holds {count} of its {expected} records"
            raise InputError(f"{folder}: shard {path.name} {what}: ingest again")
    return list(zip(files, found, strict=True))


def open_split(data_dir: Path | str, split: str):
    """A split as TFDS's random-access data source: `[i]` gives the decoded features.

    Raises:
      InputError: as `split_files`.
    """
    split_files(data_dir, split)
    return tfds.builder_from_directory(dataset_folder(data_dir)).as_data_source(split)
