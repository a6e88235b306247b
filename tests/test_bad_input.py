"""Whatever lies in a source, the run goes on, the file is named, and memory stays bounded."""

import csv
import io
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_sector import fan_screen

from data_pipelines import phantom_files, shards
from data_pipelines.phantom_image import simulate
from echofm_jax import cli

GIB = 1 << 30
# Runs a command and prints the largest memory of one process in it, in KiB. A process of its own,
# because what a process forks counts the memory of the one that it was forked from.
WEIGHED = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def arguments(folder: Path) -> list[str]:
    return ["ingest", f"--source={folder / 'in'}", f"--data_dir={folder / 'data'}", "--size=64",
            f"--salt_file={folder / 'salt'}", "--workers=1"]  # fmt: skip


def ingest(folder: Path, first: str = "", prefix=()) -> subprocess.CompletedProcess:
    """The command in a process of its own, on `folder`/in; `first` is run in it before."""
    code = f"import sys; from echofm_jax import cli; {first}\nsys.exit(cli.main(sys.argv[1:]))"
    command = [*prefix, sys.executable, "-c", code, *arguments(folder)]
    return subprocess.run(command, capture_output=True, text=True)


def reasons(folder: Path) -> dict[str, tuple[str, str]]:
    with (folder / "data-report.csv").open(encoding="utf-8", errors="surrogateescape") as file:
        return {row["file"]: (row["reason"], row["detail"]) for row in csv.DictReader(file)}


def save(path: Path, seed: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, fan_screen(seed).frames)
    return path


def bomb(path: Path, header: bytes, size: int) -> None:
    """An archive of a few kB whose array unpacks to `size` bytes."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("clip.npy", "w", force_zip64=True) as file,
    ):
        file.write(header)
        for _ in range(size >> 24):
            file.write(bytes(1 << 24))


def array_header(shape: tuple[int, ...], kind: str) -> bytes:
    out = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": kind}
    np.lib.format.write_array_header_1_0(out, header)
    return out.getvalue()


def test_files_that_claim_more_than_they_hold(tmp_path):
    source = tmp_path / "in"
    save(source / "good.npy")
    clip, person = simulate("A4C", 3, size=(150, 200)), phantom_files.identity(0, 0)
    phantom_files.write_dicom(source / "million.dcm", clip, person, "raw")
    phantom_files.write_dicom(source / "wide.dcm", clip, person, "raw")
    from pydicom import dcmread

    for name, changes in {
        "million.dcm": {"NumberOfFrames": 1_000_000},
        "wide.dcm": {"NumberOfFrames": 4000, "Rows": 65535, "Columns": 65535},
    }.items():
        data = dcmread(source / name)
        for keyword, value in changes.items():
            setattr(data, keyword, value)
        data.save_as(source / name)
    phantom_files.write_video(source / "frames.avi", clip, person, "mjpeg")
    data = bytearray((source / "frames.avi").read_bytes())
    main, stream, image = data.index(b"avih"), data.index(b"strh"), data.index(b"strf")
    data[main + 24 : main + 28] = data[stream + 40 : stream + 44] = (10**6).to_bytes(4, "little")
    (source / "frames.avi").write_bytes(data)
    for at in (main + 40, main + 44, image + 12, image + 16):
        data[at : at + 4] = (60_000).to_bytes(4, "little")
    (source / "wide.avi").write_bytes(data)
    # More than 1 GiB of numbers in 6 MB, and a header that announces 4 GiB of itself.
    bomb(source / "floats.npz", array_header((600, 512, 512), "<f8"), 600 << 21)
    bomb(source / "header.npz", b"\x93NUMPY\x02\x00" + b"\xff" * 4, 1 << 24)
    result = ingest(tmp_path, prefix=(sys.executable, "-c", WEIGHED))
    assert result.returncode == 0, result.stderr
    found = reasons(tmp_path)
    assert found.pop("good.npy") == ("", "")
    assert found["header.npz"][1] == "its header is too long"
    assert {name: reason for name, (reason, _) in found.items()} == {
        "million.dcm": "too_long", "wide.dcm": "too_long", "floats.npz": "too_long",
        "frames.avi": "too_long", "wide.avi": "too_long", "header.npz": "unreadable",
    }  # fmt: skip
    assert int(result.stdout.splitlines()[-1]) <= GIB >> 10


def test_names_links_and_permissions(tmp_path):
    """What may not be read, links to nothing and in circles, names in any bytes, empty files."""
    source = tmp_path / "in"
    save(source / "Müller" / "échographie 心.npy")
    broken = os.fsdecode(b"latin\xe9.npy")  # no UTF-8
    save(source / broken, seed=2)
    save(source / "secret.npy", seed=3).chmod(0)
    save(source / "locked" / "x.npy")
    (source / "locked").chmod(0)
    (source / "empty.dcm").touch()
    (source / "gone.dcm").symlink_to(source / "nowhere")
    (source / "itself.avi").symlink_to(source / "itself.avi")
    (source / "loop").symlink_to(source)
    # Root may read everything unless it is told not to be able to.
    lame = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if not os.geteuid() else []
    if lame and not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv to forbid it")
    result = ingest(tmp_path, prefix=lame)
    (source / "locked").chmod(0o755)
    assert result.returncode == 0, result.stderr
    assert reasons(tmp_path) == {
        "Müller/échographie 心.npy": ("", ""), broken: ("", ""),
        "secret.npy": ("unreadable", "PermissionError"),
        "locked": ("unreadable", "PermissionError"),
        "empty.dcm": ("empty", "zero bytes"),
        "gone.dcm": ("missing", ""), "itself.avi": ("unreadable", "OSError"),
    }  # fmt: skip
    for name in ("Müller", "secret", "latin"):
        assert name not in result.stdout + result.stderr
    # What can be read now is taken now; what was taken stays.
    (source / "secret.npy").chmod(0o600)
    assert cli.main(arguments(tmp_path)) == 0
    assert reasons(tmp_path)["secret.npy"] == ("", "")
    assert sum(shards.dataset_info(tmp_path / "data").records.values()) == 3


def test_a_disk_that_fills_up_in_a_shard(tmp_path):
    """A limit on the size of files stands for the disk: more than a clip, less than a shard."""
    for seed in range(1, 5):
        save(tmp_path / "in" / "p" / f"{seed}.npy", seed)
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}));"
        "from data_pipelines import shards; shards.SHARD_BYTES = {1}"
    )
    once = ingest(tmp_path, first=limit.format(90_000, 60_000))
    assert once.returncode == 2
    assert once.stderr.splitlines()[-1].startswith("echofm ingest: cannot write")
    assert (tmp_path / "data-ingest/files-00000.jsonl").exists()  # every file had been read
    assert not (tmp_path / "data/echo_clips/1.0.0").exists()
    assert cli.main(arguments(tmp_path)) == 0
    assert sum(shards.dataset_info(tmp_path / "data").records.values()) == 4
