"""Runs to compare, of sweeps and of single workdirs: setting, seed, metrics and cost of each."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax.errors import InputError
from echofm_jax.goodput import overall, read_runs
from echofm_jax.objectives import Objective
from echofm_jax.sweep_cell import last_step, progress, without
from echofm_jax.sweep_file import HOW

COUNTS = ("step", "clips", "patients", "fitted_on")  # what was looked at, not what was found


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run, finished or not."""

    setting: str  # what its seeds have in common
    seed: int
    folder: Path
    config: ConfigDict
    state: str  # "done", or how far it is
    looked_at: str  # by the evaluation, in words; "" before there is one
    metrics: Mapping[str, float]  # what is known; nothing before the evaluation


def read_all(folders: Sequence[Path]) -> list[Run]:
    """The runs of sweeps and workdirs, in order.

    Raises:
      InputError: a folder is neither, no run is evaluated yet, or runs are of different data sets.
    """
    folders = list({folder.resolve(): folder for folder in folders}.values())
    runs, single = [], []
    for folder in folders:
        if (folder / "sweep.json").exists():
            runs += sweep_runs(folder, prefix=f"{folder.name}/" if len(folders) > 1 else "")
        elif (folder / "config.json").exists():
            single.append(read_run(folder, folder.name, configs.load(folder), complete=False))
        else:
            raise InputError(
                f"no runs in {folder}: give what `echofm sweep` or `echofm train` had as --workdir"
            )
    runs += group(single)
    if not any(run.metrics for run in runs):
        raise InputError(
            f"nothing to compare: none of {len(runs)} runs is evaluated yet ({runs[0].folder}: "
            f"{runs[0].state}); run `echofm sweep` or `echofm evaluate` first"
        )
    refuse_other_data(runs)
    return runs


def sweep_runs(folder: Path, prefix: str) -> list[Run]:
    """The cells of a sweep, those that are still to be run as well."""
    path = folder / "sweep.json"
    try:
        cells = json.loads(path.read_text())["cells"]
        return [
            read_run(
                folder / cell["name"],
                prefix + cell["setting"],
                ConfigDict(cell["config"]),
                complete=True,
                heads=cell.get("heads", ()),  # older versions trained none
            )
            for cell in cells
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}; start `echofm sweep` again") from None


def read_run(
    folder: Path, setting: str, config: ConfigDict, *, complete: bool, heads: Sequence[str] = ()
) -> Run:
    """A run; with `complete` its evaluation counts only if it made all its steps."""
    try:
        found = json.loads((folder / "evaluation.json").read_text())
        whole = not complete or found["step"] == last_step(folder)
    except (OSError, ValueError, KeyError):
        found, whole = {}, False
    metrics = cost(folder, config) | numbers(found) | of_heads(folder, heads) if whole else {}
    done = heads_state(folder, without(folder, heads))
    return Run(
        setting=setting,
        seed=config.seed,
        folder=folder,
        config=config,
        state=done if whole else progress(folder),
        looked_at=(
            f"split {found['split']}: {found['clips']} clips of {found['patients']} patients"
            if whole
            else ""
        ),
        metrics=metrics,
    )


def numbers(found: Mapping, prefix: str = "") -> dict[str, float]:
    """The metrics of an `evaluation.json`, nested ones by dotted names; what is null is missing."""
    flat: dict[str, float] = {}
    for name, value in found.items():
        if isinstance(value, Mapping) and name != "intervals":
            flat |= numbers(value, f"{prefix}{name}.")
        elif type(value) in (int, float) and math.isfinite(value) and name not in COUNTS:
            flat[f"{prefix}{name}"] = float(value)
    return flat


def heads_state(folder: Path, missing: Sequence[str]) -> str:
    """How far an evaluated run's heads are, in words."""
    if not missing:
        return "done"
    failed = folder / "failed.txt"
    why = f" ({failed.read_text().strip()})" if failed.exists() else ""
    return f"not trained yet: heads {', '.join(missing)}{why}"


def of_heads(folder: Path, heads: Sequence[str]) -> dict[str, float]:
    """What heads on a run's export came to, as `view/accuracy`; of one that trained several times
    (shares, modes) as `view/share=0.1/accuracy`.
    """
    found: dict[str, float] = {}
    missing = without(folder, heads)
    for name in [name for name in heads if name not in missing]:
        path = folder / "heads" / name / "metrics.json"
        try:
            runs = json.loads(path.read_text())["runs"]
            values = {
                run["run"]: {score: told["value"] for score, told in run["scores"].items()}
                for run in runs
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged: {error}; remove {path.parent}") from None
        for run, scores in values.items():
            told = run.removeprefix("pretrained-")
            found |= numbers(scores, f"{name}/{told}/" if len(values) > 1 else f"{name}/")
    return found


def cost(folder: Path, config: ConfigDict) -> dict[str, float]:
    """What training took, over all restarts, and how large the model is."""
    rows = read_runs(folder / "goodput.json")
    found = {
        "parameters": parameters(configs.architecture(config), configs.objective(config)) / 1e6
    }
    if rows:
        seconds = overall(rows)
        found["hours"] = (sum(seconds.values()) - seconds.get("down", 0.0)) / 3600
    if rows and all("cpu" in row for row in rows):
        found["cpu_hours"] = sum(row["cpu"] for row in rows) / 3600
    return found


@functools.cache
def parameters(arch: Any, objective: Objective) -> int:
    """How many parameters a model has."""
    import jax

    # The key is made inside, so that no device is asked for.
    shapes = jax.eval_shape(lambda: objective.init_params(arch, jax.random.key(0)))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def group(single: Sequence[Run]) -> list[Run]:
    """Single runs whose configs differ in nothing but the seed become one setting."""
    first: dict[str, Run] = {}
    seeds = set()
    grouped = []
    for run in single:
        kept = {k: v for k, v in configs.leaves(run.config).items() if k not in (*HOW, "seed")}
        key = json.dumps(kept, sort_keys=True)
        if (key, run.seed) in seeds:
            key = str(run.folder)  # a repetition: pairs of seeds must stay pairs
        seeds.add((key, run.seed))
        grouped.append(dataclasses.replace(run, setting=first.setdefault(key, run).setting))
    names = [run.setting for run in first.values()]
    if len(set(names)) < len(names):  # runs/a/run and runs/b/run
        return [dataclasses.replace(run, setting=str(run.folder)) for run in single]
    return grouped


def refuse_other_data(runs: Sequence[Run]) -> None:
    """Numbers of different clips say nothing about each other."""
    places: dict[str, Run] = {}
    for run in runs:
        where = run.config.data.dir
        places.setdefault(where if where.startswith("gs:") else os.path.realpath(where), run)
    if len(places) > 1:
        named = " and ".join(f"{place} ({run.folder})" for place, run in places.items())
        raise InputError(
            f"runs of different data sets cannot be compared: {named}; report on each by itself"
        )
