"""The cardiac cycle of a simulated heart: beats, phases, contraction, valves and ECG.

Durations of systole follow the heart rate as in people: isovolumic times are constant, ejection
goes with the square root of the RR interval, and diastole gets what is left.
"""

from dataclasses import dataclass

import numpy as np

ISOVOLUMIC_CONTRACTION = 0.05  # s; longer than a frame at 25/s, so each ED and ES is seen exactly
ISOVOLUMIC_RELAXATION = 0.07  # s
EJECTION = 0.28  # s at an RR interval of one second


def _smooth_steps(phase: np.ndarray, knots: list[tuple[float, float]]) -> np.ndarray:
    """Smoothstep interpolation of (phase, value) knots; flat at every knot."""
    at, value = np.array(knots).T
    left = np.clip(np.searchsorted(at, phase, side="right") - 1, 0, len(at) - 2)
    x = np.clip((phase - at[left]) / (at[left + 1] - at[left]), 0, 1)
    return value[left] + (value[left + 1] - value[left]) * x * x * (3 - 2 * x)


@dataclass(frozen=True)
class Cycle:
    """Landmarks of one beat as phases in [0, 1); 0 is end-diastole (the R wave)."""

    rr: float  # mean RR interval, s
    ejection: float  # aortic valve opens
    end_systole: float
    filling: float  # mitral valve opens
    diastasis: float
    atrial_kick: float

    @classmethod
    def at(cls, heart_rate: float) -> "Cycle":
        """The cycle at `heart_rate` beats a minute."""
        rr = 60.0 / heart_rate
        ejection = ISOVOLUMIC_CONTRACTION / rr
        end_systole = ejection + EJECTION / np.sqrt(rr)
        filling = end_systole + ISOVOLUMIC_RELAXATION / rr
        rest = 1.0 - filling
        return cls(rr, ejection, end_systole, filling, filling + 0.4 * rest, 1.0 - 0.3 * rest)

    def contraction(self, phase: np.ndarray) -> np.ndarray:
        """Part of the stroke volume that is out of the ventricle: 0 at ED, 1 at ES."""
        return _smooth_steps(
            phase,
            [(0, 0), (self.ejection, 0), (self.end_systole, 1), (self.filling, 1),
             (self.diastasis, 0.28), (self.atrial_kick, 0.24), (1, 0)],
        )  # fmt: skip

    def mitral_opening(self, phase: np.ndarray) -> np.ndarray:
        """0 closed, 1 wide open: E wave, half closed in diastasis, A wave."""
        rest = 1.0 - self.filling
        return _smooth_steps(
            phase,
            [(0, 0), (self.filling, 0), (self.filling + 0.15 * rest, 1), (self.diastasis, 0.35),
             (self.atrial_kick, 0.35), (self.atrial_kick + 0.15 * rest, 0.75), (1, 0)],
        )  # fmt: skip

    def aortic_opening(self, phase: np.ndarray) -> np.ndarray:
        """0 closed, 1 open: during ejection only."""
        edge = 0.15 * (self.end_systole - self.ejection)
        return _smooth_steps(
            phase,
            [(0, 0), (self.ejection, 0), (self.ejection + edge, 1),
             (self.end_systole - edge, 0.9), (self.end_systole, 0), (1, 0)],
        )  # fmt: skip

    def ecg(self, phase: np.ndarray) -> np.ndarray:
        """One lead, R wave 1.0 high at phase 0."""
        seconds = ((phase + 0.5) % 1.0 - 0.5) * self.rr  # signed, from the nearest R wave
        after = (phase % 1.0) * self.rr
        t_wave = 0.85 * self.end_systole * self.rr
        waves = [(seconds, -0.15, 0.022, 0.12), (seconds, -0.028, 0.007, -0.1),
                 (seconds, 0.0, 0.009, 1.0), (seconds, 0.028, 0.008, -0.2),
                 (after, t_wave, 0.035, 0.25)]  # fmt: skip
        return sum(h * np.exp(-0.5 * ((x - at) / width) ** 2) for x, at, width, h in waves)


def beat_times(
    cycle: Cycle, seconds: float, variation: float, rng: np.random.Generator
) -> np.ndarray:
    """Times [s] of the R waves from before 0 to after `seconds`; RR varies by `variation`."""
    count = int(seconds / cycle.rr) + 4
    intervals = cycle.rr * (1 + variation * np.clip(rng.standard_normal(count), -2.5, 2.5))
    return np.cumsum(intervals) - intervals[0] - rng.uniform() * intervals[1]


def phase_at(times: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Phase in [0, 1) of each time [s]: linear between one R wave and the next."""
    return np.interp(times, beats, np.arange(len(beats), dtype=np.float64)) % 1.0


def first_frames_after(phase: np.ndarray, landmark: float) -> np.ndarray:
    """Indices of the first frame at or after `landmark` in each beat that the frames show."""
    turned = (phase - landmark) % 1.0
    return np.flatnonzero(turned[1:] < turned[:-1]) + 1
