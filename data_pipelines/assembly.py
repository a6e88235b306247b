"""Staged files → the shards of a data set, in an order that was decided beforehand.

Shards are made one after the other in a hidden folder beside the data set, each whole or not at
all; then the folder takes the data set's place in one step. Which records make up which shard
follows from the journal alone, so it does not matter how often this was begun. What was staged
goes once a shard holds it: the disk never holds everything twice. So a shard is read once before
anything relies on it, and one that is damaged cannot be made again.
"""

import ctypes
import itertools
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipelines import records, shards, staging
from data_pipelines.journal import Entry, Journal, sync
from echofm_jax.errors import InputError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux


class Piece(NamedTuple):
    """One record of a shard."""

    entry: Entry
    segment: int


Plan = dict[str, list[list[Piece]]]  # split → its shards → their records


def plan(lists: Sequence[Sequence[Entry]], shard_bytes: int) -> Plan:
    """Which records make up which shard. Each list begins new ones: old shards never change."""
    found: Plan = {split: [] for split in shards.SPLITS}
    for entries in lists:
        room = dict.fromkeys(shards.SPLITS, 0)
        for entry in entries:
            split = entry.outcome.split
            for segment, size in enumerate(entry.outcome.sizes):
                if room[split] <= 0:
                    found[split].append([])
                    room[split] = shard_bytes
                found[split][-1].append(Piece(entry, segment))
                room[split] -= size
    return found


def assemble(journal: Journal, data_dir: Path, **settings) -> dict[str, int]:
    """Make the data set what the journal says; returns records per split.

    Args:
      settings: of `shards.DatasetInfo`.

    Raises:
      InputError: shards of an earlier run are gone or damaged, or there is no way to write.
    """
    decided = plan(journal.lists, journal.settings["shard_bytes"])
    target, build = shards.target_folder(data_dir), journal.settings["build"]
    ours = target if build_of(target) == build else None
    building = target.with_name(f".{records.VERSION}.building-{build[:8]}")
    try:
        if ours is None or not is_complete(ours, decided):
            prepare(building, build)
            make_shards(journal, decided, building, ours)
            contents = {s: contents_of(building, s, parts) for s, parts in decided.items()}
            shards.describe(building, contents, build=build, **settings)
            for path in building.iterdir():
                sync(path)
            replace(target, building)
        clear(building)  # what stood in the data set's place
        shutil.rmtree(journal.staged, ignore_errors=True)
    except OSError as error:
        raise shards.cannot_write(data_dir, error) from error
    return shards.dataset_info(data_dir).records


def build_of(folder: Path) -> str | None:
    """The build that a data set's folder came from; None: it is no whole data set."""
    try:
        return json.loads((folder / "echofm.json").read_text()).get("build", "")
    except (OSError, ValueError):
        return None


def prepare(building: Path, build: str) -> None:
    """Keep what this build has made in `building`; nothing else is left beside the data set."""
    clear(building, keep=build_of(building) in (None, build))
    building.mkdir(parents=True, exist_ok=True)


def clear(building: Path, *, keep: bool = False) -> None:
    """Remove all unfinished folders beside the data set, `building` unless it is to be kept."""
    for folder in building.parent.glob(f".{records.VERSION}.building-*"):
        if folder != building or not keep:
            discard(folder)


def discard(folder: Path) -> None:
    """Remove a folder. If that is cut short, nobody takes the rest of it for something else."""
    gone = folder.with_name(f".{records.VERSION}.building-gone")
    if folder != gone:
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
    shutil.rmtree(gone)


def names(decided: Plan) -> set[str]:
    """The shards' files of a plan."""
    return {
        shards.shard_name(split, number, len(parts))
        for split, parts in decided.items()
        for number in range(len(parts))
    }


def is_complete(target: Path, decided: Plan) -> bool:
    """Whether a data set has been given all its shards; their number is in their names.

    Raises:
      InputError: by its footer, one holds fewer records than were written, or more.
    """
    if {p.name for p in target.glob("*.array_record-*")} != names(decided):
        return False
    lengths = {
        target / shards.shard_name(split, number, len(parts)): len(pieces)
        for split, parts in decided.items()
        for number, pieces in enumerate(parts)
    }
    for path, count in zip(lengths, shards.count_all(list(lengths)), strict=True):
        if count != lengths[path]:
            raise damaged(path)
    return True


def damaged(path: Path) -> InputError:
    """What the user is told of a shard that no longer holds what was written."""
    return InputError(
        f"{path.parent}: shard {path.name} is damaged, and what it was made of is no longer "
        "staged: start afresh with --overwrite"
    )


def make_shards(journal: Journal, decided: Plan, building: Path, ours: Path | None) -> None:
    """Have all shards in `building`: kept, linked from the data set so far, or written."""
    from tqdm import tqdm

    work = [(split, i, parts[i]) for split, parts in decided.items() for i in range(len(parts))]
    for split, number, pieces in tqdm(work, "shards", unit="shard", file=sys.stderr):
        path = building / shards.shard_name(split, number, len(decided[split]))
        # The numbers count all shards and grow; which of them it is does not change.
        kept = find_shard(building, split, number)
        held = kept or (ours and find_shard(ours, split, number))
        if held and not holds(held, pieces):
            raise damaged(held)
        if kept:
            kept.rename(path)
        elif held:
            link(held, path)
        else:
            write_shard(path, pieces, journal.staged, decided[split][number + 1 :][:1])
    wanted = names(decided)
    for path in building.iterdir():
        if path.name not in wanted:
            path.unlink()


def find_shard(folder: Path, split: str, number: int) -> Path | None:
    """A shard, whatever the number of shards was."""
    pattern = shards.shard_name(split, number, 0).removesuffix("00000") + "*"
    return next(folder.glob(pattern), None)


def holds(path: Path, pieces: Sequence[Piece]) -> bool:
    """Whether a shard can be read to its end, and these are its records."""
    return shards.identities(path) == [identity(piece) for piece in pieces]


def link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        new.hardlink_to(old)
    except OSError:
        temporary = new.with_name(f".{new.name}")
        shutil.copyfile(old, temporary)
        sync(temporary)
        temporary.replace(new)


def write_shard(
    path: Path, pieces: Sequence[Piece], staged: Path, following: Sequence[Sequence[Piece]]
) -> None:
    """Write one shard and let go of what was staged for it, unless the `following` one needs it."""
    temporary = path.with_name(f".{path.name}")
    try:
        with shards.disk_errors():
            write_records(temporary, pieces, staged)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(temporary)
    if not holds(temporary, pieces):
        raise RuntimeError(f"{path.name}: the shard does not hold what was written")
    temporary.replace(path)
    sync(path.parent)
    done = {piece.entry.key for piece in pieces}
    for key in done - {piece.entry.key for part in following for piece in part[:1]}:
        staging.staged_path(staged, key).unlink(missing_ok=True)


def write_records(path: Path, pieces: Sequence[Piece], staged: Path) -> None:
    """Write staged records into one ArrayRecord file; a clip's at a time are in memory."""
    writer = shards.ArrayRecordWriter(str(path), shards.WRITER_OPTIONS)
    for key, group in itertools.groupby(pieces, key=lambda piece: piece.entry.key):
        try:
            held = staging.get_records(staged, key)
        except FileNotFoundError:
            raise InputError(
                f"{path.parent.parent}: shards that earlier runs made are gone, and the journal "
                "counts on them: start afresh with --overwrite"
            ) from None
        for piece in group:
            writer.write(held[piece.segment])
    writer.close()


def contents_of(folder: Path, split: str, parts: Sequence[Sequence[Piece]]) -> shards.Contents:
    """What a split must hold."""
    contents = shards.Contents(folder, split)
    for pieces in parts:
        contents.lengths.append(len(pieces))
        contents.identities += map(identity, pieces)
        contents.bytes += sum(entry.outcome.sizes[segment] for entry, segment in pieces)
    return contents


def identity(piece: Piece) -> shards.Identity:
    """What the record must say of itself."""
    outcome = piece.entry.outcome
    return shards.Identity(outcome.patient_id, outcome.clip_id, piece.segment)


def replace(target: Path, building: Path) -> None:
    """`building` becomes `target`; where the file system can, nobody ever finds neither."""
    if target.exists():
        libc = ctypes.CDLL(None, use_errno=True)
        two = os.fsencode(building), os.fsencode(target)
        if libc.renameat2(AT_FDCWD, two[0], AT_FDCWD, two[1], RENAME_EXCHANGE) == 0:
            return
        discard(target)
    building.rename(target)
