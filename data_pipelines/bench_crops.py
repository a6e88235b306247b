"""How many images a second the loader cuts crops of, and where their time goes.

Called by `echofm bench loader --crops`; measured as `bench_loader` measures clips.
"""

import os
import statistics

import numpy as np

from data_pipelines.bench_loader import Clips, in_new_process, load, timed
from data_pipelines.clip_source import ClipSource
from data_pipelines.crops import Crops
from data_pipelines.decode import decode_frames


def bench_crops(*, seconds: float, rounds: int, **options: str | int) -> dict:
    """Images a second, each with the crops of `Crops()`, medians over rounds; JSON-able.

    `one_core` and `two_cores` (None on a machine with one) are the whole loader. Beside it, on one
    core and also as images a second: `read_one_core`, records read and parsed and nothing done with
    them; `decode_one_core`, single frames decoded of records in memory. `per_cpu_second` has the
    same per second of processor time; `shares` says how much of the loader's reading, decoding and
    the rest (crops, looks, masks, batches) take. `batch_mib` is of one batch.

    Args:
      seconds: of one measurement.
      rounds: measurements of each setting, after one that is not counted.
      options: of `LoaderConfig`, but for the crops.
    """
    cores = sorted(os.sched_getaffinity(0))
    settings = {"read_one_core": (_read, 1), "decode_one_core": (_decode, 1), "one_core": (load, 1)}
    if len(cores) > 1:
        settings["two_cores"] = (load, 2)
    measured: dict[str, list[dict]] = {name: [] for name in settings}
    for _ in range(rounds + 1):
        for name, (images, count) in settings.items():
            task = images, cores[:count], seconds, options | {"crops": Crops()}, None
            measured[name].append(in_new_process(timed, *task))
    wall, cpu = (
        {
            name: round(statistics.median(one[kind] for one in found[1:]), 1)
            for name, found in measured.items()
        }
        for kind in ("clips_per_s", "clips_per_cpu_s")
    )
    reading, decoding = (cpu["one_core"] / cpu[f"{part}_one_core"] for part in ("read", "decode"))
    shares = {"read": reading, "decode": decoding, "rest": 1 - reading - decoding}
    two_cores = wall.get("two_cores")
    return {
        **wall,
        "two_cores": two_cores,
        "scaling": round(two_cores / wall["one_core"], 2) if two_cores else None,
        "per_cpu_second": cpu,
        "shares": {name: round(share, 2) for name, share in shares.items()},
        "peak_rss_mib": max(one["peak_rss_mib"] for one in measured["one_core"]),
        "batch_mib": measured["one_core"][0]["batch_mib"],
        "load_average": os.getloadavg()[0],
        "settings": {"seconds": seconds, "rounds": rounds, "cores": len(cores), **options},
    }


def _read(options: dict, source: None, found: dict) -> Clips:
    """Records, each for as many images as the loader takes of it."""
    stored = ClipSource(options["data_dir"], options["split"])
    yield 0
    while True:
        for i in range(len(stored)):
            stored[i].bytes_list("frames")
            yield options["windows_per_record"]


def _decode(options: dict, source: None, found: dict) -> Clips:
    """Single frames of records in memory."""
    stored = ClipSource(options["data_dir"], options["split"])
    some = [stored[i] for i in range(min(len(stored), 32))]
    rng = np.random.default_rng(0)
    yield 0
    while True:
        for record in some:
            frame = rng.integers(len(record.bytes_list("frames")), size=1)
            decode_frames(record, frame, record.info.size)
            yield 1
