"""`echofm inspect --privacy`: whether a data set holds nothing but what it may.

Files, metadata, every byte of every record, every pixel outside its sector, and patients over
splits. A finding says where and of what kind; it never repeats what it found.
"""

import contextlib
import functools
from pathlib import Path
from typing import NamedTuple

from data_pipelines import inspect_pieces, record_index, shards
from data_pipelines.deidentify import read_salt
from data_pipelines.inspect_pieces import Damage, Piece
from data_pipelines.privacy_files import check_files, check_index, check_metadata, check_shard
from data_pipelines.privacy_known import Search, read_known
from data_pipelines.privacy_record import check_record, coverage
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

UNCUT = 0.9  # a fan covers less of its square; text may stand in what covers more
SHOWN = 5  # records that a warning names
UNREADABLE = "no record is audited: the metadata must be put right first"
UNEXPLAINED = (
    "its bytes are not just what its records make; it is damaged, holds more, or was written by "
    "another version of array_record"
)


class Audited(NamedTuple):
    """Of some records: what is wrong, which patients they are of, which nobody has cut."""

    findings: list[Damage]
    patients: set[str]
    uncut: list[Damage]
    unexplained: list[Damage]  # the shard, if it ends with these records and is not just records
    rows: list[record_index.Row]  # what an index says of them


def audit(data_dir: str, known: Path | None, salt_file: Path | None, processes: int) -> dict:
    """{"records", "findings", "warnings"}: a line for each finding, none quoting what it found.

    Args:
      data_dir: a data set's folder, searched whole.
      known: a file of names, dates and numbers, one a line, that must not be found.
      salt_file: the secret of the ids, which must not be found either.
      processes: to read with.

    Raises:
      InputError: no data set, or a file that cannot be read.
    """
    folder = shards.dataset_folder(data_dir)
    if salt_file and not salt_file.is_file():
        raise InputError(f"--salt_file {salt_file}: no such file")
    search = Search(read_known(known), read_salt(salt_file) if salt_file else b"")
    findings = list(check_metadata(folder, search))
    try:
        lengths = inspect_pieces.shard_lengths(folder)
        pieces, damages = inspect_pieces.cut(folder)
    except InputError:  # the metadata are such that nothing can be read by them
        return {"records": 0, "findings": [*findings, UNREADABLE], "warnings": []}
    findings += [*check_files(local_path(data_dir), folder, lengths, search), *map(str, damages)]
    homes: dict[str, set[str]] = {}
    rows: dict[str, list[record_index.Row]] = {split: [] for split in lengths}
    uncut, unexplained, count = [], [], 0
    task = functools.partial(audit_piece, search=search)
    for piece, found in inspect_pieces.over_pieces(task, pieces, processes, "audit"):
        if found is None:
            what = f"reading records {piece.first} to {piece.stop - 1} kills the process"
            findings.append(str(Damage(piece.path.name, None, what)))
            continue
        count += piece.stop - piece.first
        findings += map(str, found.findings)
        uncut += found.uncut
        unexplained += found.unexplained
        rows[piece.split] += found.rows
        for patient in found.patients:
            homes.setdefault(patient, set()).add(piece.split)
    for split, held in rows.items():
        findings += check_index(folder, split, len(lengths[split]), held, search)
    for patient, splits in sorted(homes.items()):
        if len(splits) > 1:
            findings.append(f"patient {patient[:6]}...: in {' and '.join(sorted(splits))}")
    warnings = [str(place) for place in (*unexplained, *uncut[:SHOWN])]
    if len(uncut) > SHOWN:
        warnings.append(f"{len(uncut) - SHOWN} more records whose sector is nearly the picture")
    return {"records": count, "findings": findings, "warnings": warnings}


def audit_piece(piece: Piece, search: Search) -> Audited:
    """Check some records, each whole; and the shard that ends with them."""
    info = shards.dataset_info(piece.path.parents[2])
    found, name = Audited([], set(), [], [], []), piece.path.name
    for number, data in inspect_pieces.read_piece(piece):
        if data is None:
            found.findings.append(Damage(name, number, "damaged: cannot be audited"))
            continue
        try:
            wrong = list(check_record(data, info, search))
        except Exception as error:  # a record nobody thought of is a finding, and not the end
            wrong = [f"cannot be audited ({type(error).__name__})"]
        found.findings.extend(Damage(name, number, what) for what in wrong)
        with contextlib.suppress(Exception):  # which is a finding already, and in no index
            found.rows.append(record_index.row(data))
        if not wrong:
            found.patients.add(shards.identity(data).patient_id)
            if (share := coverage(data, info.size)) > UNCUT:
                what = f"its sector is {share:.0%} of the picture: look whether text stands in it"
                found.uncut.append(Damage(name, number, what))
    if piece.last:
        words, exact = check_shard(piece._replace(first=0), search)
        found.findings.extend(
            Damage(name, None, f"{word} in the file's own bytes") for word in words
        )
        if not exact:
            found.unexplained.append(Damage(name, None, UNEXPLAINED))
    return found
