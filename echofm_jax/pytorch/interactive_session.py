"""One frame that somebody outlines by clicks, a box or a mask of their own: what `open` returns.

SPDX-License-Identifier: Apache-2.0
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from .prompt_encoder import NEGATIVE, POSITIVE, Prompts, as_mask, check_place

if TYPE_CHECKING:
    from .interactive_head import EchoFMInteractive


class Outline(NamedTuple):
    """An answer."""

    mask: np.ndarray  # [S, S] bool
    quality: float  # the IoU that the model expects of it, 0 to 1


class Session:
    """Prompts add up, and each answer is shown to the next; the encoder has run once for all."""

    def __init__(self, model: "EchoFMInteractive", clip: np.ndarray, position: int):
        """Use `EchoFMInteractive.open` or `.session`."""
        self.model = model
        self.frame = clip[position]  # [S, S(, 3)] uint8: prompts are places in it
        with torch.inference_mode():
            clips = model.encoder.preprocess(clip)  # [1, 3, T, S, S]
            self._seen = model.look(clips, torch.tensor([position], device=clips.device))
        self.restart()

    def restart(self) -> None:
        """Forget all prompts: another structure is next."""
        self.prompts = Prompts.none(1, self.model.encoder.config.size)

    def click(self, x: float, y: float, positive: bool = True) -> Outline:
        """The pixel at column x and row y belongs to the structure, or, negative, does not.

        Raises ValueError outside the image.
        """
        check_place(x, y, self.model.encoder.config.size)
        kind = POSITIVE if positive else NEGATIVE
        place = torch.tensor([[x, y]], dtype=torch.float32)
        self.prompts = self.prompts.clicked(place, torch.tensor([kind]))
        return self._answer()

    def box(self, left: float, top: float, right: float, bottom: float) -> Outline:
        """The structure lies within this box; it replaces an earlier one.

        Raises ValueError where a corner is outside the image, or left is not left of right.
        """
        for corner in ((left, top), (right, bottom)):
            check_place(*corner, self.model.encoder.config.size)
        if left > right or top > bottom:
            raise ValueError(
                f"box {left:g}, {top:g}, {right:g}, {bottom:g}: give left, top, right, bottom"
            )
        box = torch.tensor([[left, top, right, bottom]], dtype=torch.float32)
        self.prompts = self.prompts._replace(boxes=box)
        return self._answer()

    def mask(self, mask: np.ndarray) -> Outline:
        """Start from this mask [S, S] bool: another program's, or the frame's before.

        Raises ValueError when it has another shape.
        """
        size = self.model.encoder.config.size
        mask = np.asarray(mask)
        if mask.shape != (size, size):
            raise ValueError(f"mask: shape {mask.shape}; give [{size}, {size}], as `frame` is")
        shown = torch.from_numpy(2 * (mask > 0).astype(np.float32) - 1)
        self.prompts = self.prompts._replace(masks=shown[None])
        return self._answer()

    @torch.inference_mode()
    def _answer(self) -> Outline:
        logits, quality = self.model(self._seen, self.prompts)  # [1, S, S], [1]
        logits = logits.float().cpu()
        self.prompts = self.prompts._replace(masks=as_mask(logits))
        return Outline((logits[0] > 0).numpy(), float(quality[0]))
