"""How many DICOM clips a core turns into records in a second, beside `pixel_array` and cv2.

Called by `echofm bench ingest`. Times are CPU times of one thread, in a process for each
measurement; the two ways take turns.
"""

import argparse
import concurrent.futures
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from echofm_jax.errors import InputError

PHANTOMS = 3  # simulated clips, each of another view


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench_ingest`, under the same names."""
    parser.add_argument("--source", help="DICOM files; without, phantoms (YBR_FULL_422 JPEG)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement, at least")
    parser.add_argument("--size", type=int, default=224, help="side of the stored frames")


def bench_ingest(
    source: str | None = None, *, rounds: int = 3, seconds: float = 3.0, size: int = 224
) -> dict:
    """Clips a second and core, medians over rounds; the result is JSON-able.

    `ingest` is all that `echofm ingest` does to a file: read, find the sector, clean, hash, encode,
    serialize. `pixel_array_cv2` is what a script does that finds no sector: `pixel_array`, grey,
    resized, JPEG of the same quality. `ms_per_clip` tells where their time goes.

    Raises:
        InputError: no DICOM clip is there.
    """
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            write_phantoms(Path(folder))
            result = bench_ingest(folder, rounds=rounds, seconds=seconds, size=size)
        result["settings"]["source"] = "simulated clips of 640×480, YBR_FULL_422 JPEG"
        return result
    files = usable(source, size)
    ways = {"ingest": _to_records, "pixel_array_cv2": _by_pixel_array}
    measured: dict[str, list[dict]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            measured[name].append(_in_new_process(way, files, size, seconds))
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
    """The DICOM files of a source that become records.

    Raises:
        InputError: there are none.
    """
    from data_pipelines import readers
    from data_pipelines.clip import Rejected

    files = []
    for path in readers.find_files(source)[1]:
        if path.suffix.lower() in readers.DICOM_SUFFIXES:
            try:
                _to_records(path, size)
            except Rejected:
                continue
            files.append(path)
    if not files:
        raise InputError(f"--source {source}: no DICOM clip that ingest accepts; name some .dcm")
    return files


def _to_records(path: Path, size: int) -> dict[str, float]:
    """Seconds of each part of ingestion."""
    from data_pipelines import clean, deidentify, readers, segments, shards
    from data_pipelines.labels import Label

    began = time.process_time()
    clip = readers.read(path, colour=False)
    was_read = time.process_time()
    cleaned = clean.clean(clip, size=size, colour=False)
    was_cleaned = time.process_time()
    examples = segments.make_records(
        cleaned.frames, cleaned.sector, clip.times, Label(), encoding="jpeg",
        r_waves=clip.r_waves, fps_source=clip.fps_source, mode=cleaned.mode,
        heart_rate=np.float32(clip.heart_rate), spacing=cleaned.spacing(clip.spacing),
        clip_id=deidentify.clip_hash(bytes(32), cleaned.frames),
        patient_id=deidentify.patient_hash(bytes(32), clip.patient),
    )  # fmt: skip
    for example in examples:
        shards.serialize(example)
    ended = time.process_time()
    return {
        "read": was_read - began,
        "clean": was_cleaned - was_read,
        "encode": ended - was_cleaned,
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


def _in_new_process(way: Callable, *rest) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_mean_seconds, way, *rest).result()


def _mean_seconds(way: Callable, files: list[Path], size: int, seconds: float) -> dict[str, float]:
    """Seconds of each part, means over whole passes that take about `seconds` together."""
    cv2.setNumThreads(1)
    way(files[0], size)  # loads the libraries
    results, start = [], time.process_time()
    while not results or time.process_time() - start < seconds:
        results += [way(path, size) for path in files]
    return {part: statistics.mean(r[part] for r in results) for part in results[0]}
