"""Held-out recordings measured: phase, ejection fraction, view and rhythm, by source.

Whatever is fitted – heads, the readout of end-diastole – is fitted on recordings of `train`.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from echofm_jax import phase
from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.frozen import PATIENTS, Frozen, fibrillation_measures, frozen, probe_measures
from echofm_jax.phase_measures import phase_measures
from echofm_jax.readout import CycleReadout, cycle_angle
from echofm_jax.recordings import Described, Recording

Pairs = Iterable[tuple[Recording, Described]]


class HeldOut(NamedTuple):
    """Figures of n held-out recordings, and what to draw of them."""

    patients: list[str]  # [n] hashes
    phases: list[dict | None]  # [n] `phase_measures`; None of those shorter than a window
    probes: dict[str, np.ndarray]  # `probe_measures`, [n] each
    statistics: dict[str, tuple[float, float, float]]  # of all: a value and its 95 % interval
    train: Frozen | None  # what heads were fitted on
    test: Frozen
    drawn: tuple[Recording, Described, dict] | None  # of most heartbeats or steps, and its figures

    @property
    def fitted_on(self) -> int:
        """Recordings of train."""
        return 0 if self.train is None else len(self.train.patient)


def measure_recordings(training: Pairs, held_out: Pairs, arch: Architecture) -> HeldOut:
    """Figures of held-out recordings; but for the one to draw, each is let go once measured."""
    train, readouts = fit(training, arch.tubelet)
    kept, phases, drawn, most = [], [], None, (-1.0, 0)
    for recording, described in held_out:
        kept.append((recording.without_frames(), described))
        if not recording.whole:
            phases.append(None)
            continue
        phases.append(phase_measures(recording, described, readouts, arch.tubelet))
        beats = phase.step_beat_time(recording.beats, described.starts, arch.tubelet)
        count = (float(np.nan_to_num(np.ptp(beats))), len(beats))
        if count > most:
            most, drawn = count, (recording, described, phases[-1])
    test = frozen(kept)
    probes, statistics = {}, {}
    if train is not None:
        refuse_shared(train, test)
        probes = probe_measures(train, test)
        irregularities = {
            source: np.array([np.nan if p is None else p[f"irregularity_{source}"] for p in phases])
            for source in (*readouts, "truth")
        }
        statistics = fibrillation_measures(train, test, irregularities)
    return HeldOut(test.patient.tolist(), phases, probes, statistics, train, test, drawn)


def fit(training: Pairs, tubelet: int) -> tuple[Frozen | None, dict[str, CycleReadout]]:
    """What heads are fitted on, None without a recording; and readouts, empty without events."""
    kept, angles = [], []
    for recording, described in training:
        kept.append((recording.without_frames(), described))
        middle = described.starts + (tubelet - 1) / 2
        angles.append(cycle_angle((recording.end_diastole, recording.end_systole), middle))
    if not kept:
        return None, {}
    train = frozen(kept)
    known = [np.isfinite(angle).any() for angle in angles]
    if len(set(train.patient[known])) < PATIENTS:
        return train, {}
    readouts = {
        source: CycleReadout([d.features[source] for _, d in kept], angles, train.patient)
        for source in train.video
    }
    return train, readouts


def refuse_shared(train: Frozen, test: Frozen) -> None:
    """Raise InputError if a patient is on both sides: heads would be scored on whom they know."""
    shared = set(train.patient) & set(test.patient)
    if shared:
        raise InputError(
            f"{len(shared)} patients are in train and in the split evaluated (first: "
            f"{min(shared)}): ingest the data again; `echofm inspect` names them"
        )
