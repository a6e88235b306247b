"""A trained head with its encoder, in a folder of its own: recordings in, answers out.

    head = EchoFMHead.from_pretrained("FOLDER")
    for answer in head.predict(["study/clip.dcm", "other.avi"]):
        print(answer)

Needs torch and safetensors; `predict` also needs echofm_jax, which reads and cleans the files.

A clip head reads a map: the encoder's tokens, averaged over a grid of at most GRID x GRID places,
their mean and the root of their spread over the time steps of a window, averaged over a recording's
windows. So it knows where in the sector something is and how much it moves, and forgets when. Of
kind temporal it reads a recording's steps in their order instead, on a coarser grid.

Shapes: B windows, R recordings, E examinations, t time steps, P places, D width, C outputs. A map
is [P, 2D] a recording, of a temporal head [S, F]: steps and what is read of each.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .temporal_decoder import TemporalDecoder, end_to_end, most_steps, present
from .trained_echofm import add_adapters, add_prompts, load_model

GRID = 7  # places along each side of a map, at most
STEP_GRID = 3  # … of a step that a temporal head reads
TASKS = ("classes", "grades", "number")
KINDS = ("linear", "mlp", "attentive", "temporal")
TOGETHER = 8  # windows in the encoder at once, when files are answered for
SMALL = 1e-8  # added to a variance: the gradient of its root is finite


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What a head answers, and how it is built."""

    task: str  # of TASKS: one of several names; of names in an order; a number
    target: str  # the labels' column that it learned
    outputs: tuple[str, ...]  # the names; of a number its unit
    kind: str = "linear"  # of KINDS
    hidden: int = 256  # width of mlp, attentive and temporal
    dropout: float = 0.0  # of what is read, while it is trained
    study: bool = False  # one answer for all recordings of an examination
    adapter: int = 0  # width of the adapters in the encoder's blocks; 0: it has none
    prompts: int = 0  # learned tokens in each of the encoder's blocks
    colour: bool = False  # whether it was shown colour

    @property
    def values(self) -> int:
        """C, outputs of the head: grades share one score, told apart by thresholds."""
        return len(self.outputs) if self.task == "classes" else 1


class ClipHead(nn.Module):
    """Maps of recordings to what the task asks for, before it is made an answer.

    Args:
      config: of the head.
      places: P, or S.
      width: of what is read of a place, 2D, or of a step, F.
      every: seconds from step to step, for a temporal head.
    """

    def __init__(self, config: HeadConfig, places: int, width: int, every: float = 0.0):
        super().__init__()
        if config.task not in TASKS or config.kind not in KINDS:
            raise ValueError(f"head: task {config.task!r} of kind {config.kind!r} is not known")
        self.config, self.temporal = config, config.kind == "temporal"
        c = config.values
        places = 1 if self.temporal else places  # steps are all alike
        # From the training set, where what is read has mean 0 and spread 1, and so has a number.
        self.register_buffer("mean", torch.zeros(places, width))
        self.register_buffer("scale", torch.ones(places, width))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("unit", torch.ones(()))
        self.drop = nn.Dropout(config.dropout)
        flat = places * width
        if config.kind == "linear":
            self.out = nn.Linear(flat, c)
        elif config.kind == "mlp":
            self.hidden = nn.Linear(flat, config.hidden)
            self.out = nn.Linear(config.hidden, c)
        elif self.temporal:
            self.decoder = TemporalDecoder(width, config.hidden, every, config.dropout)
            self.out = nn.Linear(config.hidden, c)
        else:
            self.embed = nn.Linear(width, config.hidden)
            self.place = nn.Parameter(0.02 * torch.randn(places, config.hidden))
            self.query = nn.Parameter(0.02 * torch.randn(1, 1, config.hidden))
            self.attend = nn.MultiheadAttention(config.hidden, 4, batch_first=True)
            self.norm = nn.LayerNorm(config.hidden)
            self.out = nn.Linear(config.hidden, c)
        nn.init.zeros_(self.out.weight)  # at first it answers the training set's mean
        nn.init.zeros_(self.out.bias)
        if config.task == "grades":
            self.thresholds = nn.Parameter(torch.linspace(-1, 1, len(config.outputs) - 1))
        if config.study:
            self.look = nn.Linear(width, 64)
            self.weigh = nn.Linear(64, 1)

    def decoder_windows(self, steps: int) -> int:
        """How many windows of so many steps it relates to one another; 0: it has no order."""
        return most_steps(steps) // steps if self.temporal else 0

    def forward(self, maps: Tensor, studies: Tensor | None = None) -> Tensor:
        """Maps [R, P, 2D] to [R, C], or [E, C] with the examinations' numbers `studies` [R]."""
        x = (maps - self.mean) / self.scale  # [R, P, 2D]
        there = None
        if self.temporal:
            there = present(maps)  # [R, P], all but the steps that a short recording lacks
            x = x.where(there[..., None], 0.0)
        y = self.read(self.drop(x), there)  # [R, C]
        if studies is not None:
            # Attention over the recordings of an examination (Ilse et al. 2018, arXiv 1802.04712).
            whole = x.mean(1) if there is None else x.sum(1) / there.sum(1, keepdim=True)  # [R, 2D]
            weight = self.weigh(torch.tanh(self.look(whole)))[:, 0]  # [R]
            own = F.one_hot(studies).T.bool()  # [E, R]
            y = torch.where(own, weight, -torch.inf).softmax(1) @ y  # [E, C]
        return y

    def read(self, x: Tensor, there: Tensor | None = None) -> Tensor:
        """Standardised maps [R, P, 2D] to [R, C]; `there` [R, P]: the steps that exist."""
        if self.config.kind == "linear":
            return self.out(x.flatten(1))
        if self.config.kind == "mlp":
            return self.out(self.drop(F.gelu(self.hidden(x.flatten(1)))))
        if self.temporal:
            return self.out(self.decoder(x, there))
        x = self.embed(x) + self.place  # [R, P, hidden]
        query = self.query.expand(len(x), -1, -1)  # [R, 1, hidden]
        seen, _ = self.attend(query, x, x, need_weights=False)  # [R, 1, hidden]
        return self.out(self.norm(seen[:, 0]))

    def above(self, y: Tensor) -> Tensor:
        """Log-odds [R, grades - 1] that a grade lies above each of the lower ones, from [R, 1].

        Proportional odds (McCullagh 1980); thresholds in ascending order, whatever they learn.
        """
        return y - self.thresholds.sort().values

    def answers(self, y: Tensor) -> Tensor:
        """Probabilities [R, names] of what `forward` gave, or the number [R, 1] in its unit."""
        if self.config.task == "classes":
            return y.softmax(-1)
        if self.config.task == "number":
            return y * self.unit + self.offset
        above = self.above(y).sigmoid()  # [R, names-1], falling
        ends = torch.ones_like(y), torch.zeros_like(y)
        return -torch.cat([ends[0], above, ends[1]], 1).diff(dim=1)


class EchoFMHead(nn.Module):
    """An encoder, EchoFM or EchoApex, with a head on it."""

    def __init__(self, encoder: nn.Module, config: HeadConfig):
        super().__init__()
        self.encoder, self.config = encoder, config
        c = encoder.config
        add_adapters(encoder, config.adapter)
        add_prompts(encoder, config.prompts)
        # An encoder of consecutive frames counts these, not seconds: as at 30 frames a second.
        every = c.window_seconds / c.steps or c.tubelet / 30
        side, places = c.size // c.patch, min(c.size // c.patch, GRID) ** 2
        self.map_shape = places, 2 * c.width  # of what the head reads of a recording
        if config.kind == "temporal":
            self.map_shape = most_steps(c.steps), (1 + min(side, STEP_GRID) ** 2) * c.width
        self.head = ClipHead(config, *self.map_shape, every)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "EchoFMHead":
        """Load a folder that `echofm finetune` wrote, on the CPU, ready to answer.

        Nothing in it is run, nothing unpickled. Raises FileNotFoundError when a file is absent and
        ValueError, naming it, when one is damaged, changed or of a newer version.
        """
        return load_model(cls, Path(folder), HeadConfig, "outputs")

    def forward(
        self, clips: Tensor, recordings: Tensor | None = None, studies: Tensor | None = None
    ) -> Tensor:
        """Windows [B, 3, T, H, W] in [0, 1] to [R, C], or [E, C]; see `ClipHead.answers`.

        Args:
          clips: the windows.
          recordings: [B] whose they are, numbers from 0; None: each is a recording.
          studies: [R] which examinations the recordings belong to, numbers from 0.
        """
        return self.head(self.maps(clips, recordings), studies)

    def maps(self, clips: Tensor, recordings: Tensor | None = None) -> Tensor:
        """What the head reads of recordings, [R, P, 2D]; `recordings` as in `forward`."""
        return self.joined(self.window_maps(clips), recordings)

    def joined(self, maps: Tensor, recordings: Tensor | None) -> Tensor:
        """`window_maps` to what the head reads of recordings, [R, P, 2D]."""
        return (end_to_end if self.head.temporal else over_windows)(maps, recordings)

    def window_maps(self, clips: Tensor) -> Tensor:
        """What is read of each window, [B, P, 2D].

        Mean and spread over the time steps in every place; of a temporal head, of every step its
        embedding and its tokens, averaged over a coarser grid, [B, t, F].
        """
        if self.head.temporal:
            found = self.encoder.encode(clips)
            x = self.pooled(found.tokens.float(), STEP_GRID).flatten(2)  # [B, t, P*D]
            return torch.cat([found.frames.float(), x], -1)  # [B, t, F]
        x = self.pooled(self.encoder.encode_tokens(clips).float(), GRID)  # [B, t, P, D]
        spread = (x.var(1, unbiased=False) + SMALL).sqrt()  # [B, P, D]
        return torch.cat([x.mean(1), spread], -1)  # [B, P, 2D]

    def pooled(self, tokens: Tensor, most: int) -> Tensor:
        """Tokens [B, t*L, D] averaged over a grid, `most` places a side at most, [B, t, P, D]."""
        c = self.encoder.config
        side = c.size // c.patch
        x = tokens.unflatten(1, (c.steps, side, side))  # [B, t, g, g, D]
        if side > most:
            x = F.adaptive_avg_pool2d(x.flatten(0, 1).movedim(-1, 1), most)  # [B*t, D, G, G]
            x = x.movedim(1, -1).unflatten(0, (-1, c.steps))  # [B, t, G, G, D]
        return x.flatten(2, 3)  # [B, t, P, D]

    @torch.inference_mode()
    def predict(
        self,
        files: Sequence[str | Path],
        *,
        fps: float = 0.0,
        precropped: bool = False,
    ) -> list[dict]:
        """An answer for each file, read and cleaned as for training.

        `{"answer": name, "probabilities": {name: p}}`, of a number `{"answer": 55.1, "unit": "%"}`,
        of a file that cannot be used `{"refused": reason}`. A head for examinations takes all files
        for one. `fps`: of files that do not tell theirs; `precropped`: they show the image alone.
        """
        from data_pipelines.clean_files import Cut, Refused, read_many, stamped

        c = self.encoder.config
        cut = Cut(
            size=c.size, frames=c.frames, window_seconds=c.window_seconds,
            fps=fps, precropped=precropped, colour=self.config.colour,
        )  # fmt: skip
        found, maps = [], []
        for recording in read_many([stamped(Path(file)) for file in files], cut, 0):
            if isinstance(recording, Refused):
                found.append({"refused": f"{recording.reason}: {recording.detail}"})
                continue
            windows = torch.from_numpy(recording.frames[recording.index])  # [w, T, S, S(, 3)]
            clips = map(self.encoder.preprocess, windows.split(TOGETHER))  # [<=8, 3, T, S, S]
            own = torch.cat([self.window_maps(some) for some in clips])  # [w, P, 2D]
            maps.append(self.joined(own, torch.zeros(len(own), dtype=torch.long)))  # [1, P, 2D]
            found.append({})
        if maps:
            every = torch.cat(maps)  # [R, P, 2D]
            one = torch.zeros(len(every), dtype=torch.long, device=every.device)
            y = self.head(every, one if self.config.study else None)  # [R, C] or [1, C]
            answers = self.head.answers(y).expand(len(every), -1)
            told = iter(self.told(answers))
            found = [refused or next(told) for refused in found]
        return found

    def told(self, answers: Tensor) -> list[dict]:
        """What `ClipHead.answers` gave, in words."""
        names = self.config.outputs
        if self.config.task == "number":
            return [{"answer": float(y), "unit": names[0]} for y in answers[:, 0]]
        return [
            {
                "answer": names[int(p.argmax())],
                "probabilities": dict(zip(names, p.tolist(), strict=True)),
            }
            for p in answers
        ]


def over_windows(maps: Tensor, recordings: Tensor | None) -> Tensor:
    """Maps of windows [B, P, 2D] to those of their recordings, [R, P, 2D]: means; spreads rooted.

    The root, as a few places move much more than all others.
    """
    if recordings is not None:
        own = F.one_hot(recordings).to(maps).T  # [R, B]
        whole = (own / own.sum(1, keepdim=True)) @ maps.flatten(1)  # [R, P*2D]
        maps = whole.unflatten(1, maps.shape[1:])  # [R, P, 2D]
    mean, spread = maps.chunk(2, -1)
    return torch.cat([mean, spread.sqrt()], -1)
