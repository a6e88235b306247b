"""End-diastole and end-systole, read linearly from steps: ridge regression of the cycle's angle.

The angle is 0 at end-diastole and π at end-systole, and runs evenly between them: so a beat of any
length, and any split into systole and diastole, is one turn. It is fitted on training recordings
and read from others; nothing of those is fitted.
"""

from collections.abc import Sequence

import numpy as np

from echofm_jax.probes import fit_ridge

Events = tuple[np.ndarray, np.ndarray]  # end-diastoles [k] and end-systoles [l], one unit of time


def cycle_angle(events: Events, at: np.ndarray) -> np.ndarray:
    """Angle of the cycle at times `at` [m], radians in [0, 2π); nan where no two events enclose it.

    Two end-diastoles without an end-systole between them, or the other way round, enclose nothing.
    """
    times = np.concatenate(events)
    kinds = np.repeat([0, 1], [len(own) for own in events])
    order = np.argsort(times, kind="stable")
    times, kinds = times[order], kinds[order]
    angle = np.full(len(at), np.nan)
    for i in np.flatnonzero(np.diff(kinds)):
        start, stop = times[i : i + 2]
        inside = (at >= start) & (at < stop)
        angle[inside] = np.pi * (kinds[i] + (at[inside] - start) / (stop - start))
    return angle


def moving(steps: np.ndarray) -> np.ndarray:
    """[m, F] steps of a recording without their mean, which holds the anatomy and the view."""
    return steps - steps.mean(0)


class CycleReadout:
    """A linear map from steps to the cycle's angle."""

    def __init__(
        self, steps: Sequence[np.ndarray], angles: Sequence[np.ndarray], patients: Sequence[str]
    ):
        """Fit on recordings: steps [m, F], their angles [m] (nan: unknown), whose they are."""
        known = [np.isfinite(angle) for angle in angles]
        x = np.concatenate([moving(z)[k] for z, k in zip(steps, known, strict=True)])
        angle = np.concatenate([a[k] for a, k in zip(angles, known, strict=True)])
        groups = np.repeat(patients, [k.sum() for k in known])
        # Diastole lasts longer: unweighted, a weak readout says diastole always and turns nowhere.
        systole = angle < np.pi
        weights = np.where(systole, 0.5 / systole.mean(), 0.5 / (~systole).mean())
        self._model = fit_ridge(x, np.stack([np.cos(angle), np.sin(angle)], 1), groups, weights)

    def events(self, steps: np.ndarray, starts: np.ndarray, tubelet: int) -> Events:
        """Where the read angle passes 0 and π upwards, in frames, between steps by a line.

        `steps` [m, F] of the tubelets that begin at `starts` [m].
        """
        cosine, sine = self._model.predict(moving(steps)).T
        middle = starts + (tubelet - 1) / 2
        found = []
        for sign in (1, -1):  # 0 is where the sine rises, π where it falls
            before, after = sign * sine[:-1], sign * sine[1:]
            at = np.flatnonzero((before < 0) & (after >= 0))
            share = before[at] / (before[at] - after[at])
            there = sign * (cosine[at] + share * (cosine[at + 1] - cosine[at])) > 0
            found.append((middle[at] + share * (middle[at + 1] - middle[at]))[there])
        return found[0], found[1]


def event_error(labels: np.ndarray, found: np.ndarray, first: float, last: float) -> float:
    """Mean distance from each label to the nearest event found, and from each found to a label.

    Both ways, so that neither a missed beat nor an invented one is free. Labels outside
    [first, last], where nothing can be found, do not count, but explain what is found near them.
    With nothing found every label is off by half the span between labels, as the worst guess would
    be; nan without a label.
    """
    inside = labels[(labels >= first) & (labels <= last)]
    if not len(inside):
        return float("nan")
    if not len(found):
        return float(np.diff(labels).mean() / 2) if len(labels) > 1 else (last - first) / 2
    missed = np.abs(inside[:, None] - found).min(1)
    invented = np.abs(found[:, None] - labels).min(1)
    return float((missed.mean() + invented.mean()) / 2)


def irregularity(end_diastoles: np.ndarray) -> float:
    """Coefficient of variation of the intervals between beats; 0 where fewer than two are seen."""
    intervals = np.diff(end_diastoles)
    return float(intervals.std() / intervals.mean()) if len(intervals) > 1 else 0.0
