"""Labelled clips as a head takes them: windows in batches, read ahead by threads."""

import collections
import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from data_pipelines.clean_files import Cut, cut_windows
from data_pipelines.labelled import LabelledClip, Pixels
from data_pipelines.window import choose_frames
from echofm_jax.pytorch.fitting import draw
from echofm_jax.pytorch.modeling_echofm import EchoFM

AHEAD = 4  # batches that are read before they are asked for
READERS = 4  # threads: decoders work outside Python's lock


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """B windows of R recordings of E examinations."""

    clips: Tensor  # [B, 3, T, S, S] float32 in [0, 1]
    recordings: Tensor  # [B] whose they are
    studies: Tensor | None  # [R] to which examination they belong; None: each answers for itself
    targets: Tensor  # [R] or [E]


def all_windows(pixels: Pixels, cut: Cut) -> np.ndarray:
    """Windows side by side, as many as a recording holds, [w, T, S, S(, 3)] uint8."""
    found = cut_windows(pixels.frames, times(pixels), pixels.fps, cut)
    return found.frames[found.index]


def one_window(pixels: Pixels, cut: Cut, rng: np.random.Generator) -> np.ndarray:
    """A window from anywhere in a recording, [1, T, S, S(, 3)] uint8."""
    seconds = times(pixels)
    at = np.arange(len(pixels.frames), dtype=np.float64)
    at = seconds if cut.window_seconds and seconds is not None else at
    index = choose_frames(at, cut.frames, cut.window_seconds or float(cut.frames), rng)
    return pixels.frames[index][None]


def windows_in_a_row(pixels: Pixels, cut: Cut, most: int, rng: np.random.Generator) -> np.ndarray:
    """Windows side by side, at most so many, from anywhere in a recording, [w, T, S, S(, 3)]."""
    found = all_windows(pixels, cut)
    first = rng.integers(max(0, len(found) - most) + 1)
    return found[first : first + most]


def times(pixels: Pixels) -> np.ndarray | None:
    """[T] seconds; of a still 0, whatever its rate; None = unknown."""
    if len(pixels.frames) == 1:
        return np.zeros(1)
    return np.arange(len(pixels.frames)) / pixels.fps if pixels.fps else None


def cut_of(model: EchoFM, colour: bool) -> Cut:
    """How recordings are cut for a model."""
    c = model.config
    return Cut(size=c.size, frames=c.frames, window_seconds=c.window_seconds, colour=colour)


def read_ahead(tasks: Iterable, read) -> Iterator:
    """`read(task)` of each, in order, by threads."""
    waiting = collections.deque()
    with ThreadPoolExecutor(READERS) as pool:
        for task in tasks:
            waiting.append(pool.submit(read, task))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def training_batches(
    clips: Sequence[LabelledClip],
    targets: Sequence[float],
    model: EchoFM,
    *,
    batch: int,
    epoch: int,
    seed: int,
    colour: bool,
    study: int = 0,
    in_a_row: int = 0,
) -> Iterator[Batch]:
    """Every clip once, or every examination with `study` clips of it, in an order of the epoch's.

    Args:
      clips: with `targets` beside them.
      model: says what a window is, and where it goes.
      batch: clips a batch, or examinations.
      study: how many clips of each examination; 0: clips answer for themselves.
      in_a_row: how many windows of a clip at most, side by side; 0: one from anywhere.
    """
    rng = np.random.default_rng(draw(seed, epoch))
    groups = list(studies_of(clips).values()) if study else [[i] for i in range(len(clips))]
    order = rng.permutation(len(groups))
    chosen = [rng.permutation(groups[i])[: study or 1] for i in order]
    cut = cut_of(model, colour)

    def windows_of(row: int) -> np.ndarray:
        pixels, own = clips[row].read(cut.size, colour), draw(seed, epoch, row)
        if in_a_row:
            return windows_in_a_row(pixels, cut, in_a_row, np.random.default_rng(own))
        return one_window(pixels, cut, np.random.default_rng(own))

    def read(part: int) -> Batch:
        own = chosen[part : part + batch]
        rows = [int(row) for group in own for row in group]
        windows = [windows_of(row) for row in rows]
        return Batch(
            clips=model.preprocess(np.concatenate(windows)),
            recordings=torch.tensor(np.repeat(range(len(rows)), list(map(len, windows)))),
            studies=torch.tensor(np.repeat(range(len(own)), list(map(len, own))))
            if study
            else None,
            targets=torch.tensor([targets[group[0]] for group in own]),
        )

    yield from read_ahead(range(0, len(groups), batch), read)


def studies_of(clips: Sequence[LabelledClip]) -> dict[Hashable, list[int]]:
    """{examination: which clips}; a clip of none is one of its own.

    Two patients may have examinations of one name: they are two.
    """
    found: dict[Hashable, list[int]] = {}
    for i, clip in enumerate(clips):
        found.setdefault((clip.patient, clip.study) if clip.study else i, []).append(i)
    return found
