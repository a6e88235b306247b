"""How a simulated ventricle fills and empties, beat by beat, and what its valves do meanwhile.

Isovolumic times are constant, ejection goes with the square root of the RR interval, diastole gets
what is left: rapid filling, diastasis, atrial kick. What a beat fills depends on how long it has;
what it ejects, on how well it filled and on how long the muscle rested: in atrial fibrillation a
beat is the stronger the longer the RR interval before it and the shorter the one before that
(Hardman et al., Cardiovasc Res 1998; Brookes et al., Circulation 1998).
"""

from dataclasses import dataclass

import numpy as np

from data_pipelines.phantom_rhythm import RWaves

ISOVOLUMIC_CONTRACTION = 0.05  # s; as long as a frame at 20/s, so each ED and ES is seen exactly
ISOVOLUMIC_RELAXATION = 0.07  # s
EJECTION = 0.28  # s at an RR interval of one second
RAPID_FILLING, KICK = 0.26, 0.16  # s at most, of the E and the A wave
LEAST_DIASTOLE = 0.04  # s
ATRIAL_SHARE = 0.24  # of the stroke volume, filled by the atrial kick
RELAXATION = 0.15  # s, time constant of passive filling, at most
RESTITUTION = 0.2  # s, time constant with which the muscle regains its strength
POTENTIATION = 0.2  # gain in strength if the RR interval before the last one were zero


@dataclass(frozen=True)
class Beats:
    """Beats that follow one another, one value each; times in seconds after the beat's R wave.

    Volumes are contractions: 0 the person's usual end-diastolic volume, 1 the end-systolic one.
    """

    start: np.ndarray  # R wave, s after the first frame
    rr: np.ndarray  # to the next R wave
    end_systole: np.ndarray
    full: np.ndarray  # contraction at end-diastole
    empty: np.ndarray  # contraction at end-systole
    full_next: np.ndarray  # contraction at the next end-diastole
    kick: np.ndarray  # bool: the atria contract before the next R wave
    atrial: np.ndarray  # bool: they did so before this one
    premature: np.ndarray  # bool

    @classmethod
    def of(cls, waves: RWaves, rr: float) -> "Beats":
        """The beats from each R wave to the next; `rr` is the person's mean interval."""
        intervals = np.diff(waves.times)
        usual_ejection = EJECTION * np.sqrt(rr)
        around = ISOVOLUMIC_CONTRACTION + ISOVOLUMIC_RELAXATION
        usual_diastole = rr - around - usual_ejection
        relaxation = min(RELAXATION, usual_diastole / 2.5)
        share = ATRIAL_SHARE if waves.atrial.any() else 0.0
        # Where passive filling would end, such that the usual beat ends at 0.
        left = np.exp(-usual_diastole / relaxation)
        limit = (share - left) / (1 - left)
        full, empty, end_systole = [0.0], [], []
        for i, interval in enumerate(intervals):
            before, second = intervals[max(i - 1, 0)], intervals[max(i - 2, 0)]
            strength = _rested(before) / _rested(rr) * (1 + POTENTIATION * (1 - second / rr))
            stroke = (1 - full[i]) * np.clip(strength, 0.3, 1.15)
            ejection = min(
                usual_ejection * np.clip(stroke, 0.2, 1.2) ** 0.3,
                interval - around - LEAST_DIASTOLE,
            )
            empty.append(full[i] + stroke)
            end_systole.append(ISOVOLUMIC_CONTRACTION + ejection)
            diastole = interval - around - ejection
            passive = limit + (empty[i] - limit) * np.exp(-diastole / relaxation)
            kicked = passive - share * waves.atrial[i + 1]
            full.append(min(kicked, empty[i] - 0.1))
        return cls(
            start=waves.times[:-1],
            rr=intervals,
            end_systole=np.array(end_systole),
            full=np.array(full[:-1]),
            empty=np.array(empty),
            full_next=np.array(full[1:]),
            kick=waves.atrial[1:],
            atrial=waves.atrial[:-1],
            premature=waves.premature[:-1],
        )

    @property
    def filling(self) -> np.ndarray:
        """The mitral valve opens."""
        return self.end_systole + ISOVOLUMIC_RELAXATION

    def locate(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The beat (index) of each time [s] and the seconds since its R wave."""
        beat = np.searchsorted(self.start, times, side="right") - 1
        return beat, times - self.start[beat]

    def phase(self, times: np.ndarray) -> np.ndarray:
        """Phase in [0, 1) of each time [s]: linear between one R wave and the next."""
        beat, seconds = self.locate(times)
        return seconds / self.rr[beat]

    def contraction(self, times: np.ndarray) -> np.ndarray:
        """Contraction at each time [s]: flat in both isovolumic phases and around diastasis."""
        filled = self.empty - self.full_next
        kick = self.kick * np.minimum(ATRIAL_SHARE, 0.5 * filled)
        diastasis = self.full_next + kick + 0.05 * filled
        return self._at(times, [
            (0.0, self.full), (ISOVOLUMIC_CONTRACTION, self.full), (self.end_systole, self.empty),
            (self.filling, self.empty), (self._diastasis, diastasis),
            (self._kick, self.full_next + kick), (self.rr, self.full_next),
        ])  # fmt: skip

    def mitral_opening(self, times: np.ndarray) -> np.ndarray:
        """0 closed, 1 wide open: E wave, half closed in diastasis, A wave if there is one."""
        rapid = self._diastasis - self.filling
        return self._at(times, [
            (0.0, 0.0), (self.filling, 0.0), (self.filling + 0.4 * rapid, 1.0),
            (self._diastasis, 0.35), (self._kick, 0.35),
            ((self._kick + self.rr) / 2, np.where(self.kick, 0.75, 0.3)), (self.rr, 0.0),
        ])  # fmt: skip

    def aortic_opening(self, times: np.ndarray) -> np.ndarray:
        """0 closed, 1 open: during ejection only."""
        opens, closes = ISOVOLUMIC_CONTRACTION, self.end_systole
        edge = 0.15 * (closes - opens)
        return self._at(times, [
            (0.0, 0.0), (opens, 0.0), (opens + edge, 1.0), (closes - edge, 0.9), (closes, 0.0),
            (self.rr, 0.0),
        ])  # fmt: skip

    @property
    def _diastasis(self) -> np.ndarray:
        return self.filling + np.minimum(0.4 * (self.rr - self.filling), RAPID_FILLING)

    @property
    def _kick(self) -> np.ndarray:
        return self.rr - np.minimum(0.3 * (self.rr - self.filling), KICK)

    def _at(self, times: np.ndarray, knots: list[tuple]) -> np.ndarray:
        """Smoothstep interpolation between (seconds after R, value) of each beat; flat at knots."""
        beat, seconds = self.locate(times)
        at, value = (
            np.stack([np.broadcast_to(knot[k], self.rr.shape)[beat] for knot in knots])
            for k in (0, 1)
        )
        left = (at[1:-1] <= seconds).sum(0)[None]
        (a, b), (p, q) = (
            [np.take_along_axis(a, left + k, 0)[0] for k in (0, 1)] for a in (at, value)
        )
        x = np.clip((seconds - a) / (b - a), 0, 1)
        return p + (q - p) * x * x * (3 - 2 * x)


def _rested(interval: float) -> float:
    """Part of its strength that the muscle has regained an RR interval [s] after a beat."""
    return 1 - np.exp(-(interval - 0.15) / RESTITUTION)
