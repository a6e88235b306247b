"""How well walls and cavity are measured, and whether thick walls are told from others.

Mean absolute errors of IVS, LVID and LVPW at end-diastole (`d`) and end-systole (`s`), and the
distance of the landmarks, over frames: in mm where a clip's spacing is known and otherwise in
pixels of the frames that the model saw; the two are never mixed. Hypertrophy is told of clips whose
spacing is known, by the thicker wall, the mean over the end-diastolic frames that were measured; a
clip whose answer is no number is left out, and a figure that no clip is left for is nan.
Intervals are over patients.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from echofm_jax.pytorch.hypertrophy_head import LENGTHS, THICK, lengths
from echofm_jax.pytorch.scores import Score, mean, with_intervals

MAIN = "landmark_error_pixels"  # of all frames, whatever is known of their spacing
WALLS = [LENGTHS.index("ivs"), LENGTHS.index("lvpw")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Truth:
    """What is known of n measured frames."""

    points: np.ndarray  # [n, K, 2] x, y, NaN = unknown
    spacing: np.ndarray  # [n, 2] mm a pixel, rows and columns, NaN = unknown
    diastole: np.ndarray  # [n] bool
    clip: np.ndarray  # [n] which they are of
    patients: Sequence[str]  # [n]

    @property
    def known(self) -> np.ndarray:
        """[n] bool: whether lengths are in mm."""
        return np.isfinite(self.spacing).all(1)

    @property
    def lengths(self) -> np.ndarray:
        """[n, 3] of LENGTHS, mm or pixels."""
        return lengths(self.points, self.spacing)


def summarise(truth: Truth, places: np.ndarray, told: np.ndarray) -> dict[str, Score]:
    """All figures of landmarks [n, K, 2] and LENGTHS [n, 3]; what no frame tells is absent."""
    errors = {name: e for name, e in measure(truth, places, told).items() if np.isfinite(e).any()}

    def figures(rows: np.ndarray) -> dict[str, float]:
        return {name: mean(values[rows]) for name, values in errors.items()}

    return with_intervals(figures, truth.patients) | of_hypertrophy(truth, told)


def measure(truth: Truth, places: np.ndarray, told: np.ndarray) -> dict[str, np.ndarray]:
    """Each frame by itself, [n] each; nan where a figure is not about it."""
    off = places - truth.points  # [n, K, 2]
    mm = off * truth.spacing[:, None, ::-1]
    found = {MAIN: _mean(np.linalg.norm(off, axis=-1))}
    found["landmark_error_mm"] = _mean(np.linalg.norm(mm, axis=-1))
    error = np.abs(told - truth.lengths)  # [n, 3]
    for phase, here in (("d", truth.diastole), ("s", ~truth.diastole)):
        for unit, known in (("mm", truth.known), ("pixels", ~truth.known)):
            for k, name in enumerate(LENGTHS):
                values = np.where(here & known, error[:, k], np.nan)
                found[f"{name}_{phase}_mae_{unit}"] = values
    return found


def of_hypertrophy(truth: Truth, told: np.ndarray) -> dict[str, Score]:
    """AUROC, sensitivity and specificity over clips; nothing unless some have it and some not."""
    rows, wall, answer = [], [], []
    usable = truth.known & truth.diastole & np.isfinite(truth.lengths[:, WALLS]).all(1)
    for clip in np.unique(truth.clip[usable]):
        own = np.flatnonzero(usable & (truth.clip == clip))
        rows.append(own[0])
        wall.append(truth.lengths[own][:, WALLS].mean(0).max())
        answer.append(told[own][:, WALLS].mean(0).max())
    thick, answer = np.array(wall) >= THICK, np.array(answer)
    called = np.where(np.isfinite(answer), answer >= THICK, np.nan)  # 1 thick, 0 not
    if thick.all() or not thick.any():
        return {}

    def figures(some: np.ndarray) -> dict[str, float]:
        return {
            "hypertrophy_auroc": auroc(answer[some], thick[some]),
            "hypertrophy_sensitivity": mean(called[some][thick[some]]),
            "hypertrophy_specificity": mean(1 - called[some][~thick[some]]),
        }

    return with_intervals(figures, [truth.patients[row] for row in rows])


def auroc(values: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve over values that are finite; nan unless there are both."""
    from torchmetrics.functional.classification import binary_auroc

    known = np.isfinite(values)
    values, positive = values[known], positive[known]
    if positive.all() or not positive.any():
        return float("nan")
    p = torch.from_numpy(values / (1 + values.max()))  # values above 1 would be taken for logits
    return float(binary_auroc(p, torch.from_numpy(positive).long(), validate_args=False))


def _mean(values: np.ndarray) -> np.ndarray:
    """[n, K] → [n], over those that are known."""
    return np.array([mean(row) for row in values])
