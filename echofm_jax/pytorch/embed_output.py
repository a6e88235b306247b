"""Features on disk: pieces while `echofm embed` works, then one Parquet or npz file.

    .OUTPUT-embed/KEY.rows   float32 features of a few files, one row after the other
                  KEY.json   what became of each of those files; written last: the piece is whole

KEY is a hash of all that the piece depends on, so that a piece of another model, of other options
or of files as they were is never taken for this one.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from data_pipelines.clean_files import Refused
from data_pipelines.journal import sync, write_whole
from echofm_jax.errors import InputError
from echofm_jax.pytorch.embed_recordings import Embedded

SUFFIXES = (".parquet", ".npz")
META = "echofm"  # under which either file tells what it holds, as JSON
ROW_GROUP = 64 << 20  # bytes of features in memory while the output is written


@contextlib.contextmanager
def staging(output: Path) -> Iterator[Path]:
    """The folder of an output's pieces, for this process alone; it goes when it is empty.

    Raises InputError when another process holds it.
    """
    folder = output.with_name(f".{output.name}-embed")
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise InputError(f"another embed is writing {output}: wait until it ends") from None
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):
            folder.rmdir()


def piece_key(*parts: object) -> str:
    """Hash of all that a piece depends on."""
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def write_piece(folder: Path, key: str, found: Iterable[Embedded | Refused]) -> None:
    """Keep what became of some files; one file's features are in memory at a time."""
    outcomes = []
    with (folder / f"{key}.rows").open("wb") as file:
        for one in found:
            if isinstance(one, Refused):
                outcomes.append(one._asdict())
                continue
            file.write(np.ascontiguousarray(one.features, "<f4"))
            told = one._asdict() | {"seconds": one.seconds.tolist()}
            del told["features"]
            outcomes.append(told)
        file.flush()
        os.fsync(file.fileno())
    write_whole(folder / f"{key}.json", [json.dumps(outcomes)])


def is_whole(folder: Path, key: str) -> bool:
    """Whether a piece is done."""
    return (folder / f"{key}.json").exists()


def read_piece(folder: Path, key: str) -> list[dict]:
    """What became of a piece's files."""
    return json.loads((folder / f"{key}.json").read_text())


def columns(names: Sequence[str], outcomes: Sequence[dict]) -> dict[str, np.ndarray]:
    """Everything but the features, a value a row; refused files have none."""
    held = [(name, o) for name, o in zip(names, outcomes, strict=True) if "seconds" in o]
    rows = [len(o["seconds"]) for _, o in held]
    kinds = {"fps": np.float64, "windows": np.int32, "whole": np.bool_}
    return {
        "name": np.repeat(np.array([name for name, _ in held], str), rows),
        "seconds": np.array([s for _, o in held for s in o["seconds"]], np.float64),
    } | {key: np.repeat(np.array([o[key] for _, o in held], kind), rows)
         for key, kind in kinds.items()}  # fmt: skip


def write(
    output: Path,
    folder: Path,
    keys: Sequence[str],
    table: Mapping[str, np.ndarray],
    meta: Mapping,
) -> None:
    """All rows in one file, which is there whole or not at all.

    Args:
      keys: of the pieces, in order.
      table: what else is known of each row.
      meta: what the file says of itself; `shape` is that of a row's features.
    """
    whole = folder / f"whole{output.suffix}"
    pieces = [folder / f"{key}.rows" for key in keys]
    (write_npz if output.suffix == ".npz" else write_parquet)(whole, pieces, table, meta)
    sync(whole)
    whole.replace(output)
    sync(output.parent)


def write_npz(
    path: Path, pieces: Sequence[Path], table: Mapping[str, np.ndarray], meta: Mapping
) -> None:
    """As np.savez does, but that features never are in memory."""
    with zipfile.ZipFile(path, "w") as archive:  # its members bear no time
        for name, values in {META: np.array(json.dumps(meta)), **table}.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
        with archive.open("features.npy", "w", force_zip64=True) as file:
            shape = (len(table["name"]), *meta["shape"])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in pieces:
                with piece.open("rb") as rows:
                    shutil.copyfileobj(rows, file)


def write_parquet(
    path: Path, pieces: Sequence[Path], table: Mapping[str, np.ndarray], meta: Mapping
) -> None:
    """`features` is a fixed-size list of a row's values, in C order."""
    import pyarrow
    from pyarrow import parquet

    width = math.prod(meta["shape"])
    rows = max(1, ROW_GROUP // (4 * width))
    fields = [(name, pyarrow.from_numpy_dtype(v.dtype)) for name, v in table.items()]
    schema = pyarrow.schema([*fields, ("features", pyarrow.list_(pyarrow.float32(), width))])
    schema = schema.with_metadata({META: json.dumps(meta)})
    with parquet.ParquetWriter(path, schema, use_dictionary=["name"]) as writer:
        for i, block in enumerate(blocks(pieces, rows * 4 * width)):
            flat = pyarrow.array(np.frombuffer(block, "<f4"))
            some = [pyarrow.array(v[i * rows : (i + 1) * rows]) for v in table.values()]
            some.append(pyarrow.FixedSizeListArray.from_arrays(flat, width))
            writer.write_table(pyarrow.Table.from_arrays(some, schema=schema))


def blocks(pieces: Sequence[Path], size: int) -> Iterator[bytes]:
    """The bytes of all pieces, so many at a time."""
    block = bytearray()
    for piece in pieces:
        with piece.open("rb") as file:
            while data := file.read(size - len(block)):
                block += data
                if len(block) == size:
                    yield bytes(block)
                    block.clear()
    if block:
        yield bytes(block)


def read_meta(output: Path) -> dict:
    """What a finished file says of itself.

    Raises InputError when it is none of `echofm embed`.
    """
    try:
        if output.suffix == ".npz":
            with np.load(output) as arrays:
                return json.loads(str(arrays[META]))
        from pyarrow import parquet

        return json.loads(parquet.read_schema(output).metadata[META.encode()])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise InputError(
            f"{output} exists already and is none of embed's: give another --output"
        ) from None
