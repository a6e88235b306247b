"""Training and using the landmarks of the left ventricle's walls: the steps that are its own.

A landmark is taught as a blob: the softmax of its heatmap over the pixels is to be a Gaussian
around it (Kullback-Leibler divergence, as in arXiv 1801.07372). A landmark that nobody marked in a
frame is not taught there.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from echofm_jax.pytorch.hypertrophy_head import WIDTH, EchoFMHypertrophy, landmarks
from echofm_jax.pytorch.hypertrophy_samples import Sample
from echofm_jax.pytorch.segmentation import logits as heatmaps
from echofm_jax.pytorch.segmentation import logits_of_frames


def blobs(points: Tensor, size: int) -> Tensor:
    """Landmarks [n, K, 2] x, y to maps [n, K, S, S] that each sum to 1; of a NaN one to 0."""
    side = torch.arange(size, device=points.device)
    off = (side - points.nan_to_num().unsqueeze(-1)) / (WIDTH * size)  # [n, K, 2, S]
    x, y = (-0.5 * off.square()).softmax(-1).unbind(2)  # [n, K, S]
    known = points.isfinite().all(-1)  # [n, K]
    return y[..., :, None] * x[..., None, :] * known[..., None, None]


def loss(model: EchoFMHypertrophy, samples: Sequence[Sample]) -> Tensor:
    """Mean divergence of the landmarks that are known."""
    logits = heatmaps(model, samples).float()
    points = torch.from_numpy(np.stack([s.points for s in samples])).to(logits.device)
    p = F.log_softmax(logits.flatten(2), -1)  # [B, K, S*S]
    wanted = blobs(points, logits.shape[-1]).flatten(2)  # [B, K, S*S]
    each = F.kl_div(p, wanted, reduction="none").sum(-1)  # [B, K]
    return each.sum() / points.isfinite().all(-1).sum().clamp(min=1)


@torch.no_grad()
def find(model: EchoFMHypertrophy, samples: Sequence[Sample]) -> np.ndarray:
    """Landmarks [B, K, 2] x, y of the samples' measured frames."""
    places, _ = landmarks(heatmaps(model, samples))
    return places.cpu().numpy()


def landmarks_of_frames(
    model: EchoFMHypertrophy, frames: np.ndarray, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks [T, K, 2] of every frame of a recording, and how sure they are [T, K].

    Arguments as of `logits_of_frames`.
    """
    count = len(model.config.landmarks)
    places = np.zeros((len(frames), count, 2), np.float32)
    sure = np.zeros((len(frames), count), np.float32)
    for numbers, maps in logits_of_frames(model, frames, fps):
        places[numbers], sure[numbers] = (values.cpu().numpy() for values in landmarks(maps))
    return places, sure
