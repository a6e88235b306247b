"""What lies in a data set's folder, to the last byte: shards that are nothing but their records,
and metadata of fixed words and numbers.

No finding repeats a file's name that is not one of ours: it may be a person's.
"""

import dataclasses
import filecmp
import json
import os
import re
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter

from data_pipelines import inspect_pieces, record_index, records, shards
from data_pipelines.inspect_pieces import Piece
from data_pipelines.privacy_known import Search
from data_pipelines.shard_files import open_shard

METADATA = ("dataset_info.json", "echofm.json", "features.json")
WORDS = "|".join((*records.ENCODINGS, "([0-9a-f]{32})?"))  # or a build's random number
DESCRIPTION = "De-identified echocardiogram clips"


def check_files(
    root: Path, folder: Path, lengths: dict[str, list[int]], search: Search
) -> Iterator[str]:
    """Nothing lies in a data set but its shards and metadata."""
    allowed = {folder / name for name in METADATA}
    for split, told in lengths.items():
        allowed.add(record_index.index_path(folder, split))  # looked at in `check_index`
        allowed |= {folder / shards.shard_name(split, n, len(told)) for n in range(len(told))}
    parents = {folder, folder.parent}
    for path in sorted(root.rglob("*")):
        # Its name may be a person's: what kind it is must do.
        place = next((p for p in path.parents if p in parents), root)
        where = place.relative_to(root).as_posix() if place != root else "the folder given"
        if path.is_symlink():
            yield f"{where}: a link"
        elif path.is_dir() and path not in parents:
            yield f"{where}: a folder that does not belong there"
        elif path.is_file() and path not in allowed:
            kind = "a hidden file" if path.name.startswith(".") else "a file"
            yield f"{where}: {kind} that does not belong there"
        else:
            continue
        if search.in_text(os.fsencode(path.name)):
            yield f"{where}: a known name as a file's or folder's"


def check_shard(piece: Piece, search: Search) -> tuple[list[str], bool]:
    """(what is found in a shard's bytes as they lie on disk, whether its records are all of it).

    `piece` is a whole shard. A shard holds its records in compressed chunks, an index, and padding
    that no reader ever looks at; written again, the same records make the same bytes.
    """
    reader = open_shard(piece.path)
    options = reader.writer_options_string()  # how the shard was written
    reader.close()
    found, before = set(), b""
    with piece.path.open("rb") as file:
        while part := file.read(16 << 20):
            found |= search.among_pixels(before + part)
            before = part[-512:]  # what stands across two parts
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "shard"
        writer = ArrayRecordWriter(str(again), options)
        for _, data in inspect_pieces.read_piece(piece):
            if data is not None:
                writer.write(data)
        writer.close()
        return sorted(found), filecmp.cmp(again, piece.path, shallow=False)


def check_index(
    folder: Path, split: str, count: int, rows: list[record_index.Row], search: Search
) -> Iterator[str]:
    """The index of a split of `count` shards, where there is one: what its records make of it."""
    path = record_index.index_path(folder, split)
    if not path.is_file():
        return
    files = [folder / shards.shard_name(split, number, count) for number in range(count)]
    sizes = {file.name: file.stat().st_size for file in files if file.is_file()}
    if (data := path.read_bytes()) != record_index.as_bytes(sizes, rows):
        yield f"{path.name}: not what its records make; remove it, it is made again when needed"
        yield from (f"{path.name}: {found}" for found in sorted(search.in_text(data)))


def check_metadata(folder: Path, search: Search) -> Iterator[str]:
    """Exactly the keys that are written, with values that are numbers or fixed words."""
    texts = {name: (folder / name).read_bytes() for name in METADATA if (folder / name).is_file()}
    for name in METADATA:
        if name not in texts:
            yield f"{name}: missing"
            continue
        try:
            values = json.loads(texts[name])
            wrong = {"dataset_info.json": tfds_info, "echofm.json": own_info,
                     "features.json": features}[name](values)  # fmt: skip
            wrong = list(wrong)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            wrong = ["not as this program writes it"]
        if wrong:  # else it is proven to hold our words alone, and a name may be one of them
            wrong += sorted(search.in_text(texts[name]))
        yield from (f"{name}: {what}" for what in wrong)


def tfds_info(values: dict) -> Iterator[str]:
    """What TFDS writes of a data set."""
    fixed = {"description": DESCRIPTION, "fileFormat": "array_record", "name": records.DATASET,
             "version": records.VERSION}  # fmt: skip
    yield from (f"{key} is not '{text}'" for key, text in fixed.items() if values[key] != text)
    if extra := set(values) - {*fixed, "splits"}:
        yield f"{len(extra)} key(s) that are not written"
    for split in values["splits"]:
        if extra := set(split) - {"filepathTemplate", "name", "numBytes", "shardLengths"}:
            yield f"{len(extra)} key(s) of a split that are not written"
        if split["name"] not in shards.SPLITS or split["filepathTemplate"] != shards.TEMPLATE:
            yield "a split of another name"
        if not all(n.isdecimal() for n in (split["numBytes"], *split["shardLengths"])):
            yield "a length that is no number"


def own_info(values: dict) -> Iterator[str]:
    """`shards.DatasetInfo`: numbers, words of ours, and a count for each split."""
    fields = {field.name: field for field in dataclasses.fields(shards.DatasetInfo)}
    if extra := set(values) - set(fields):
        yield f"{len(extra)} key(s) that are not written"
    for name, field in fields.items():
        if name not in values:
            if field.default is dataclasses.MISSING:
                yield f"no {name}"
        elif type(values[name]) is not (typing.get_origin(field.type) or field.type):
            yield f"{name} is of another kind"
        elif field.type is str and not re.fullmatch(WORDS, values[name]):
            yield f"{name} is no word of ours"
    counts = values["records"]
    if not all(split in shards.SPLITS and type(n) is int for split, n in counts.items()):
        yield "a split or a count that is none"


def features(values: dict) -> Iterator[str]:
    """The description of a record's features, as `records.FEATURES` has or had it."""
    with tempfile.TemporaryDirectory() as folder:
        records.FEATURES.save_config(folder)
        own = json.loads((Path(folder) / "features.json").read_text())
    older = json.loads(json.dumps(own))
    for name in records.LATER:
        del older["featuresDict"]["features"][name]
    if values not in (own, older):
        yield "not the features of this version"
