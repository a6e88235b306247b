"""What a machine's screen shows of a simulated clip: the sector, and overlays around it."""

from collections.abc import Sequence

import cv2
import numpy as np

from data_pipelines.phantom_image import PhantomClip

OVERLAYS = ("text", "ruler", "ecg", "logo")


def screen(
    clip: PhantomClip,
    person: dict[str, str],
    baseline: float | None = None,
    overlays: Sequence[str] = OVERLAYS,
) -> np.ndarray:
    """The clip with those of `OVERLAYS` that are asked for; SIMULATED it says in any case.

    `text` is the person's name and dates, the number of the frame and the heart rate.

    Returns [T, H, W] or [T, H, W, 3] uint8. Inside the sector nothing is changed, but where the ECG
    is asked to have its `baseline` at that share of the screen's height.
    """
    frames = clip.frames.copy()
    height, width = frames.shape[1:3]
    still = np.zeros((height, width), np.uint8)
    small = height / 480 * 0.45
    text = lambda image, words, x, y: cv2.putText(  # noqa: E731
        image, words, (int(x), int(y)), cv2.FONT_HERSHEY_SIMPLEX, small, 210, 1, cv2.LINE_AA
    )
    text(still, "SIMULATED", 0.80 * width, 0.035 * height)
    if "text" in overlays:
        text(still, f"{person['name'].replace('^', ', ')}  {person['id']}", 6, 0.035 * height)
        text(still, f"DOB {person['born']}  {person['seen']}", 6, 0.07 * height)
    if "logo" in overlays:
        at = (int(0.95 * width), int(0.09 * height))
        cv2.circle(still, at, int(0.02 * height), 160, -1)
    if "ruler" in overlays:
        for tick in np.linspace(0.12, 0.85, 9):
            y = int(tick * height)
            cv2.line(still, (width - 14, y), (width - 6, y), 200, 1)
    trace = clip.ecg.ravel()
    trace = (trace - trace.min()) / max(np.ptp(trace), 1e-6)
    x = np.linspace(6, width - 20, trace.size)
    points = np.stack([x, ((baseline or 0.98) - 0.07 * trace) * height], -1)
    per_frame = clip.ecg.shape[1]
    around = ~clip.sector
    for t, frame in enumerate(frames):
        drawn = still.copy()
        if "text" in overlays:
            text(drawn, f"{t + 1}/{len(frames)}", 6, 0.12 * height)
            text(drawn, f"{clip.heart_rate:.0f} bpm", 6, 0.16 * height)
        drawn &= around.astype(np.uint8) * 255
        if "ecg" in overlays:
            traced = np.zeros_like(drawn)
            now = np.int32(points[: (t + 1) * per_frame])
            cv2.polylines(traced, [now], False, 220, 1, cv2.LINE_AA)
            drawn = np.maximum(drawn, traced if baseline else traced * around)
        np.maximum(frame, drawn if frame.ndim == 2 else drawn[..., None], out=frame)
    return frames
