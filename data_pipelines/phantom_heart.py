"""One simulated person's heart: its sizes, its rate, and how strongly it beats."""

from dataclasses import dataclass, replace

import numpy as np

from data_pipelines.phantom_rhythm import HEART_RATES
from data_pipelines.records import GRADES

VALVE_SHARES = (0.6, 0.2, 0.2)  # of `records.GRADES`, for either disease of the aortic valve


@dataclass(frozen=True, kw_only=True)
class Heart:
    """One person's heart."""

    heart_rate: float  # beats a minute, mean
    rr_variation: float  # relative standard deviation of the RR interval
    ejection_fraction: float  # percent, of its usual beat
    end_diastolic_volume: float  # ml
    wall: float  # cm, left ventricular wall at end-diastole
    slenderness: float  # left ventricular length over its half-width
    right_width: float  # cm, right ventricle at its base
    atrium: float  # cm, length of the left atrium
    rhythm: str = "sinus"  # one of phantom_rhythm.RHYTHMS
    aortic_stenosis: str = "none"  # one of records.GRADES
    aortic_regurgitation: str = "none"

    @classmethod
    def draw(cls, rng: np.random.Generator, rhythm: str = "sinus") -> "Heart":
        """A heart within the range seen in clinics.

        Weak hearts and those that leak are larger, those that press through a narrow valve have
        thicker walls, as they remodel.
        """
        ejection_fraction = rng.uniform(15, 75)
        stenosis, regurgitation = rng.choice(len(GRADES), 2, p=VALVE_SHARES).tolist()
        volume = rng.uniform(80, 140) + 1.2 * max(0.0, 50 - ejection_fraction)
        return cls(
            heart_rate=rng.uniform(*HEART_RATES[rhythm]),
            rr_variation=rng.uniform(0.005, 0.03),
            ejection_fraction=ejection_fraction,
            end_diastolic_volume=volume * (1 + 0.1 * regurgitation),
            wall=rng.uniform(0.8, 1.15) + 0.12 * stenosis,
            slenderness=rng.uniform(3.3, 3.9),
            right_width=rng.uniform(2.2, 3.0),
            atrium=rng.uniform(3.9, 5.2),
            rhythm=rhythm,
            aortic_stenosis=GRADES[stenosis],
            aortic_regurgitation=GRADES[regurgitation],
        )

    def hypertrophic(self, rng: np.random.Generator) -> "Heart":
        """The same heart with walls of 1.3 to 2.0 cm, and the same cavity."""
        return replace(self, wall=rng.uniform(1.3, 2.0))

    @property
    def half_width(self) -> float:
        """Of the left ventricular cavity at its widest, cm."""
        return (self.end_diastolic_volume / (np.pi * self.slenderness * MEAN_SQUARE)) ** (1 / 3)

    @property
    def length(self) -> float:
        """Of the left ventricular cavity from apex to annulus, cm."""
        return self.slenderness * self.half_width

    def volumes(self, contraction: np.ndarray) -> np.ndarray:
        """Left ventricular volume [ml] at each contraction (usually 0 at ED, 1 at ES)."""
        return self.end_diastolic_volume * (1 - self.ejection_fraction / 100 * contraction)

    def shortening(self, contraction: np.ndarray) -> np.ndarray:
        """Relative shortening of the long axis (17 % at an ejection fraction of 60 %)."""
        return 0.28 * self.ejection_fraction / 100 * contraction


def profile(x: np.ndarray) -> np.ndarray:
    """Half-width of the left ventricle, 1 at its widest; x is 0 at the apex, 1 at the annulus."""
    reach = np.where(x < 0.6, 0.6, 0.62)
    return np.sqrt(np.clip(1 - ((x - 0.6) / reach) ** 2, 0, None)) * ((x >= 0) & (x <= 1))


MEAN_SQUARE = float(np.mean(profile(np.linspace(0, 1, 501)) ** 2))
