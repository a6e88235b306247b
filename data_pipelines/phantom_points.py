"""Where a simulated parasternal long axis is measured, and how thick it is there.

At end-diastole the masks agree with it within a pixel or two of the screen; at end-systole the
image's motion, worked out on a coarse grid, is up to a millimetre off.
"""

import numpy as np

from data_pipelines.phantom_image import PhantomClip
from data_pipelines.records import LANDMARKS


def measured_frames(clip: PhantomClip) -> list[int]:
    """Frames of end-diastole and end-systole whose landmarks all lie in the sector."""
    found = []
    for frame in sorted({*clip.end_diastole.tolist(), *clip.end_systole.tolist()}):
        x, y = np.rint(clip.points[frame]).astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < clip.sector.shape[1]) & (y < clip.sector.shape[0])
        if inside.all() and clip.sector[y, x].all():
            found.append(frame)
    return found


def named_points(clip: PhantomClip, box: tuple[slice, slice]) -> dict[str, dict[str, list[float]]]:
    """`points` of labels.jsonl, in pixels of a file that shows `box` of the screen."""
    first = [side.start or 0 for side in box[::-1]]  # x, y
    return {
        str(frame): dict(
            zip(LANDMARKS, (clip.points[frame] - first).round(3).tolist(), strict=True)
        )
        for frame in measured_frames(clip)
    }


def thickness(clip: PhantomClip) -> dict[str, dict[str, float]]:
    """Septum, cavity and posterior wall in mm, by frame."""
    found = {}
    for frame in measured_frames(clip):
        sides = np.diff(clip.points[frame], axis=0)  # [3, 2]
        mm = np.hypot(*sides.T) * 10 / clip.pixels  # [3]
        found[str(frame)] = dict(zip(("ivs", "lvid", "lvpw"), mm.round(3).tolist(), strict=True))
    return found
