"""What the steps of one recording tell of its cardiac phase, beside what is known of it."""

from collections.abc import Mapping

import numpy as np

from echofm_jax import phase
from echofm_jax.readout import CycleReadout, event_error, irregularity
from echofm_jax.recordings import Described, Recording, grey

RHYTHMS = {"sinus": "sinus", "atrial_fibrillation": "af"}  # that figures are given of


def phase_measures(
    recording: Recording, described: Described, readouts: Mapping[str, CycleReadout], tubelet: int
) -> dict:
    """Figures of one recording, at least a window long; nan where nothing is known.

    Args:
      recording: with its labels.
      described: its steps, by source; `model` must be one of them.
      readouts: source: fitted on other patients; empty if there were none to fit on.
      tubelet: frames of a step.

    Returns:
      For each source, and for the model's `tokens`, `cross_beat_error_*` (% of a cycle; also under
      the rhythm's own name), `heart_rate_*` (bpm), `heart_rate_found_*` (0 or 1) and
      `heart_rate_error_*`; for each source `end_diastole_error_*` and `end_systole_error_*` (ms,
      `event_error`) with the same in frames of the file, and `irregularity_*`;
      `cross_beat_error_chance`, `heart_rate_true`, `irregularity_truth`, `rhythm`; of the model's
      steps `same_phase` [m] (step index, -1 for none) and `seconds_per_step`; and what
      `cavity_events` returns.
    """
    starts = described.starts
    seconds = float(starts[1] - starts[0]) * recording.seconds
    beats = phase.step_beat_time(recording.beats, starts, tubelet)
    true_rate = mean_rate(beats, seconds)
    known = len(recording.end_diastole) > 0
    found = {
        "seconds_per_step": seconds,
        "heart_rate_true": true_rate,
        "rhythm": recording.rhythm,
        "irregularity_truth": irregularity(recording.end_diastole) if known else float("nan"),
    }
    similarities = {name: phase.similarity(z) for name, z in described.steps.items()}
    similarities["tokens"] = phase.similarity(described.features["model"])
    for name, S in similarities.items():
        error, chance = phase.cross_beat_phase_error(S, beats)
        rate = phase.heart_rate(S, seconds)
        found |= {
            f"cross_beat_error_{name}": error,
            "cross_beat_error_chance": chance,
            f"heart_rate_{name}": rate,
            f"heart_rate_found_{name}": float(np.isfinite(rate)),
            f"heart_rate_error_{name}": abs(rate - true_rate),
        }
    for name, readout in readouts.items():
        events = readout.events(described.features[name], starts, tubelet)
        found |= event_errors(recording, events, starts, tubelet, name)
        found[f"irregularity_{name}"] = irregularity(events[0])
    half_cycle = np.nan_to_num(30 / found["heart_rate_model"], nan=0.4)
    same = phase.same_phase_retrieval(similarities["model"], seconds, half_cycle)
    found["same_phase"] = same.tolist()
    if rhythm := RHYTHMS.get(recording.rhythm):
        for name in (*similarities, "chance"):
            found[f"cross_beat_error_{rhythm}_{name}"] = found[f"cross_beat_error_{name}"]
    return found | cavity_events(recording, similarities["model"], starts, tubelet)


def mean_rate(beats: np.ndarray, seconds: float) -> float:
    """[m] time in beats of steps `seconds` apart → beats per minute; nan without a full beat."""
    at = np.flatnonzero(np.isfinite(beats))
    if len(at) < 2 or beats[at[-1]] - beats[at[0]] < 1:
        return float("nan")
    return float(60 * (beats[at[-1]] - beats[at[0]]) / ((at[-1] - at[0]) * seconds))


def event_errors(
    recording: Recording,
    events: tuple[np.ndarray, np.ndarray],
    starts: np.ndarray,
    tubelet: int,
    source: str,
) -> dict[str, float]:
    """`end_diastole_error_*` and `end_systole_error_*` [ms], `*_frames_*` in the file's frames."""
    middle = starts + (tubelet - 1) / 2
    found = {}
    for name, own in zip(("end_diastole", "end_systole"), events, strict=True):
        labels = getattr(recording, name)
        samples = event_error(labels, own, middle[0], middle[-1])
        found[f"{name}_error_{source}"] = 1000 * samples * recording.seconds
        found[f"{name}_frames_{source}"] = samples * recording.seconds * recording.fps
    return found


def cavity_events(
    recording: Recording, S: np.ndarray, starts: np.ndarray, tubelet: int
) -> dict[str, float | list[float]]:
    """Candidates for ED and ES without any fit: where the cavity's curve turns, told by S.

    `end_diastole_seconds` and `end_systole_seconds` from the recording's first frame, and their
    errors as those of a source named `cavity`.
    """
    cavity = phase.cavity_curve(grey(recording.frames), recording.sector)
    cavity = cavity[starts[:, None] + np.arange(tubelet)].mean(1)  # [m]
    turns = phase.end_diastole_end_systole(S, cavity, (starts[1] - starts[0]) * recording.seconds)
    middle = starts + (tubelet - 1) / 2
    events = middle[turns.highs], middle[turns.lows]
    return {
        "end_diastole_seconds": (events[0] * recording.seconds).tolist(),
        "end_systole_seconds": (events[1] * recording.seconds).tolist(),
    } | event_errors(recording, events, starts, tubelet, "cavity")
