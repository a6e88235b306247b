"""What a head reads of every clip, by a frozen encoder: computed once, kept in one file."""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from data_pipelines.labelled import LabelledClip
from echofm_jax import __version__
from echofm_jax.atomic import write_text
from echofm_jax.errors import InputError
from echofm_jax.pytorch.clip_batches import all_windows, cut_of, read_ahead, times
from echofm_jax.pytorch.fitting import within_memory
from echofm_jax.pytorch.head_echofm import EchoFMHead

KEEP = 64  # clips after which what is done is kept


def recording_maps(
    model: EchoFMHead,
    clips: Sequence[LabelledClip],
    *,
    batch: int,
    colour: bool,
    folder: Path | None = None,
    weights: str = "",
    quiet: bool = False,
) -> torch.Tensor:
    """Maps [R, P, 2D] float32 of clips by the encoder as it is now, over all their windows.

    Those of a temporal head, which are larger, are float16.

    Args:
      batch: windows in the model at once.
      folder: where they are kept, under a hash of `weights` and of what the clips are; a call that
        was killed goes on from there. None: nowhere.
      weights: tells the encoder's weights.
      quiet: show no progress.

    Raises:
      InputError: clips whose frame rate must be known and is not, all by name.
    """
    cut = cut_of(model.encoder, colour)
    shape = (len(clips), *model.map_shape)
    told = (__version__, weights, model.encoder.config, colour, [repr(clip.read) for clip in clips])
    told += ("temporal",) * model.head.temporal
    key = hashlib.sha256(repr(told).encode(errors="surrogateescape")).hexdigest()[:16]
    dtype = np.float16 if model.head.temporal else np.float32
    maps, done = opened(folder, key, shape, dtype)
    unknown = []

    def read(row: int) -> np.ndarray | None:
        pixels = clips[row].read(cut.size, colour)
        if cut.window_seconds and times(pixels) is None:
            return None
        return all_windows(pixels, cut)

    rows = range(done, len(clips))
    hidden = True if quiet or not rows else None  # None: where standard error is no terminal
    show = tqdm(rows, "encoding clips", unit="clip", file=sys.stderr, disable=hidden)
    for row, windows in zip(show, read_ahead(rows, read), strict=True):
        if windows is None:
            unknown.append(clips[row].name)
            continue
        maps[row] = of_windows(model, windows, batch)
        if folder and not unknown and ((row + 1) % KEEP == 0 or row + 1 == len(clips)):
            maps.flush()
            write_text(folder / f"{key}.json", json.dumps({"done": row + 1}))
    if unknown:
        raise InputError(
            f"{len(unknown)} clips tell no frame rate, and this model's window is "
            f"{cut.window_seconds:g} s: give --fps, or a column fps ({', '.join(unknown)})"
        )
    return torch.from_numpy(maps)


def of_windows(model: EchoFMHead, windows: np.ndarray, batch: int) -> np.ndarray:
    """The map [P, 2D] of a recording's windows [w, T, S, S(, 3)] uint8."""
    device = model.encoder.cls_token.device
    found = []
    with torch.no_grad(), within_memory(device):
        for part in np.array_split(windows, -(-len(windows) // batch)):
            clips = model.encoder.preprocess(torch.from_numpy(part))  # [b, 3, T, S, S]
            found.append(model.window_maps(clips).float().cpu())  # [b, P, 2D]
    whole = torch.zeros(len(windows), dtype=torch.long)
    return model.joined(torch.cat(found), whole)[0].numpy()  # [P, 2D]


def opened(
    folder: Path | None, key: str, shape: tuple[int, ...], dtype: type
) -> tuple[np.ndarray, int]:
    """(maps of a shape, how many are done); kept in a folder, they are a file's memory."""
    if folder is None:
        return np.zeros(shape, dtype), 0
    file, note = folder / f"{key}.npy", folder / f"{key}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists() and note.exists():
            return np.load(file, mmap_mode="r+"), json.loads(note.read_text())["done"]
        return np.lib.format.open_memmap(file, "w+", dtype, shape), 0
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}): free some space"
        ) from None
