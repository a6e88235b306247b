"""When a simulated heart beats: the R waves of its rhythm.

Sinus rhythm and its arrhythmia by breath, atrial fibrillation, single premature ventricular beats
and bigeminy. The interval between two R waves is RR.
"""

from typing import NamedTuple

import numpy as np

HEART_RATES = {  # beats a minute
    "sinus": (40.0, 160.0),
    "sinus_arrhythmia": (50.0, 95.0),
    "atrial_fibrillation": (60.0, 150.0),
    "premature_beats": (50.0, 110.0),
    "bigeminy": (55.0, 100.0),
}
RHYTHMS = tuple(HEART_RATES)
BREATHS = 0.25  # a second
# Half of the longest RR minus the shortest, over their mean: from 0.12 s at usual rates on, it is
# called an arrhythmia (Surawicz & Knilans, Chou's Electrocardiography).
RESPIRATORY = (0.12, 0.22)
# Standard deviation of RR over its mean in atrial fibrillation (Tateno & Glass 2001: about 0.24).
IRREGULAR = (0.20, 0.30)
REFRACTORY = 0.3  # s, in which the atrioventricular node conducts nothing
COUPLING = (0.55, 0.70)  # of the sinus interval, from a beat to the premature one
BETWEEN_PREMATURE = (3, 6)  # sinus beats
BEFORE = 4  # beats before the clip, in which its rhythm settles


class RWaves(NamedTuple):
    """R waves from before a clip to after it."""

    times: np.ndarray  # [N] s, 0 is the first frame
    premature: np.ndarray  # [N] bool: a ventricular beat that comes early
    atrial: np.ndarray  # [N] bool: the atria contract before it


def r_waves(
    rhythm: str,
    rr: float,
    variation: float,
    seconds: float,
    breath: float,
    rng: np.random.Generator,
) -> RWaves:
    """R waves of one of `RHYTHMS` for a clip of `seconds`.

    `rr` is the mean interval [s], `variation` the relative standard deviation that every sinus
    node has, `breath` the part of a breath (0–1) that is over at the first frame.
    """
    count = int(seconds / rr * 1.5) + BEFORE + 12
    jitter = 1 + variation * np.clip(rng.standard_normal(count), -2.5, 2.5)
    if rhythm == "atrial_fibrillation":
        intervals = _irregular(rr, rng.uniform(*IRREGULAR), 2 * count, rng)
    elif rhythm == "sinus_arrhythmia":
        intervals = rr * jitter * _by_breath(rr, rng.uniform(*RESPIRATORY), breath, count)
    else:
        intervals = rr * jitter
    times = np.cumsum(intervals)
    premature = np.zeros(len(times), bool)
    if rhythm in ("premature_beats", "bigeminy"):
        after = 1 if rhythm == "bigeminy" else int(rng.integers(*BETWEEN_PREMATURE))
        premature[2 :: 1 + after] = True
        # The sinus node keeps its time, so the pause makes up for what the beat came too early.
        early = np.flatnonzero(premature)
        times[early] = times[early - 1] + np.maximum(rng.uniform(*COUPLING) * rr, 0.33)
    start = times[BEFORE] - rng.uniform() * (times[BEFORE] - times[BEFORE - 1])
    if rhythm == "premature_beats":  # one of them is seen
        start = times[premature & (np.arange(count) > BEFORE)][0] - rng.uniform(0.2, 0.6) * seconds
    atrial = ~premature if rhythm != "atrial_fibrillation" else np.zeros(len(times), bool)
    times = times - start
    kept = times < seconds + 3 * rr  # at least one of them lies behind the clip
    return RWaves(times[kept], premature[kept], atrial[kept])


def _irregular(rr: float, spread: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Independent intervals [s], none shorter than the node's refractory period."""
    mean, deviation = rr - REFRACTORY, spread * rr
    return REFRACTORY + rng.gamma((mean / deviation) ** 2, deviation**2 / mean, count)


def _by_breath(rr: float, depth: float, breath: float, count: int) -> np.ndarray:
    """Relative length of each interval: short while breathing in, long while breathing out."""
    times = rr * (np.arange(count) - BEFORE)
    return 1 - depth * np.sin(2 * np.pi * (BREATHS * times + breath))
