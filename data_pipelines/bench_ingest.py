"""How many DICOM clips a core turns into records in a second, beside `pixel_array` and cv2.

Called by `echofm bench ingest`. Times are CPU times of one thread, in a process for each
measurement; the two ways take turns.
"""

import argparse
import functools
import itertools
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2

from data_pipelines.bench_loader import in_new_process
from echofm_jax.errors import InputError

PHANTOMS = 3  # simulated clips, each of another view
MOST = 32  # files that are measured


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench_ingest`, under the same names."""
    parser.add_argument("--source", help=f"DICOM files, {MOST} are taken; without, phantoms")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement, at least")
    parser.add_argument("--size", type=int, default=224, help="side of the stored frames")


def bench_ingest(
    source: str | None = None, *, rounds: int = 3, seconds: float = 3.0, size: int = 224
) -> dict:
    """Clips a second and core, medians over rounds; the result is JSON-able.

    Of a source are taken MOST files at random that both ways can read.

    `ingest` is all that `echofm ingest` does to a file: read, find the sector, clean, hash, encode,
    serialize. `pixel_array_cv2` is what a script does that finds no sector: `pixel_array`, grey,
    resized, JPEG of the same quality. `ms_per_clip` tells where their time goes.

    Raises:
        InputError: no DICOM clip is there, or a setting makes no sense.
    """
    if rounds < 1 or size < 16:
        raise InputError("--rounds: at least 1; --size: frames must be at least 16 pixels wide")
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            write_phantoms(Path(folder))
            result = bench_ingest(folder, rounds=rounds, seconds=seconds, size=size)
        result["settings"]["source"] = "simulated clips of 640×480, YBR_FULL_422 JPEG"
        return result
    files = usable(source, size)
    ways = {"ingest": _ingest, "pixel_array_cv2": _by_pixel_array}
    measured: dict[str, list[dict]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(in_new_process(_mean_seconds, way, files, size, seconds))
    rates = {n: [1 / sum(parts.values()) for parts in ms] for n, ms in measured.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ms_per_clip = {
        name: {part: 1000 * statistics.median(parts[part] for parts in ms) for part in ms[0]}
        for name, ms in measured.items()
    }
    decoding = ms_per_clip["pixel_array_cv2"]["pixel_array"] / ms_per_clip["ingest"]["read"]
    return {
        **{name: round(rate, 2) for name, rate in medians.items()},
        "speedup": round(medians["ingest"] / medians["pixel_array_cv2"], 2),
        "speedup_of_decoding": round(decoding, 2),
        "ms_per_clip": {
            name: {part: round(value, 1) for part, value in parts.items()}
            for name, parts in ms_per_clip.items()
        },
        "rounds": {name: [round(rate, 2) for rate in values] for name, values in rates.items()},
        "settings": {"source": source, "files": len(files), "size": size, "seconds": seconds},
    }


def write_phantoms(folder: Path, height: int = 480) -> None:
    """Simulated clips on a screen with overlays, as YBR_FULL_422 JPEG baseline."""
    from data_pipelines import phantom_files
    from data_pipelines.phantom_image import VIEWS, simulate

    for number, view in enumerate(VIEWS[:PHANTOMS]):
        clip = simulate(view, number, size=(height, height * 4 // 3))
        person = phantom_files.identity(number, 0)
        phantom_files.write_dicom(folder / f"{number}.dcm", clip, person, "ybr_jpeg")


def usable(source: str, size: int) -> list[Path]:
    """Up to MOST DICOM files of a source that become records, and that `pixel_array` can read.

    Raises:
        InputError: there are none.
    """
    from data_pipelines import readers, workers

    paths = [p for p in readers.find_files(source)[1] if p.suffix.lower() in readers.DICOM_SUFFIXES]
    random.Random(0).shuffle(paths)  # those that lie side by side are of one patient
    tried = workers.map_in_order(
        functools.partial(_is_usable, size), paths, min(len(paths), len(os.sched_getaffinity(0)))
    )
    good = (path for path, fine in zip(paths, tried, strict=False) if fine)
    files = sorted(itertools.islice(good, MOST)) if paths else []
    if not files:
        raise InputError(f"--source {source}: no DICOM clip that both ways read; name some .dcm")
    return files


def _is_usable(size: int, path: Path) -> bool:
    from data_pipelines.one_file import ingest_file

    if ingest_file(_task(path, size))[0].reason:
        return False
    try:
        _by_pixel_array(path, size)
    except Exception:  # of video and HTJ2K pydicom makes nothing
        return False
    return True


def _task(path: Path, size: int):
    from data_pipelines.labels import Label
    from data_pipelines.one_file import Task, Treatment, stamps

    how = Treatment(
        salt=bytes(32), size=size, encoding="jpeg", colour=False, fps=0.0, trust_header=True,
        precropped=False, staged=Path(),
    )  # fmt: skip
    told = stamps(path, Label())
    return Task(path, "", "", told, patient="", label=Label(), treatment=how)


def _ingest(path: Path, size: int) -> dict[str, float]:
    """Seconds of ingestion, and of its parts: once more alone, the rest is encoding."""
    from data_pipelines import clean, one_file, readers

    task, began = _task(path, size), time.process_time()
    clip = readers.read(path, colour=False)
    read = time.process_time() - began
    clean.clean(clip, size=size, colour=False)
    cleaned, began = time.process_time() - began - read, time.process_time()
    one_file.make(task)
    return {
        "read": read,
        "clean": cleaned,
        "encode": time.process_time() - began - read - cleaned,
    }


def _by_pixel_array(path: Path, size: int) -> dict[str, float]:
    """Seconds of each part of a script without any of the above."""
    import pydicom

    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frames = pydicom.dcmread(path).pixel_array
    was_read = time.process_time()
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame
        small = cv2.resize(grey, (size, size), interpolation=cv2.INTER_AREA)
        cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return {"pixel_array": was_read - began, "cv2": time.process_time() - was_read}


def _mean_seconds(way: Callable, files: list[Path], size: int, seconds: float) -> dict[str, float]:
    """Seconds of each part, means over whole passes that take about `seconds` together."""
    cv2.setNumThreads(1)
    way(files[0], size)  # loads the libraries
    results, start = [], time.process_time()
    while not results or time.process_time() - start < seconds:
        results += [way(path, size) for path in files]
    return {part: statistics.mean(r[part] for r in results) for part in results[0]}
