"""Clips from video files (AVI, MP4, MOV, MKV, WMV) and animated GIFs."""

from pathlib import Path

import av
import numpy as np
from PIL import Image

from data_pipelines.arrays import RATES, check_extent
from data_pipelines.clip import MAX_FRAMES_READ, Clip, Rejected

MIN_CHROMA = 16  # grey levels between channels; compression alone makes a few
MIN_GIF_DURATION = 20  # ms; viewers show 0 and 10 ms as 100 ms, so neither is a time


def read(path: Path) -> Clip:
    """Read a video; frames are grey where no pixel of the clip has a colour.

    Raises:
        Rejected: no clip, or less of it than the container announces.
    """
    with path.open("rb") as file:
        is_gif = file.read(4) == b"GIF8"
    return _read_gif(path) if is_gif else _read_stream(path)


def _read_stream(path: Path) -> Clip:
    # An edit list hides frames without removing them: then counting them would prove nothing.
    with av.open(str(path), options={"ignore_editlist": "1"}) as container:
        if not container.streams.video:
            reason = "not_video" if container.streams.audio else "unreadable"
            raise Rejected(reason, "no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise Rejected("unreadable", "no decoder")
        stream.codec_context.thread_count = 1  # files are read side by side
        if stream.frames:
            check_extent(stream.frames, stream.height, stream.width, 3)
        frames, stamps, broken = [], [], 0
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                broken += 1
                continue
            for frame in decoded:
                if frame.is_corrupt:
                    broken += 1
                    continue
                frames.append(frame.to_ndarray(format="rgb24"))  # [H, W, 3]
                stamps.append(frame.pts)
                if len(frames) > 1:
                    check_extent(len(frames), frame.height, frame.width, 3)
        held = len(frames)
        if container.format.name == "avi" and frames and None not in stamps:
            # One tick a frame; an empty chunk, which counts as one, repeats the frame before it.
            held = max(held, stamps[-1] - stamps[0] + 1 - broken)
        if held < stream.frames - 1:
            raise Rejected("truncated", f"{held} of {stream.frames} frames")
        if not frames:
            raise Rejected("empty", "no frames")
        check_extent(len(frames), *frames[0].shape)
        if any(frame.shape != frames[0].shape for frame in frames):
            raise Rejected("unreadable", "the frame size changes")
        times = _times(stamps, stream.time_base, stream.average_rate)
        if not stream.frames and not container.streams.audio and stamps[-1] is not None:
            _check_duration(container, times, stamps[-1] * stream.time_base)
    source = "unknown" if times is None else "container"
    return Clip(frames=_stack(frames), times=times, fps_source=source)


def _times(stamps: list[int | None], time_base, rate) -> np.ndarray | None:
    """Seconds from the first frame, [T]: time stamps where they rise, else the mean rate."""
    if time_base and None not in stamps:
        times = (np.array(stamps, np.float64) - stamps[0]) * float(time_base)
        if np.all(np.diff(times) > 0):
            return times
    if rate and RATES[0] <= rate <= RATES[1]:
        return np.arange(len(stamps)) / float(rate)
    return None


def _check_duration(container, times: np.ndarray | None, last: float) -> None:
    """Where a container (MKV, WMV) counts no frames, its duration tells what is missing.

    `last` is the time stamp of the last frame in seconds.
    """
    if container.duration is None:
        if container.format.name == "asf":  # FFmpeg drops a duration that the size contradicts
            raise Rejected("truncated", "no valid duration")
    elif times is not None and len(times) > 1:
        missing = container.duration / av.time_base - last  # of a whole clip: one frame
        if missing > 2.5 * np.diff(times).max():
            raise Rejected("truncated", "shorter than announced")


def _stack(frames: list[np.ndarray]) -> np.ndarray:
    """RGB frames → [T, H, W, 3], or [T, H, W] where no pixel has a colour; empties the list."""
    colour = any(_has_colour(frame) for frame in frames)
    height, width, _ = frames[0].shape
    clip = np.empty(
        (len(frames), height, width, 3) if colour else (len(frames), height, width), np.uint8
    )
    for out in clip:
        frame = frames.pop(0)  # gives its memory back: a long clip is never held twice
        out[...] = frame if colour else frame[..., 1]
    return clip


def _has_colour(frame: np.ndarray) -> bool:
    red, green, blue = np.moveaxis(frame, -1, 0)
    highest = np.maximum(np.maximum(red, green), blue)
    lowest = np.minimum(np.minimum(red, green), blue)
    return bool(np.max(highest - lowest) > MIN_CHROMA)


def _read_gif(path: Path) -> Clip:
    # Pillow, because FFmpeg replaces short durations by 100 ms without a word.
    with Image.open(path, formats=["GIF"]) as image:
        count = getattr(image, "n_frames", 1)
        check_extent(min(count, MAX_FRAMES_READ + 1), image.height, image.width, 3)
        frames, durations = [], []
        for index in range(count):
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB")))
            durations.append(image.info.get("duration", 0))
    if min(durations[:-1]) < MIN_GIF_DURATION:
        return Clip(frames=_stack(frames), times=None, fps_source="unknown")
    times = np.concatenate([[0.0], np.cumsum(durations[:-1])]) / 1000
    return Clip(frames=_stack(frames), times=times, fps_source="container")
