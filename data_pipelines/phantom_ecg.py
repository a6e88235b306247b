"""The electrocardiogram of simulated beats: one lead, an R wave is 1 high."""

import numpy as np

from data_pipelines.phantom_beats import Beats

# Seconds from the R wave, standard deviation in seconds, height.
P_WAVE = ((-0.15, 0.022, 0.12),)
NARROW_QRS = ((-0.028, 0.007, -0.10), (0.0, 0.009, 1.0), (0.028, 0.008, -0.20))
WIDE_QRS = ((0.0, 0.030, 1.0), (0.075, 0.028, -0.45))  # from a ventricle: broad, without P
T_WAVE = (0.85, 0.035, 0.25)  # its place in parts of systole
FIBRILLATION = ((5.3, 0.05), (6.7, 0.035))  # f waves, 300 to 600 a minute: hertz, height


def ecg(beats: Beats, times: np.ndarray) -> np.ndarray:
    """The lead at each of `times` [s], any shape."""
    lead = np.zeros(times.shape)
    for start, end_systole, atrial, premature in zip(
        beats.start, beats.end_systole, beats.atrial, beats.premature, strict=True
    ):
        place, width, height = T_WAVE
        waves = [(place * end_systole, width, -height if premature else height)]
        waves += WIDE_QRS if premature else NARROW_QRS
        waves += P_WAVE if atrial else ()
        for at, width, height in waves:
            lead += height * np.exp(-0.5 * ((times - start - at) / width) ** 2)
    if not beats.atrial.any():
        lead += sum(height * np.sin(2 * np.pi * hertz * times) for hertz, height in FIBRILLATION)
    return lead
