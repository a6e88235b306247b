"""A sweep file: a base config, what is fixed, what varies, and seeds → cells, each checked.

from echofm_jax.sweep_file import Sweep

def get_sweep() -> Sweep:
    return Sweep(
        config="configs/smoke.py",
        fixed={"optim.steps": 200},
        grid={"objective.mask_ratio": [0.5, 0.75, 0.9]},
        seeds=[0, 1, 2],
    )
"""

import dataclasses
import importlib.util
import re
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax.errors import InputError

HOW = ("data.cache_dir", "data.workers", "train.watchdog", "train.log_every")  # not what is trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """What varies: every combination of a named setting, one value of each grid field, a seed."""

    config: str  # FILE.py[:variant], as `echofm train --config`
    seeds: Sequence[int]
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)  # field: value
    grid: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)  # field: values
    settings: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    # name: {field: value}, for fields that change together or one at a time; the field `config` is
    # another base config than the sweep's
    heads: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    # name: arguments of `echofm finetune`, without --model, --workdir and --seed, for each cell


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a sweep."""

    setting: str  # its readable name, the folder of all its seeds
    seed: int
    spec: str  # for `echofm train --config`
    overrides: tuple[str, ...]  # --config.section.field=value
    config: ConfigDict  # all of it
    heads: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its folder in the sweep's."""
        return f"{self.setting}/seed={self.seed}"


def read_sweep(path: Path) -> Sweep:
    """Run a sweep file; raises InputError, in one line, for whatever is wrong with it."""
    if not path.is_file():
        raise InputError(f"no sweep file at {path}: see configs/sweeps/ for some")
    module_spec = importlib.util.spec_from_file_location("echofm_sweep", path)
    if module_spec is None:
        raise InputError(f"{path} is no Python file: see configs/sweeps/ for some")
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
        sweep = module.get_sweep()
    except Exception as error:  # the user's own code may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        where = f"{path}, line {line}" if line else str(path)
        raise InputError(f"{where}: {type(error).__name__}: {error}") from error
    if not isinstance(sweep, Sweep):
        raise InputError(f"{path}: get_sweep() must return a Sweep, not {type(sweep).__name__}")
    problem = shape_problem(sweep)
    if problem:
        raise InputError(f"{path}: {problem}")
    return sweep


def shape_problem(sweep: Sweep) -> str:
    """What makes it no sweep, or ""."""
    if not isinstance(sweep.config, str):
        return f"config={sweep.config!r} is no FILE.py[:variant]"
    for name in ("fixed", "grid", "settings", "heads"):
        if not isinstance(getattr(sweep, name), Mapping):
            return f"{name} must be a dict"
    if not sweep.grid and not sweep.settings:
        return "the grid is empty: give grid={field: [values]} or settings={name: {field: value}}"
    for field, values in sweep.grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            return f"grid field {field} has no list of values: {values!r}"
    for name, fields in sweep.settings.items():
        if not isinstance(fields, Mapping):
            return f"setting {name!r} must be a dict of fields and values"
    for name, arguments in sweep.heads.items():
        if not re.fullmatch(r"\w[\w.=+-]*", name):
            return f"head {name!r} is no name of a folder: use letters, digits and ._=+-"
        if isinstance(arguments, str) or not all(isinstance(one, str) for one in arguments):
            return f"head {name!r} must be a list of arguments, each a text: {arguments!r}"
        if own := [one for one in arguments if one.startswith(("--model", "--workdir", "--seed"))]:
            return f"head {name!r}: {own[0]} is each cell's own"
    seeds = sweep.seeds
    if isinstance(seeds, str) or not isinstance(seeds, Sequence) or not seeds:
        return f"seeds={seeds!r}: give a list of at least one"
    if any(type(seed) is not int or seed < 0 for seed in seeds) or len({*seeds}) < len(seeds):
        return f"seeds={list(seeds)}: give whole numbers from 0 on, each once"
    return ""


def cells_of(path: Path, extra: Sequence[str] = ()) -> list[Cell]:
    """All cells of a sweep file, seed after seed, so that an early look has every setting.

    Args:
      path: the sweep file.
      extra: `--config.section.field=value` for every cell, over the file's own.

    Raises:
      InputError: a field or value is wrong, two cells are the same, or one is told two things.
    """
    sweep = read_sweep(path)
    given = dict(argument.removeprefix("--config.").partition("=")[::2] for argument in extra)
    names = short_names(sweep.grid)
    settings = {}  # name: its fields
    for (name, fields), *values in product(
        sweep.settings.items() or [("", {})], *sweep.grid.values()
    ):
        varied = dict(zip(sweep.grid, values, strict=True))
        parts = [f"{names[field]}={text(value)}" for field, value in varied.items()]
        setting = re.sub(r"[^\w.=+-]", "_", "+".join(filter(None, [name, *parts]))).lstrip(".-")
        if not setting or setting in settings:
            raise InputError(f"{path}: two settings are called '{setting}'")
        told = Counter([*fields, *varied, *given, "seed", *({"seed"} & sweep.fixed.keys())])
        if twice := [field for field, times in told.items() if times > 1]:
            raise InputError(f"{path}: {setting}: {twice[0]} is told twice: it varies already")
        settings[setting] = {**sweep.fixed, **given, **fields, **varied}
    made = [
        make_cell(path, sweep, setting, seed, fields)
        for seed in sweep.seeds
        for setting, fields in settings.items()
    ]
    same: dict[str, Cell] = {}
    for cell in made:
        twin = same.setdefault(cell.config.to_json(sort_keys=True), cell)
        if twin is not cell:
            raise InputError(f"{path}: {twin.name} and {cell.name} are the same config")
    return made


def make_cell(path: Path, sweep: Sweep, setting: str, seed: int, fields: Mapping) -> Cell:
    """A cell, its config checked as `echofm train` will."""
    fields = dict(fields)
    spec = fields.pop("config", sweep.config)
    overrides = tuple(f"--config.{field}={value}" for field, value in fields.items())
    overrides += (f"--config.seed={seed}",)
    try:
        config = configs.parse(overrides, spec)
    except InputError as error:
        raise InputError(f"{path}: {setting}: {error}") from None
    return Cell(
        setting=setting, seed=seed, spec=spec, overrides=overrides, config=config,
        heads=sweep.heads,
    )  # fmt: skip


def short_names(fields: Sequence[str]) -> dict[str, str]:
    """Dotted fields → their last parts where those are all different, else themselves."""
    last = [field.rpartition(".")[2] for field in fields]
    return {f: f if last.count(short) > 1 else short for f, short in zip(fields, last, strict=True)}


def text(value: object) -> str:
    """A value as people write it: 0.5, 1e-05, random."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def differences(before: ConfigDict, now: ConfigDict) -> list[str]:
    """In what two configs are of different runs, as "field: A → B"."""
    old, new = configs.leaves(before), configs.leaves(now)
    return [
        f"{field}: {old.get(field)} → {value}"
        for field, value in new.items()
        if field not in HOW and old.get(field) != value
    ]
