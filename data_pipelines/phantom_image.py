"""Simulated echo clips with the truth about them: a heart, its rhythm and a view of it."""

from dataclasses import dataclass

import numpy as np

from data_pipelines import phantom_tissue
from data_pipelines.phantom_beats import Beats
from data_pipelines.phantom_colour import COLOUR_VIEWS, add_colour
from data_pipelines.phantom_ecg import ecg
from data_pipelines.phantom_fan import Fan
from data_pipelines.phantom_heart import Heart
from data_pipelines.phantom_long_axis import LongAxis
from data_pipelines.phantom_rhythm import BREATHS, r_waves
from data_pipelines.phantom_scan import Moments, scan
from data_pipelines.phantom_short_axis import LEVELS, ShortAxis

VIEWS = ("A4C", "A2C", "PLAX", *LEVELS)  # of records.VIEWS
ECG_SAMPLES = 8  # a frame
FRAME_RATES, COLOUR_FRAME_RATES = (20, 80), (20, 30)  # a second; colour takes several pulses a beam
SECONDS = (2, 4)
MASKS = {"LV": phantom_tissue.LV, "LA": phantom_tissue.LA, "RV": phantom_tissue.RV,
         "RA": phantom_tissue.RA, "myocardium": phantom_tissue.MYOCARDIUM}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PhantomClip:
    """A simulated clip and the truth about it."""

    frames: np.ndarray  # [T, H, W] uint8, colour Doppler [T, H, W, 3]
    times: np.ndarray  # [T] s, first is 0
    fps: float
    phase: np.ndarray  # [T] in [0, 1), 0 = end-diastole
    end_diastole: np.ndarray  # frame indices: the first frame at or after each R wave
    end_systole: np.ndarray  # frame indices: the first frame at or after each end of ejection
    r_waves: np.ndarray  # [n] s, of every beat that the clip shows a part of; the first may be < 0
    rr_intervals: np.ndarray  # [n] s, from each of them to the next
    premature: np.ndarray  # [n] bool
    volumes: np.ndarray  # [T] ml, left ventricle
    beat_ejection_fractions: np.ndarray  # [n] percent
    ejection_fraction: float  # percent, mean of the beats shown from end-diastole to end-systole
    heart_rate: float  # beats a minute, of the beats this clip shows
    rhythm: str  # one of phantom_rhythm.RHYTHMS
    aortic_stenosis: str  # one of records.GRADES
    aortic_regurgitation: str
    view: str
    ecg: np.ndarray  # [T, ECG_SAMPLES] one lead, from each frame to the next
    sector: np.ndarray  # [H, W] bool
    pixels: float  # a centimetre
    masks: dict[str, np.ndarray]  # LV, LA, RV, RA, myocardium: [T, H, W] bool
    points: np.ndarray  # [T, 4, 2] x, y of records.LANDMARKS in PLAX; of other views [T, 0, 2]


def simulate(
    view: str,
    seed: int,
    size: tuple[int, int] = (480, 640),
    heart: Heart | None = None,
    colour: bool = False,
) -> PhantomClip:
    """A clip of 2–4 s at 20–80 frames a second, the same for the same arguments.

    `view` is one of `VIEWS`, `size` is (H, W) in pixels; without `heart` the seed draws one in
    sinus rhythm, too. `colour` adds colour Doppler where a view (`COLOUR_VIEWS`) shows inflow or
    outflow.
    """
    rng = np.random.default_rng([seed, VIEWS.index(view)])
    heart = heart or Heart.draw(rng)
    colour = colour and view in COLOUR_VIEWS
    fps = float(np.round(rng.uniform(*(COLOUR_FRAME_RATES if colour else FRAME_RATES)), 1))
    seconds = rng.uniform(*SECONDS)
    rr, breath, drift = 60.0 / heart.heart_rate, *rng.uniform(size=2)
    waves = r_waves(heart.rhythm, rr, heart.rr_variation, seconds, breath, rng)
    beats = Beats.of(waves, rr)
    # Long enough that one beat is seen from end-diastole to end-systole.
    seconds = max(seconds, (beats.start + beats.end_systole)[beats.start > 0][0] + 3 / fps)
    times = np.arange(int(seconds * fps)) / fps
    fan = Fan.draw(view, heart, size, rng)
    shape = (ShortAxis if view in LEVELS else LongAxis)(heart, view)
    contraction = beats.contraction(times)
    x, z, turn = _probe(times, contraction, breath, drift)
    moments = Moments(
        contraction, beats.mitral_opening(times), beats.aortic_opening(times),
        np.stack(fan.axes(x, z), -1), turn,
    )  # fmt: skip
    frames, labels, sector = scan(shape, fan, size, moments, rng)
    if colour:
        frames = add_colour(frames, labels, shape, fan, moments, times, rng)
    points = np.zeros((len(times), 0, 2))
    if view == "PLAX":
        u, v = np.moveaxis(shape.landmarks(contraction) + moments.shift[:, None], -1, 0)  # [T, 4]
        points = np.stack(fan.to_screen(*fan.from_heart(u, v)), -1)
    shown, _ = beats.locate(times)
    shown = np.unique(shown)
    end_diastolic, end_systolic = heart.volumes(beats.full), heart.volumes(beats.empty)
    fractions = 100 * (1 - end_systolic / end_diastolic)
    whole = (beats.start > 0) & (beats.start + beats.end_systole <= times[-1])
    ticks = times[:, None] + np.arange(ECG_SAMPLES) / (ECG_SAMPLES * fps)
    return PhantomClip(
        frames=frames,
        times=times,
        fps=fps,
        phase=beats.phase(times),
        end_diastole=_first_frames(times, beats.start),
        end_systole=_first_frames(times, beats.start + beats.end_systole),
        r_waves=beats.start[shown],
        rr_intervals=beats.rr[shown],
        premature=beats.premature[shown],
        volumes=heart.volumes(moments.contraction),
        beat_ejection_fractions=fractions[shown],
        ejection_fraction=float(fractions[whole].mean()),
        heart_rate=60.0 / float(beats.rr[shown].mean()),
        rhythm=heart.rhythm,
        aortic_stenosis=heart.aortic_stenosis,
        aortic_regurgitation=heart.aortic_regurgitation,
        view=view,
        ecg=ecg(beats, ticks),
        sector=sector,
        pixels=fan.pixels,
        masks={name: labels == label for name, label in MASKS.items()},
        points=points,
    )


def _probe(
    times: np.ndarray, contraction: np.ndarray, breath: float, drift: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the heart moves under the probe, [T] each: right and down in cm, out of the plane in rad.

    Breath moves it up and down, the hand slides and trembles (8–12 Hz: Lakie 2010), and each
    contraction draws some of the ventricle through the plane.
    """
    wave = lambda hertz, start: np.sin(2 * np.pi * (hertz * times + start))  # noqa: E731
    right = 0.2 * wave(0.13, drift) + 0.015 * wave(9.0, breath)
    down = 0.25 * wave(BREATHS, breath) + 0.015 * wave(10.3, drift)
    return right, down, 0.5 * wave(0.2, drift) + 0.1 * contraction


def _first_frames(times: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Indices of the first frame at or after each event [s] that the frames show."""
    return np.searchsorted(times, events[(events > 0) & (events <= times[-1])])
