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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from echofm_jax.errors import InputError

NEEDS = {  # clips/s that a host's accelerators take of the ViT-L step, at least and at most
    "v5e_host": (106, 246),  # 4 chips
    "v5p_host": (246, 820),  # 4 chips
    "h200": (340, 340),
}
OF_CROPS = ("data_dir", "split", "batch_size", "windows_per_record")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench_loader`, under the same names."""
    parser.add_argument("--data_dir", help="a data set; without one, simulated speckle is written")
    parser.add_argument("--encoding", default="jpeg", choices=("jpeg", "zstd"), help="of speckle")
    parser.add_argument("--split", default="train")
    parser.add_argument("--source", help="raw files (folder, file or pattern) to compare with")
    parser.add_argument("--seconds", type=float, default=4.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--window_seconds", type=float, default=1.5, help="0 = consecutive frames")
    parser.add_argument("--windows_per_record", type=int, default=1)
    parser.add_argument("--masking", default="consistent")
    parser.add_argument("--crops", action="store_true", help="images for DINOv2 instead of clips")


def bench_loader(
    *,
    data_dir: str | None,
    encoding: str,
    source: str | None,
    seconds: float,
    rounds: int,
    crops: bool,
    **options: str | int | float,
) -> dict:
    """Clips of 32 frames of 224 × 224 a second, medians over rounds; the result is JSON-able.

    `one_core` and `two_cores` (None on a machine with one) are the whole loader: random windows,
    decoding, masks, batches. Beside it, on one core: `decode_one_core`, the limit, windows decoded
    from records in memory; `npy_one_core`, windows of the same clips from memory-mapped files;
    `source_one_core`, windows of raw files, each read whole, or None; both measured once. A first
    round of the others warms the page cache and is not counted.

    `per_cpu_second` has the same as clips per second of processor time, which other users of the
    machine do not take away: it is to be trusted where `load_average` nears the cores. Its
    `of_decode_limit` is the loader's share of the decoder's. `cores_needed` divides what
    accelerators take (`NEEDS`) by `one_core`. `peak_rss_mib` is of the whole process, `batch_mib`
    of one batch, `batches_mib_at_most` of all that the loader holds: 2 × (threads + 1).

    Args:
      data_dir: a data set; None writes simulated speckle and takes that.
      encoding: of the speckle, one of records.ENCODINGS.
      source: raw files, or None.
      seconds: of one measurement.
      rounds: measurements of each setting.
      crops: `bench_crops` instead, without `source`.
      options: of `LoaderConfig`.

    Raises:
      InputError: nothing would be measured, or there is no such data set.
    """
    if rounds < 1 or not seconds > 0:
        raise InputError("--rounds and --seconds: measure at least once, for more than no time")
    if data_dir is None:
        from data_pipelines.speckle import write_speckle

        with tempfile.TemporaryDirectory() as folder:
            write_speckle(folder, encoding=encoding)
            result = bench_loader(
                data_dir=folder, encoding=encoding, source=source, seconds=seconds,
                rounds=rounds, crops=crops, **options,
            )  # fmt: skip
        result["settings"]["data_dir"] = f"simulated speckle, {encoding}"
        return result
    options["data_dir"] = data_dir
    if crops:
        from data_pipelines.bench_crops import bench_crops

        own = {name: options[name] for name in OF_CROPS}
        return bench_crops(seconds=seconds, rounds=rounds, **own)
    cores = sorted(os.sched_getaffinity(0))
    settings = {"decode_one_core": (_decode, 1), "one_core": (load, 1)}
    if len(cores) > 1:
        settings["two_cores"] = (load, 2)
    measured: dict[str, list[dict]] = {name: [] for name in settings}
    for _ in range(rounds + 1):
        for name, (clips, count) in settings.items():
            task = clips, cores[:count], seconds, options, source
            measured[name].append(in_new_process(timed, *task))
    counted = {name: found[1:] for name, found in measured.items()}
    for name, clips in {"npy_one_core": _npy, "source_one_core": _raw}.items():
        if clips is _npy or source is not None:
            counted[name] = [in_new_process(timed, clips, cores[:1], seconds, options, source)]
    wall, cpu = (
        {n: round(statistics.median(m[kind] for m in ms), 1) for n, ms in counted.items()}
        for kind in ("clips_per_s", "clips_per_cpu_s")
    )
    two_cores, share = wall.get("two_cores"), cpu["one_core"] / cpu["decode_one_core"]
    batch_mib = measured["one_core"][0]["batch_mib"]
    return {
        "source_one_core": None,
        **wall,
        "two_cores": two_cores,
        "scaling": round(two_cores / wall["one_core"], 2) if two_cores else None,
        "per_cpu_second": cpu | {"of_decode_limit": round(share, 3)},
        "cores_needed": {
            name: [round(rate / wall["one_core"], 1) for rate in span]
            for name, span in NEEDS.items()
        },
        "rounds": {n: [round(m["clips_per_s"], 1) for m in ms] for n, ms in counted.items()},
        "peak_rss_mib": {n: max(m["peak_rss_mib"] for m in ms) for n, ms in counted.items()},
        "batch_mib": batch_mib,
        "batches_mib_at_most": {
            name: round(2 * (threads + 1) * batch_mib, 1)
            for name, threads in (("one_core", 1), ("two_cores", 2))
        },
        "records": measured["decode_one_core"][0]["records"],
        "stored_kib_per_32_frames": measured["decode_one_core"][0]["stored_kib_per_32_frames"],
        "load_average": os.getloadavg()[0],
        "settings": {"seconds": seconds, "cores": len(cores), "source": source, **options},
    }


Clips = Iterator[int]  # each item: how many more are there


def in_new_process(function: Callable[..., dict], *arguments) -> dict:
    """`function(*arguments)` where nothing has run before."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def timed(
    clips: Callable[..., Clips],
    cores: Sequence[int],
    seconds: float,
    options: dict,
    source: str | None,
) -> dict:
    """How many a second `clips` yields on these cores, and what it found."""
    os.sched_setaffinity(0, cores)
    found: dict = {}
    stream = clips(options, source, found)
    next(stream)
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not count:
        count += next(stream)
    spent = time.process_time() - cpu
    stream.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found | {
        "clips_per_s": count / elapsed,
        "clips_per_cpu_s": count / spent,
        "peak_rss_mib": peak,
    }


def load(options: dict, source: None, found: dict) -> Clips:
    """The loader's batches, once memory for all that it holds is there, as it is for `_decode`."""
    from data_pipelines.loader import LoaderConfig, make_loader

    loader = make_loader(LoaderConfig(**options))
    for _ in range(2 * (len(os.sched_getaffinity(0)) + 1)):
        batch = next(loader)
    found["batch_mib"] = round(sum(array.nbytes for array in batch.values()) / 2**20, 1)
    yield 0
    try:
        for batch in loader:
            yield len(batch["index"])
    finally:
        loader.close()


def _decode(options: dict, source: None, found: dict) -> Clips:
    """Windows of records in memory."""
    from data_pipelines.clip_source import ClipSource
    from data_pipelines.decode import decode_frames
    from data_pipelines.loader import LoaderConfig

    cfg = LoaderConfig(**options)
    stored = ClipSource(cfg.data_dir, cfg.split)
    some = [stored[i] for i in range(min(len(stored), 32))]
    sizes = [len(frame) for record in some for frame in record.bytes_list("frames")]
    found["records"] = len(stored)
    found["stored_kib_per_32_frames"] = round(32 * statistics.mean(sizes) / 1024)
    rng, out = np.random.default_rng(0), None
    yield 0
    while True:
        for record in some:
            window = _window(len(record.bytes_list("frames")), rng)
            out = decode_frames(record, window, cfg.size, out)
            yield 1


def _npy(options: dict, source: None, found: dict) -> Clips:
    """Windows of the same clips, from memory-mapped files of all their frames."""
    from data_pipelines.clip_source import ClipSource
    from data_pipelines.decode import decode_frames
    from data_pipelines.loader import LoaderConfig

    cfg = LoaderConfig(**options)
    stored, rng = ClipSource(cfg.data_dir, cfg.split), np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i in range(min(len(stored), 32)):
            record = stored[i]
            every = np.arange(len(record.bytes_list("frames")))
            paths.append(Path(folder, f"{i}.npy"))
            np.save(paths[-1], decode_frames(record, every, cfg.size))
        yield 0
        while True:
            for path in paths:
                frames = np.load(path, mmap_mode="r")
                np.array(frames[_window(len(frames), rng)])
                yield 1


def _raw(options: dict, source: str, found: dict) -> Clips:
    """Windows of raw files; those that are no clips are passed over."""
    from data_pipelines import readers
    from data_pipelines.clean import fit_square, to_grey
    from data_pipelines.clip import Rejected

    rng, (_, paths) = np.random.default_rng(0), readers.find_files(source)
    yield 0
    while paths:
        for path in list(paths):
            try:
                frames = readers.read(path).frames
            except Rejected:
                paths.remove(path)
                continue
            window = to_grey(frames[_window(len(frames), rng)])
            np.stack([fit_square(frame, 224) for frame in window])
            yield 1
    raise InputError(f"{source} holds no clip that can be read: name other files")


def _window(frames: int, rng: np.random.Generator) -> np.ndarray:
    from data_pipelines.window import choose_frames

    return choose_frames(np.arange(frames), 32, 32, rng)
