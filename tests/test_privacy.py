"""Privacy as a property: whatever is planted in the files, no data set, log or folder repeats it.

Names, dates and numbers stand in every element of the DICOM dictionary, in private groups, nested
items, overlays, file meta, containers, array names, paths and the burned-in banner. They are looked
for in every decompressed byte, and the banner by its shape in every stored picture.
"""

import dataclasses
import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import planted
import pytest
from conftest import REPO

from data_pipelines import deidentify, phantom_files, readers, records, segments, shards
from data_pipelines.clean import fit_square, to_grey
from data_pipelines.labels import Label
from data_pipelines.phantom_image import PhantomClip, simulate
from data_pipelines.privacy_known import Search
from echofm_jax import cli

SIZE = 224
NAME_IN_PATH = "zyxwva_quentin_mrn7734512"
# Correlation with the banner: on a screen, in a picture where it stands reduced, anywhere else.
FOUND, REDUCED, ABSENT = 0.9, 0.8, 0.6


def shortened(clip: PhantomClip, count: int) -> PhantomClip:
    """The first frames of a clip."""
    return dataclasses.replace(clip, frames=clip.frames[:count], ecg=clip.ecg[:count])


@pytest.fixture(scope="module")
def clip() -> PhantomClip:
    return shortened(simulate("A4C", 3, size=(240, 320)), 20)


@pytest.fixture(scope="module")
def source(clip, tmp_path_factory):
    """(folder, every secret in it) of a patient's files in four formats."""
    root = tmp_path_factory.mktemp("planted") / "in"
    folder = root / NAME_IN_PATH / "QZXFOLDER"
    folder.mkdir(parents=True)
    name = folder / NAME_IN_PATH
    secrets = planted.planted_dicom(name.with_suffix(".dcm"), clip)
    secrets += planted.planted_video(name.with_suffix(".avi"), clip, "mjpeg")
    secrets += planted.planted_video(name.with_suffix(".mp4"), clip, "libx264")
    secrets += planted.planted_npz(name.with_suffix(".npz"), clip)
    return root, sorted({*secrets, NAME_IN_PATH, "QZXFOLDER", "QZX STREAM ZYXWVA", str(root)})


def ingest(source: Path, data_dir: Path, salt: Path, *more: str) -> int:
    return cli.main(
        ["ingest", f"--source={source}", f"--data_dir={data_dir}", f"--salt_file={salt}",
         f"--size={SIZE}", "--workers=1", "--encoding=zstd", *more]
    )  # fmt: skip


def stored_records(data_dir: Path) -> list[bytes]:
    return [data for path in sorted(data_dir.rglob("*array_record*"))
            for data in shards.read_shard(path)]  # fmt: skip


def pictures(data_dir: Path) -> list[np.ndarray]:
    """[T, SIZE, SIZE] of every record."""
    made = []
    for split in shards.dataset_info(data_dir).records:
        for example in shards.open_split(data_dir, split):
            frames = np.empty((len(example["frames"]), SIZE, SIZE), np.uint8)
            for data, image in zip(example["frames"], frames, strict=True):
                records.decode_frame(data, "zstd", image)
            made.append(frames)
    return made


@pytest.fixture(scope="module")
def ingested(source, tmp_path_factory):
    """(data set, salt file, all that was said) of the planted files, by the command itself."""
    data_dir = tmp_path_factory.mktemp("made") / "data"
    salt = tmp_path_factory.mktemp("secret") / "salt"
    command = [sys.executable, "-m", "echofm_jax", "ingest", f"--source={source[0]}",
               f"--data_dir={data_dir}", f"--salt_file={salt}", f"--size={SIZE}", "--workers=1",
               "--encoding=zstd", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["accepted"] == 4
    return data_dir, salt, done.stdout + done.stderr


def everything(data_dir: Path) -> dict[str, bytes]:
    """All there is to search: records and pixels decompressed, files as they lie, their names."""
    kept = {f"record {i}": data for i, data in enumerate(stored_records(data_dir))}
    kept |= {f"pixels {i}": frames.tobytes() for i, frames in enumerate(pictures(data_dir))}
    for path in data_dir.parent.rglob("*"):
        name = path.relative_to(data_dir.parent).as_posix()
        kept[f"the name {name}"] = name.encode()
        if path.is_file() and not name.endswith("-report.csv"):  # which is for its owner alone
            kept[f"the file {name}"] = path.read_bytes()
    return kept


def test_no_word_gets_through(source, ingested):
    root, secrets = source
    data_dir, salt, said = ingested
    search = Search(secrets, salt.read_bytes())
    # The search would find them: it does in what was ingested.
    originals = [path for path in root.rglob("*") if path.is_file()]
    assert len(originals) == 4 and len(secrets) > 2900
    for path in originals:
        assert search.among_pixels(path.read_bytes())
    held = b"".join(path.read_bytes() for path in originals)
    assert sum(secret.encode() in held for secret in secrets) > 2900
    assert search.in_text(str(originals[0]).encode())

    for what, data in everything(data_dir).items():
        assert not search.in_text(data), what
    said = said.replace(f"report (has file names, keep it private): {data_dir}-report.csv", "")
    assert not search.in_text(said.encode())
    assert salt.read_text() not in said
    example = next(iter(shards.open_split(data_dir, "train")))
    assert not search.in_ids([example["patient_id"].decode(), example["clip_id"].decode()])


def test_the_audit_agrees(source, ingested, tmp_path, capsys):
    data_dir, salt, _ = ingested
    known = tmp_path / "known.txt"
    known.write_text("\n".join(source[1]))
    command = ["inspect", "--privacy", str(data_dir), f"--known={known}", f"--salt_file={salt}",
               "--strict", "--workers=1"]  # fmt: skip
    assert cli.main(command) == 0
    assert "0 findings, 0 warnings" in capsys.readouterr().out


def likeness(frames: np.ndarray, words: np.ndarray, scales) -> float:
    """Highest correlation of [T, H, W] frames with the words at any place, in any of the sizes."""
    rng = np.random.default_rng(0)
    best = 0.0
    for scale in scales:
        template = cv2.resize(words, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for frame in frames:
            # Where nothing is, there is nothing to correlate with: a little noise defines it.
            noisy = frame.astype(np.float32) + rng.normal(size=frame.shape).astype(np.float32)
            found = cv2.matchTemplate(noisy, template.astype(np.float32), cv2.TM_CCOEFF_NORMED)
            best = max(best, float(found.max()))
    return best


def stored_scales(clip: PhantomClip) -> np.ndarray:
    """How much smaller than on the screen words may be stored: if all of it is, to its sector."""
    longest = max(np.ptp(np.flatnonzero(clip.sector.any(axis))) + 1 for axis in (0, 1))
    return SIZE * np.geomspace(0.97 / max(clip.sector.shape), 1.05 / longest, 25)


def test_the_banner_is_in_no_stored_picture(source, ingested, clip):
    words = planted.banner(clip)
    for path in sorted(path for path in source[0].rglob("*") if path.is_file()):
        screen = to_grey(readers.read(path).frames)
        assert likeness(screen[:2], words, [1.0]) > FOUND  # it was there, in every format
    stored, scales = pictures(ingested[0]), stored_scales(clip)
    assert len(stored) == 4
    for frames in stored:
        assert likeness(frames[::5], words, scales) < ABSENT


def test_the_search_for_the_banner_finds_it_where_it_is(clip, tmp_path):
    """The same search, of records over whose heart somebody wrote the same words."""
    words = planted.banner(clip)
    screen = phantom_files.screen(clip, planted.PERSON)
    height, width = words.shape
    top, left = screen.shape[1] // 2, (screen.shape[2] - width) // 2
    screen[:, top : top + height, left : left + width] = words
    rows, columns = np.flatnonzero(clip.sector.any(1)), np.flatnonzero(clip.sector.any(0))
    cut = screen[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    stored = np.stack([fit_square(frame, SIZE) for frame in cut])
    texts = {"fps_source": "unknown", "mode": "b_mode", "clip_id": "0" * 16, "patient_id": "1" * 16}
    whole = np.ones((SIZE, SIZE), bool)
    made = segments.make_records(stored, whole, None, Label(), encoding="zstd", **texts)
    shards.write_dataset(tmp_path, {"train": made}, size=SIZE, encoding="zstd")
    (frames,) = pictures(tmp_path)
    assert likeness(frames[::5], words, stored_scales(clip)) > REDUCED


def test_without_the_salt_no_id_can_be_made_again(source, ingested, tmp_path):
    data_dir, salt, _ = ingested
    other = tmp_path / "out" / "data"
    assert ingest(source[0] / "**" / "*.dcm", other, tmp_path / "another salt") == 0
    ids = [
        {value for data in stored_records(place) for value in shards.identity(data)[:2]}
        for place in (data_dir, other)
    ]
    # Of four clips and one; a patient by DICOM's number, or where there is none by the folder.
    assert [len(found) for found in ids] == [6, 2]
    assert not ids[0] & ids[1]
    # Nor by whoever knows the number, the code and everything but the salt.
    for guess in (b"", b"echofm", planted.PERSON["id"].encode(), bytes(32)):
        made = {
            deidentify.patient_hash(guess, planted.PERSON["id"]),
            hashlib.sha256(guess + planted.PERSON["id"].encode()).hexdigest()[:16],
        }
        assert not made & (ids[0] | ids[1])
    again = deidentify.patient_hash(salt.read_bytes().strip(), planted.PERSON["id"])
    assert again in ids[0] and again not in ids[1]

    # The secret lies nowhere near the data, and belongs to its owner alone.
    assert stat.S_IMODE(salt.stat().st_mode) == 0o600
    for path in (path for path in data_dir.parent.rglob("*") if path.is_file()):
        assert salt.read_bytes().strip() not in path.read_bytes()
    report = Path(f"{data_dir}-report.csv")
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
