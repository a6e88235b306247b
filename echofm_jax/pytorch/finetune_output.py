"""What every training of `echofm finetune` writes: predictions, the head, metrics.json."""

import contextlib
import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from echofm_jax.atomic import write_text
from echofm_jax.pytorch import head_folder
from echofm_jax.pytorch.scores import Score, strict

if TYPE_CHECKING:
    from echofm_jax.pytorch.finetune_run import Run


@contextlib.contextmanager
def predictions(folder: Path) -> Iterator[Callable[[Sequence], None]]:
    """Writes rows of predictions.csv, which is there whole or not at all; its owner alone reads it.

    It has the files' names, or patients'.
    """
    path = folder / "predictions.csv"
    half = path.with_name(f".{path.name}")
    half.touch(0o600)
    with half.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield csv.writer(file).writerow
    half.replace(path)


def facts(
    run: "Run", outputs: Sequence[str], parts: Mapping[str, Any], training: Mapping,
    scores: Mapping[str, Score], chance: Mapping[str, float], **more: object,
) -> dict:  # fmt: skip
    """What metrics.json holds of any training.

    Args:
      run: what was trained.
      outputs: names of what it answers.
      parts: split: something with `clips`.
      training: `epochs`, `trained_parameters`, `peak_memory`.
      scores: of the test set; `chance`: of who knows the training labels alone.
      more: the task's own.
    """
    return strict({
        "task": run.task, "target": run.target, "outputs": outputs, "seed": run.seed,
        "weights": "random" if run.random else "pretrained", "simulated": run.simulated,
        "recipe": dataclasses.asdict(run.recipe),
        "clips": {split: len(part.clips) for split, part in parts.items()},
        "patients": {s: len({c.patient for c in p.clips}) for s, p in parts.items()},
        **training,
        "scores": {name: score._asdict() for name, score in scores.items()},
        "chance": chance,
        **more,
    })  # fmt: skip


def finish(
    run: "Run", model: nn.Module, metrics: Mapping, scores: Mapping[str, Score],
    code: Sequence[str], words: Mapping[str, str],
) -> None:  # fmt: skip
    """Write the head, then metrics.json: with it the run is whole. Arguments as `write_trained`."""
    head_folder.write_trained(run, model, metrics, scores, code, words)
    write_text(run.folder / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    (run.folder / "state.pt").unlink(missing_ok=True)
