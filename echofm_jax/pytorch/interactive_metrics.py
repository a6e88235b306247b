"""How well structures are outlined after so many clicks, or from a box, by structure.

Dice is a mean over the frames that hold a structure, with a 95 % interval from drawing patients
again; figures over structures are means of theirs. A structure that was left out of training has
figures of its own, `zero_shot_…`, and is in no mean.

Beside each stands what somebody gets who looks at no pixel: a disc around the first click, as large
as the structure was on average in training (of a structure left out: as all others were); from a
box the ellipse in it. Of the expected IoU it is the error of always expecting the mean.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from echofm_jax.pytorch.scores import Score, mean, with_intervals

CLICKS = 5  # simulated of each structure
TOLD = (1, 3, 5)  # after which the scores say Dice; the curve says it after each


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """One row a structure in a frame."""

    rows: Sequence[tuple[int, int, str]]  # clip, frame, structure
    dice: np.ndarray  # [n, CLICKS] after each click
    box: np.ndarray  # [n] from a box
    off: np.ndarray  # [n, CLICKS + 1] expected less real IoU, from the box last
    iou: np.ndarray  # [n, CLICKS + 1] real
    disc: np.ndarray  # [n] Dice of the disc around the first click
    ellipse: np.ndarray  # [n] Dice of the ellipse in the box

    def columns(self) -> dict[str, np.ndarray]:
        """[n] each: Dice by what was shown."""
        after = {f"dice_after_{k + 1}": self.dice[:, k] for k in range(CLICKS)}
        return after | {"dice_from_box": self.box}

    def blind(self) -> dict[str, np.ndarray]:
        """The same without looking."""
        return {
            name: self.ellipse if name == "dice_from_box" else self.disc for name in self.columns()
        }


def overlap(masks: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Dice, IoU) [n] of masks against truth, [n, S, S] bool, which is nowhere empty."""
    both = (masks & truth).sum((1, 2))
    total = masks.sum((1, 2)) + truth.sum((1, 2))
    return 2 * both / total, both / (total - both)


def disc(x: float, y: float, area: float, size: int) -> np.ndarray:
    """[size, size] bool: a disc of so many pixels around a place."""
    rows, columns = np.mgrid[:size, :size]
    return (rows - y) ** 2 + (columns - x) ** 2 <= area / np.pi


def ellipse(box: np.ndarray, size: int) -> np.ndarray:
    """[size, size] bool: the ellipse that touches a box's sides."""
    rows, columns = np.mgrid[:size, :size]
    left, top, right, bottom = box
    x = (columns - (left + right) / 2) / ((right - left + 1) / 2)
    y = (rows - (top + bottom) / 2) / ((bottom - top + 1) / 2)
    return x**2 + y**2 <= 1


def summarise(
    measured: Measured, patients: Sequence[str], structures: Sequence[str], left_out: str = ""
) -> tuple[dict[str, Score], dict[str, float]]:
    """(scores with intervals over patients, what is reached without looking).

    Args:
      measured: all rows.
      patients: [n] whose they are.
      structures: trained on.
      left_out: the one that was not; empty: none.
    """
    whose = np.array([structure for _, _, structure in measured.rows])
    seen = np.isin(whose, structures)

    def figures(columns: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, float]:
        found, means = {}, {}
        for name, values in columns.items():
            own = {s: mean(values[rows][whose[rows] == s]) for s in structures}
            means[name] = mean(np.array(list(own.values())))
            found |= {f"{name}_{s}": value for s, value in own.items()}
            if left_out:
                zero = values[rows][whose[rows] == left_out]
                found[f"zero_shot_{name}_{left_out}"] = mean(zero)
        return means | found

    def scored(rows: np.ndarray) -> dict[str, float]:
        off = np.abs(measured.off[rows][seen[rows]])
        return figures(measured.columns(), rows) | {"quality_error": mean(off)}

    every = np.arange(len(whose))
    iou = measured.iou[seen]
    blind = figures(measured.blind(), every)
    return with_intervals(scored, patients), blind | {
        "quality_error": float(np.abs(iou - iou.mean()).mean())
    }
