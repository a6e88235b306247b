"""How well structures are outlined: Dice, IoU and Hausdorff distance, MONAI's, by structure.

Every number is a mean over the frames whose label holds the structure, with a 95 % interval from
drawing patients again. The Hausdorff distance is the larger of both directions' 95th percentiles,
in mm where the frame's spacing is known and otherwise in pixels; the two are never mixed. It does
not exist where the structure was not found at all: such frames are counted as `missed`.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou

from echofm_jax.pytorch.scores import Score, mean, with_intervals


def measure(
    predicted: np.ndarray,
    labels: np.ndarray,
    spacing: np.ndarray,
    classes: int,
    distances: bool = True,
) -> dict[str, np.ndarray]:
    """Each frame by itself, [n, K-1] without the background; nan where there is nothing to say.

    Args:
      predicted: [n, S, S] integers below `classes`.
      labels: the same.
      spacing: [n, 2] mm a pixel, rows and columns, nan = unknown.
      classes: K.
      distances: False leaves out the Hausdorff distance, most of the work: it is nan.

    Returns:
      `dice` and `iou` (0 to 1), `hausdorff95_mm`, `hausdorff95_pixels`, and `missed` (0 or 1).
    """
    p, y = (
        F.one_hot(torch.from_numpy(maps.astype(np.int64)), classes).movedim(-1, 1).float()
        for maps in (predicted, labels)
    )  # [n, K, S, S]
    here, found = (x[:, 1:].flatten(2).any(2).numpy() for x in (y, p))  # [n, K-1]
    known = np.isfinite(spacing).all(1)
    distance = np.full(here.shape, np.nan)
    for n, k in np.argwhere(here & found & distances):
        mm = [float(side) for side in spacing[n]] if known[n] else None
        distance[n, k] = _hausdorff95(p[n, k + 1], y[n, k + 1], mm)
    return {
        "dice": compute_dice(p, y, include_background=False).numpy(),
        "iou": compute_iou(p, y, include_background=False).numpy(),
        "hausdorff95_mm": np.where(known[:, None], distance, np.nan),
        "hausdorff95_pixels": np.where(known[:, None], np.nan, distance),
        "missed": np.where(here, ~found, np.nan),
    }


def summarise(
    measured: Mapping[str, np.ndarray], patients: Sequence[str], structures: Sequence[str]
) -> dict[str, Score]:
    """Means by structure, as `dice_LV`, and the mean of those over structures, `dice` and `iou`.

    What is measured in no frame is absent. Intervals are over patients.

    Args:
      measured: what `measure` returns, [n, K-1] each.
      patients: [n] whose frames they are.
      structures: [K] names, background first.
    """
    shown = {
        f"{name}_{structure}": values[:, k]
        for name, values in measured.items()
        for k, structure in enumerate(structures[1:])
        if name != "missed" and np.isfinite(values[:, k]).any()
    }

    def figures(rows: np.ndarray) -> dict[str, float]:
        found = {name: mean(values[rows]) for name, values in shown.items()}
        overall = {
            name: mean(
                np.array([found[f"{name}_{s}"] for s in structures if f"{name}_{s}" in found])
            )
            for name in ("dice", "iou")
        }
        return overall | found

    return with_intervals(figures, patients)


def _hausdorff95(p: torch.Tensor, y: torch.Tensor, mm: list[float] | None) -> float:
    """Of two masks [S, S] that are not empty."""
    with warnings.catch_warnings():  # MONAI 1.6 calls itself with an argument that it will remove
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        return compute_hausdorff_distance(
            p[None, None], y[None, None], include_background=True, percentile=95, spacing=mm
        ).item()
