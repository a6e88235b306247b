"""How many simulated clips a core renders in a second. Called by `echofm bench phantom`."""

import argparse
import itertools
import statistics
import time

import cv2

from data_pipelines.bench_loader import in_new_process
from echofm_jax.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench_phantom`, under the same names."""
    parser.add_argument("--rounds", type=int, default=3, help="measurements")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement, at least")
    parser.add_argument("--size", type=int, default=224, help="side of the frames")


def bench_phantom(*, rounds: int = 3, seconds: float = 5.0, size: int = 224) -> dict:
    """Whole clips and frames a second and core, medians over rounds; the result is JSON-able.

    Times are CPU times of one thread. A clip has frames and all its truth; nothing is written.

    Raises:
        InputError: a setting makes no sense.
    """
    if rounds < 1 or size < 64:
        raise InputError("--rounds: at least 1; --size: frames must be at least 64 pixels wide")
    measured = [in_new_process(_render, seconds, size) for _ in range(rounds)]
    rates = [clips / spent for clips, _, spent in measured]
    clips, frames, _ = (sum(values) for values in zip(*measured, strict=True))
    return {
        "clips_per_second": round(statistics.median(rates), 2),
        "frames_per_second": round(statistics.median(n / s for _, n, s in measured), 1),
        "frames_per_clip": round(frames / clips, 1),
        "rounds": [round(rate, 2) for rate in rates],
        "settings": {"size": size, "seconds": seconds},
    }


def _render(seconds: float, size: int) -> tuple[int, int, float]:
    """Clips of all views in turn, their frames, and CPU seconds; whole turns."""
    from data_pipelines.phantom_image import VIEWS, simulate

    cv2.setNumThreads(1)
    simulate(VIEWS[0], 0, (size, size))  # what is done once
    began, clips, frames = time.process_time(), 0, 0
    for seed in itertools.count():
        for view in VIEWS:
            frames += len(simulate(view, seed, (size, size)).frames)
            clips += 1
        if (spent := time.process_time() - began) >= seconds:
            return clips, frames, spent
