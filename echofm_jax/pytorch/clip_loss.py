"""What a clip head is trained to lower."""

import torch
import torch.nn.functional as F
from torch import Tensor

from echofm_jax.pytorch.head_echofm import ClipHead


def clip_loss(
    head: ClipHead, y: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0
) -> Tensor:
    """The mean loss of what `ClipHead.forward` gave, [R, C].

    Args:
      targets: [R] indices of names; of a number, its value in its own unit.
      weights: [names] of the classes; not used for numbers.
      smoothing: of the classes' targets (arXiv 1512.00567).
    """
    y = y.float()
    if head.config.task == "number":
        return F.mse_loss(y[:, 0], ((targets - head.offset) / head.unit).float())
    if head.config.task == "classes":
        return F.cross_entropy(y, targets, weights, label_smoothing=smoothing)
    grades = torch.arange(len(head.config.outputs) - 1, device=y.device)
    above = (targets[:, None] > grades).to(y)  # [R, grades-1]
    lost = F.binary_cross_entropy_with_logits(head.above(y), above, reduction="none").sum(1)  # [R]
    return (lost * weights[targets]).sum() / weights[targets].sum()
