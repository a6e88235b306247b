"""The records of a data set, shard by shard, and which shards are not what they should be."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from data_pipelines import shards, workers
from data_pipelines.shard_files import open_shard
from echofm_jax.errors import InputError

PIECE = 64  # records that a process reads before it answers
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
        lengths = {split["name"]: [int(n) for n in split["shardLengths"]] for split in splits}
        if not lengths.keys() <= set(shards.SPLITS):  # nor may names of shards be made of others
            raise ValueError
        return lengths
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = type(error).__name__
        raise InputError(f"{path} is missing or damaged ({reason}): ingest again") from None


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
            path = folder / shards.shard_name(split, number, len(told))
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
        reader = open_shard(path)
        count = reader.num_records() if reader.ok() else None
        reader.close()
    except Exception:  # each version raises its own, with the path in its message
        return None
    return count


def read_piece(piece: Piece) -> Iterator[tuple[int, bytes | None]]:
    """(number in the shard, serialized record or None if it is damaged), one after the other."""
    reader = open_shard(piece.path)
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
