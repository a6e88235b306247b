"""A decoder over time: a recording's steps, with their moments in seconds, to one embedding.

Copied into head folders; needs torch only. A step is told by its embedding (EchoFM's phase
embedding, EchoApex' CLS token) and its patches' tokens on a coarse grid, and a small transformer
relates the steps: so it may know end-diastole from end-systole, where maps know how much moves.

Shapes: R recordings, S steps, F features of a step, E width.

SPDX-License-Identifier: Apache-2.0
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, HEADS = 2, 4
STEPS = 64  # of a recording that are read, at most: whole windows in its middle
SLOWEST, FASTEST = 8.0, 0.05  # seconds, periods of the waves that tell the time of a step


class TemporalDecoder(nn.Module):
    """Steps of recordings to one embedding each.

    Args:
      features: F.
      width: E, a multiple of 4.
      every: seconds from one step to the next.
      dropout: in the transformer, while it is trained.
    """

    def __init__(self, features: int, width: int, every: float, dropout: float):
        super().__init__()
        self.every = every
        self.embed = nn.Linear(features, width)
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(
            width, HEADS, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Steps [R, S, F], of which those of `there` [R, S] exist, to [R, E]."""
        x = self.embed(x)  # [R, S, E]
        x = x + self.waves(x.shape[1], x.shape[2], x.device).to(x.dtype)
        x = torch.cat([self.query.to(x.dtype).expand(len(x), -1, -1), x], 1)  # [R, 1+S, E]
        absent = F.pad(~there, (1, 0))  # [R, 1+S]
        return self.norm(self.layers(x, src_key_padding_mask=absent)[:, 0])  # [R, E]

    def waves(self, steps: int, width: int, device: torch.device) -> Tensor:
        """Sines and cosines of the moments of steps, [S, E], from slow waves to fast ones."""
        moments = self.every * torch.arange(steps, device=device)  # [S] seconds
        count = width // 2
        periods = torch.logspace(math.log10(SLOWEST), math.log10(FASTEST), count, device=device)
        angles = 2 * math.pi * moments[:, None] / periods  # [S, E/2]
        return torch.cat([angles.sin(), angles.cos()], -1)  # [S, E]


def most_steps(steps: int) -> int:
    """S of recordings whose windows have `steps` each."""
    return max(1, STEPS // steps) * steps


def end_to_end(windows: Tensor, recordings: Tensor | None) -> Tensor:
    """Steps of windows [B, t, F] to those of their recordings, [R, S, F]; 0 where none is.

    Windows of a recording lie side by side in time, in their order; of too many the middle counts.
    """
    if recordings is None:
        return windows
    steps = windows.shape[1]
    most = most_steps(steps)
    found = []
    for recording in range(int(recordings.max()) + 1):
        own = windows[recordings == recording]  # [w, t, F]
        first = max(0, len(own) - most // steps) // 2
        own = own[first : first + most // steps].flatten(0, 1)  # [w*t, F]
        found.append(F.pad(own, (0, 0, 0, most - len(own))))  # [S, F]
    return torch.stack(found)


def present(steps: Tensor) -> Tensor:
    """Which of steps [R, S, F] there are, [R, S]."""
    return (steps != 0).any(-1)
