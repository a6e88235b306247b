"""The figures of an evaluation, into a folder; each in a light and a dark version."""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from echofm_jax import (
    phase,
    visualize,
    visualize_attention,
    visualize_clips,
    visualize_trajectory,
    visualize_views,
)
from echofm_jax.architecture import Architecture
from echofm_jax.attention_rollout import relevance, rollout
from echofm_jax.held_out import INPUTS, reconstruction_frames
from echofm_jax.held_out_recordings import HeldOut
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.recordings import grey, pixel_features


def draw_figures(
    folder: Path,
    params: dict,
    batch: dict,
    held_out: HeldOut,
    split: str,
    simulated: bool,
    *,
    arch: Architecture,
    objective: EchoFMObjective,
) -> None:
    """Draw what there is to show of an EchoFM.

    Args:
      folder: of the pictures.
      params: the model's.
      batch: of held-out clips, as `held_out.measure_clips` takes it; its first one is drawn.
      held_out: their recordings, measured.
      split: of the clips.
      simulated: whether the data set comes from the phantom; then every figure says so.
      arch: of the model.
      objective: how it hides tubelets.
    """
    said = {"simulated": simulated}
    rate, clip = float(batch["fps"][0]), batch["clip"][:1]
    seconds = 1 / rate if rate else float("nan")
    views = reconstruction_frames(
        params, {k: batch[k][:1] for k in INPUTS}, arch=arch, objective=objective
    )
    rebuilt = (*(np.asarray(view[0]) for view in views), arch.target_frames, seconds)
    visualize_clips.reconstruction(folder / "reconstruction.png", *rebuilt, **said)
    visualize_clips.reconstruction_gif(folder / "reconstruction.gif", *rebuilt, **said)
    _, shares = jax.jit(partial(rollout, arch=arch))(params, clip)
    drawn_on = np.asarray(relevance(shares, arch)[0])  # [t, L]
    visualize_attention.attention_map(
        folder / "attention.png", grey(clip[0]), drawn_on, seconds, **said
    )
    draw_recordings(folder, params, batch, held_out, split, simulated, tubelet=arch.tubelet)


def draw_recordings(
    folder: Path, params: dict, batch: dict, held_out: HeldOut, split: str, simulated: bool, *,
    tubelet: int,
) -> None:  # fmt: skip
    """What any model's embeddings of recordings show; arguments as `draw_figures` takes them."""
    if held_out.drawn is not None:
        draw_recording(folder, held_out, tubelet, simulated)
    train, test = held_out.train, held_out.test
    if train is not None:
        sides = [(part.video["model"], part.view.tolist()) for part in (train, test)]
        visualize_views.view_map(folder / "views.png", *sides, split, simulated=simulated)


def draw_recording(folder: Path, held_out: HeldOut, tubelet: int, simulated: bool) -> None:
    """Similarity maps and the path of the recording with most heartbeats."""
    recording, described, measured = held_out.drawn
    time = {
        "seconds_per_step": measured["seconds_per_step"],
        "beats": phase.step_beat_time(recording.beats, described.starts, tubelet),
    }
    visualize.similarity_maps(
        folder / "similarity.png",
        embedding=phase.similarity(described.steps["model"]),
        prior=phase.similarity(pixel_features(recording.frames, described.starts, tubelet)),
        **time,
        simulated=simulated,
    )
    visualize_trajectory.trajectory(
        folder / "trajectory.gif",
        frames=grey(recording.frames),
        starts=described.starts,
        tubelet=tubelet,
        z=described.steps["model"],
        same_phase=np.array(measured["same_phase"]),
        **time,
        simulated=simulated,
    )
