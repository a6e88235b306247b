"""Prompts, and how a decoder takes them: as tokens that know their place, and drawn as maps.

Tokens are those of SAM (arXiv 2304.02643): a click or a box's corner is what it means plus waves of
its place. On a grid of 7 x 7 patches that tells a pixel from its neighbour poorly, so clicks, box
and previous mask are also drawn at full size beside the frame, as in RITM (arXiv 2102.06583).
Neither depends on the order in which prompts were given.

Shapes: B outlines on frames of S x S pixels, n clicks of each, tokens of width C.

SPDX-License-Identifier: Apache-2.0
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

NONE, NEGATIVE, POSITIVE = -1, 0, 1  # kinds of clicks
CORNERS = (2, 3)  # kinds of the tokens of a box
MAPS = 4  # positive clicks, negative ones, box, previous mask
SPREAD = 0.02  # of a click drawn on the map, of the frame's side


class Prompts(NamedTuple):
    """What somebody showed of B structures; each of the three may be missing."""

    points: Tensor  # [B, n, 2] clicks: x, y in pixels, 0 is the first pixel's centre
    kinds: Tensor  # [B, n] POSITIVE, NEGATIVE, or NONE: there is no such click
    boxes: Tensor  # [B, 4] left, top, right, bottom in pixels; nan: no box
    masks: Tensor  # [B, S, S] previous masks, -1 outside to 1 inside; 0: not known

    @classmethod
    def none(cls, count: int, size: int) -> "Prompts":
        """Of `count` structures nothing was shown yet."""
        kinds = torch.zeros(count, 0, dtype=torch.long)
        boxes = torch.full((count, 4), torch.nan)
        return cls(torch.zeros(count, 0, 2), kinds, boxes, torch.zeros(count, size, size))

    def clicked(self, points: Tensor, kinds: Tensor) -> "Prompts":
        """One click more each: points [B, 2], kinds [B]."""
        return self._replace(
            points=torch.cat([self.points, points[:, None]], 1),  # [B, n+1, 2]
            kinds=torch.cat([self.kinds, kinds[:, None]], 1),  # [B, n+1]
        )

    def to(self, device: torch.device) -> "Prompts":
        """The same, there."""
        return Prompts(*(each.to(device) for each in self))


def as_mask(logits: Tensor) -> Tensor:
    """Mask logits as `Prompts.masks` has them."""
    return (logits / 2).tanh()  # 2 * probability - 1


def check_place(x: float, y: float, size: int) -> None:
    """Raise ValueError where (x, y) is no place in a frame of `size` pixels a side."""
    if not (0 <= x <= size - 1 and 0 <= y <= size - 1):  # nan is none either
        raise ValueError(
            f"prompt at x = {x:g}, y = {y:g}: outside the image of {size} x {size} pixels; "
            f"both go from 0 to {size - 1}"
        )


class PromptEncoder(nn.Module):
    """Prompts to tokens of width C, and what each stands for learned."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.kinds = nn.Embedding(4, width)

    def forward(self, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Tokens [B, n+2, C] of clicks and corners, and which of them are not there [B, n+2]."""
        size = prompts.masks.shape[-1]
        corners = prompts.boxes.unflatten(1, (2, 2))  # [B, 2, 2]
        no_box = corners.isnan().any(2)  # [B, 2]
        points = torch.cat([prompts.points, corners.nan_to_num()], 1)  # [B, n+2, 2]
        kinds = torch.tensor(CORNERS, device=points.device).expand(len(points), 2)
        kinds = torch.cat([prompts.kinds, kinds], 1)  # [B, n+2]
        absent = torch.cat([prompts.kinds == NONE, no_box], 1)
        tokens = self.kinds(kinds.clamp(min=0)) + waves(points, size, self.width)
        return tokens, absent


def waves(points: Tensor, size: int, width: int) -> Tensor:
    """Places [..., 2] in pixels to sines and cosines [..., C]; the shortest wave is size / 32."""
    count = width // 4
    turns = math.pi * 2 ** torch.linspace(0, 5, count, device=points.device)  # [C/4]
    angles = (2 * (points + 0.5) / size - 1).unsqueeze(-1) * turns  # [..., 2, C/4]
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(-2)  # [..., C]


def grid_places(grid: int, patch: int, device: torch.device) -> Tensor:
    """Centres [L, 2] of patches in pixels, row by row."""
    along = (torch.arange(grid, device=device) + 0.5) * patch - 0.5
    rows, columns = torch.meshgrid(along, along, indexing="ij")
    return torch.stack([columns, rows], -1).flatten(0, 1)  # [L, 2]


def draw_maps(prompts: Prompts) -> Tensor:
    """[B, MAPS, S, S]: a bump at each positive click, at each negative one, the box, the mask."""
    size = prompts.masks.shape[-1]
    along = torch.arange(size, device=prompts.masks.device, dtype=torch.float32)
    away = (prompts.points.unsqueeze(-1) - along) / (SPREAD * size)  # [B, n, 2, S]
    x, y = (-away.square() / 2).exp().unbind(2)  # [B, n, S]
    bumps = y.unsqueeze(-1) * x.unsqueeze(-2)  # [B, n, S, S]
    nothing = torch.zeros_like(prompts.masks)[:, None]  # [B, 1, S, S]
    clicks = [
        torch.cat([nothing, bumps * (prompts.kinds == kind)[..., None, None]], 1).amax(1)
        for kind in (POSITIVE, NEGATIVE)
    ]  # [B, S, S] each
    left, top, right, bottom = (side.unsqueeze(1) for side in prompts.boxes.unbind(1))  # [B, 1]
    across, down = (left <= along) & (along <= right), (top <= along) & (along <= bottom)  # [B, S]
    box = down.unsqueeze(2) & across.unsqueeze(1)  # [B, S, S]; nan is never inside
    return torch.stack([*clicks, box.float(), prompts.masks], 1)
