"""How many clips a second the loader delivers on one core and on two, beside decoding alone.

Called by `echofm bench loader`. Each measurement is a process of its own, pinned to its cores;
settings take turns, so that a busy machine slows all of them.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence

import cv2
import numpy as np

FRAMES = 60  # of a simulated clip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench_loader`, under the same names."""
    parser.add_argument("--data_dir", help="a data set; without one, simulated speckle is written")
    parser.add_argument("--split", default="train")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--window_seconds", type=float, default=1.5, help="0 = consecutive frames")
    parser.add_argument("--masking", default="consistent")


def bench_loader(
    data_dir: str | None = None,
    *,
    split: str = "train",
    seconds: float = 4.0,
    rounds: int = 3,
    batch_size: int = 8,
    window_seconds: float = 1.5,
    masking: str = "consistent",
) -> dict:
    """Clips of 32 frames of 224 × 224 a second, medians over rounds; the result is JSON-able.

    `one_core` and `two_cores` (None on a machine with one) are the whole loader: random windows,
    decoding, masks, batches; `decode_one_core` is the limit, windows decoded from records in
    memory. A first round warms the page cache and is not counted. `peak_rss_mib` is of the whole
    process, `batch_mib` of one batch; the loader holds at most 2 × (threads + 1) of them.
    """
    if data_dir is None:
        with tempfile.TemporaryDirectory() as folder:
            write_speckle(folder)
            result = bench_loader(
                folder, split=split, seconds=seconds, rounds=rounds, batch_size=batch_size,
                window_seconds=window_seconds, masking=masking,
            )  # fmt: skip
        result["settings"]["data_dir"] = "simulated speckle"
        return result
    options = {
        "data_dir": data_dir, "split": split, "batch_size": batch_size,
        "window_seconds": window_seconds, "masking": masking,
    }  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))
    settings = {
        "decode_one_core": (_decode_rate, cores[:1]),
        "one_core": (_loader_rate, cores[:1]),
    }
    if len(cores) > 1:
        settings["two_cores"] = (_loader_rate, cores[:2])
    measured: dict[str, list[dict]] = {name: [] for name in settings}
    for _ in range(rounds + 1):
        for name, (measure, pinned) in settings.items():
            measured[name].append(_in_new_process(measure, pinned, seconds, options))
    rates = {name: [m["clips_per_s"] for m in ms[1:]] for name, ms in measured.items()}
    medians = {name: round(statistics.median(values), 1) for name, values in rates.items()}
    two_cores = medians.get("two_cores")
    return {
        **medians,
        "two_cores": two_cores,
        "scaling": round(two_cores / medians["one_core"], 2) if two_cores else None,
        "rounds": {name: [round(v, 1) for v in values] for name, values in rates.items()},
        "peak_rss_mib": {n: max(m["peak_rss_mib"] for m in ms) for n, ms in measured.items()},
        "batch_mib": measured["one_core"][0]["batch_mib"],
        "records": measured["decode_one_core"][0]["records"],
        "stored_kib_per_32_frames": measured["decode_one_core"][0]["stored_kib_per_32_frames"],
        "settings": {"seconds": seconds, "cores": len(cores), **options},
    }


def write_speckle(data_dir: str, clips: int = 64) -> None:
    """Write a jpeg data set of simulated speckle in a sector, 30 frames/s, 224 × 224.

    Its frames take about as many bytes, and as long to decode, as real sector scans.
    """
    from data_pipelines import shards

    y, x = np.mgrid[:224, -112:112]
    sector = (np.abs(np.arctan2(x, y)) < 0.7) & (np.hypot(x, y) < 224)
    rng = np.random.default_rng(0)
    examples = (speckle_example(sector, rng) for _ in range(clips))
    shards.write_dataset(data_dir, {"train": examples}, size=224, encoding="jpeg", simulated=True)


def speckle_example(sector: np.ndarray, rng: np.random.Generator) -> dict:
    """A record of log-compressed Rayleigh speckle, moving by a pixel a frame, over tissue."""
    from data_pipelines import records

    size = len(sector)
    field = cv2.GaussianBlur(rng.normal(size=(FRAMES + size, size, 2)), (0, 0), 3)
    echo = np.hypot(field[..., 0], field[..., 1])
    echo = 25 * np.log(echo / echo.mean() + 0.01)
    tissue = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), size / 16)
    tissue = 80 + 50 * tissue / tissue.std()
    frames = [
        np.clip(echo[i : i + size] + tissue, 0, 255).astype(np.uint8) * sector
        for i in range(FRAMES)
    ]
    return {
        "frames": [records.encode_frame(frame, "jpeg") for frame in frames],
        "times": np.arange(FRAMES, dtype=np.float32) / np.float32(30),
        "fps": np.float32(30),
        "fps_source": "option",
        "mode": "b_mode",
        "sector": records.pack_sector(sector),
        "clip_id": f"{rng.integers(2**63):016x}",
        "patient_id": f"{rng.integers(2**63):016x}",
        "segment": 0,
        "segments": 1,
        "view": "",
        "ejection_fraction": np.float32(np.nan),
        "phase": np.zeros(0, np.float32),
        "end_diastole": np.zeros(0, np.int32),
        "end_systole": np.zeros(0, np.int32),
    }


def _in_new_process(measure, cores: Sequence[int], seconds: float, options: dict) -> dict:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, cores, seconds, options).result()


def _loader_rate(cores: Sequence[int], seconds: float, options: dict) -> dict:
    os.sched_setaffinity(0, cores)
    from data_pipelines.loader import LoaderConfig, make_loader

    loader = make_loader(LoaderConfig(**options))
    batch = next(loader)
    clips, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        clips += len(next(loader)["clip"])
    loader.close()
    return {
        "clips_per_s": clips / elapsed,
        "peak_rss_mib": _peak_rss_mib(),
        "batch_mib": round(sum(array.nbytes for array in batch.values()) / 2**20, 1),
    }


def _decode_rate(cores: Sequence[int], seconds: float, options: dict) -> dict:
    os.sched_setaffinity(0, cores)
    from data_pipelines import shards
    from data_pipelines.clip_source import ClipSource
    from data_pipelines.loader import LoaderConfig, decode_window
    from data_pipelines.window import choose_frames

    cfg, info = LoaderConfig(**options), shards.dataset_info(options["data_dir"])
    source = ClipSource(cfg.data_dir, cfg.split)
    records = [source[i] for i in range(min(len(source), 32))]
    sizes = [len(frame) for record in records for frame in record.bytes_list("frames")]
    rng = np.random.default_rng(0)
    clips, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        record = records[clips % len(records)]
        times = np.arange(len(record.bytes_list("frames")))
        decode_window(record, choose_frames(times, cfg.frames, cfg.frames, rng), cfg, info)
        clips += 1
    return {
        "clips_per_s": clips / elapsed,
        "peak_rss_mib": _peak_rss_mib(),
        "records": len(source),
        "stored_kib_per_32_frames": round(32 * statistics.mean(sizes) / 1024),
    }


def _peak_rss_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
