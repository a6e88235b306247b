"""Features of any echo files: their windows through the model, several files in a batch."""

import collections
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from data_pipelines.clean_files import Cut, Refused, Windows, read_many, stamped
from echofm_jax.pytorch.modeling_echoapex import EchoApex, EchoApexConfig
from echofm_jax.pytorch.modeling_echofm import EchoFM, EchoFMConfig

KINDS = ("video", "frames", "tokens")


class Embedded(NamedTuple):
    """What a model makes of one recording of w windows; R rows."""

    features: np.ndarray  # float32: video [1, D], frames [w*t, D] or tokens [w, t*L, D]
    seconds: np.ndarray  # [R] of the first frame of what a row tells of; NaN = unknown
    fps: float  # frames a second, 0 = unknown
    windows: int
    whole: bool  # False: shorter than a window, and begun anew to fill one


def embed(
    model: EchoFM | EchoApex,
    files: Sequence[str | Path],
    *,
    kind: str = "video",
    fps: float = 0.0,
    colour: bool = False,
    precropped: bool = False,
    batch: int = 8,
    workers: int = 0,
) -> Iterator[Embedded | Refused]:
    """Features of echo files of any format, in their order, read and cleaned as for training.

        for file, found in zip(files, embed(model, files), strict=True):
            print(file, found.features.mean() if isinstance(found, Embedded) else found.reason)

    Args:
      model: on any device, in any dtype; `EchoFM.from_pretrained("FOLDER")`, or EchoApex's.
      kind: `video`: one row, the mean over windows side by side; `frames`: a time step's phase
        embedding, of EchoApex its CLS token; `tokens`: all tokens, a row a window.
      fps: frames a second of files that do not tell theirs; 0 = unknown, and such files are
        refused by a model whose window is in seconds.
      colour: keep colour, as `echofm ingest --colour`.
      precropped: you vouch that frames show the image alone.
      batch: windows in the model at once.
      workers: processes that read while the model runs (a script that asks for some needs the
        `__main__` guard of multiprocessing); 0: this one reads, too.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose one of {', '.join(KINDS)}")
    cut = cut_for(model.config, colour=colour, precropped=precropped, fps=fps)
    recordings = read_many([stamped(Path(file)) for file in files], cut, workers)
    return embed_recordings(model, recordings, kind, batch)


def cut_for(config: EchoFMConfig | EchoApexConfig, **how: bool | float) -> Cut:
    """How recordings are cut for a model; `how`: colour, precropped, fps."""
    c = config
    return Cut(size=c.size, frames=c.frames, window_seconds=c.window_seconds, **how)


def embed_recordings(
    model: EchoFM | EchoApex, recordings: Iterable[Windows | Refused], kind: str, batch: int
) -> Iterator[Embedded | Refused]:
    """Recordings in, what a model makes of them out, in order; their windows share batches."""
    waiting = collections.deque()  # recordings that are not told yet
    clips = []  # windows that wait for a full batch, [T, S, S(, 3)] each
    rows = []  # what the model made of windows of `waiting`, in order
    for recording in recordings:
        waiting.append(recording)
        for index in recording.index if isinstance(recording, Windows) else ():
            clips.append(recording.frames[index])
            if len(clips) == batch:
                rows.extend(run(model, clips, kind))
                clips.clear()
        yield from told(waiting, rows, model.config.tubelet, kind)
    if clips:
        rows.extend(run(model, clips, kind))
    yield from told(waiting, rows, model.config.tubelet, kind)


def run(model: EchoFM | EchoApex, clips: Sequence[np.ndarray], kind: str) -> np.ndarray:
    """Windows uint8 [T, S, S(, 3)] each → float32 [B, D], [B, t, D] or [B, t*L, D]."""
    # A kernel that cuDNN chose by the clock or in TF32 would give other digits in another run.
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact:
        pixels = torch.from_numpy(np.stack(clips)).to(model.cls_token.device)  # [B, T, S, S(, 3)]
        x = model.preprocess(pixels)  # [B, 3, T, S, S]
        if kind == "frames":
            x = model.frame_embeddings(x)  # [B, t, D]
        else:
            x = model.encode_tokens(x)  # [B, t*L, D]
            x = x.mean(1) if kind == "video" else x  # [B, D]
        return x.float().cpu().numpy()


def told(
    waiting: collections.deque, rows: list, tubelet: int, kind: str
) -> Iterator[Embedded | Refused]:
    """Take from both what is complete."""
    while waiting and (isinstance(waiting[0], Refused) or len(waiting[0].index) <= len(rows)):
        recording = waiting.popleft()
        if isinstance(recording, Refused):
            yield recording
            continue
        count = len(recording.index)
        features, seconds = np.stack(rows[:count]), recording.seconds  # [w, ...], [w, T]
        del rows[:count]
        if kind == "video":
            features, seconds = features.mean(0, keepdims=True), seconds[:1, 0]  # [1, D], [1]
        elif kind == "frames":
            features = features.reshape(-1, features.shape[-1])  # [w*t, D]
            seconds = seconds[:, ::tubelet].reshape(-1)  # [w*t]
        else:
            seconds = seconds[:, 0]  # [w]
        yield Embedded(features, seconds, recording.fps, count, recording.whole)
