"""The noise from which the model draws its mask: the smallest values stay visible."""

import cv2
import numpy as np

from echofm_jax.masking import noise_shape


def mask_noise(
    masking: str, steps: int, grid: int, sector: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    """One clip's noise, uniform in [0, 1), float32, of `echofm_jax.masking.noise_shape`.

    Args:
      masking: one of `echofm_jax.masking.KINDS`.
      steps: number of time steps t.
      grid: patches along a side, so that L = grid².
      sector: [S, S] bool, True inside the ultrasound sector, None where it is not known. `sector`
        masking adds 1 to the patches of which less than half lies inside, so that they rank last.
      rng: draws the noise.
    """
    noise = rng.random(noise_shape(masking, steps, grid * grid), np.float32)
    if masking == "sector" and sector is not None:
        share = cv2.resize(sector.astype(np.float32), (grid, grid), interpolation=cv2.INTER_AREA)
        noise += (share < 0.5).reshape(-1)  # [grid, grid] → [L]
    return noise
