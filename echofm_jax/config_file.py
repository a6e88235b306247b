"""`FILE.py[:variant]` and `--config.section.field=value`: how every config is read. No JAX."""

import difflib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from echofm_jax.errors import InputError


def read(spec: str) -> ConfigDict:
    """What a file's `get_config(variant)` returns; raises InputError when there is no such file."""
    path, _, variant = spec.partition(":")
    if not Path(path).is_file():
        raise InputError(f"no config file at {path}: give --config=FILE.py[:variant]")
    module_spec = importlib.util.spec_from_file_location("echofm_config", path)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.get_config(*filter(None, [variant]))


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """Apply `--config.section.field=value`, each to the field's own type.

    Raises InputError for what is no such argument, no field, or no value of its type.
    """
    config.lock()
    fields = leaves(config)
    for argument in overrides:
        if not argument.startswith("--config."):
            raise InputError(f"unknown argument {argument}: see --help")
        pick(dict.fromkeys(fields, ()), argument.partition("=")[0].removeprefix("--config."))
    values, argv = flags.FlagValues(), ["echofm", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    try:
        values(argv)
    except (flags.Error, TypeError, ValueError) as error:
        raise InputError(f"bad override: {error}") from error
    return values.config


def pick(table: dict, name: str, what: str = "config field") -> dict:
    """`table[name]`, or an error that names the nearest valid choice."""
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(table)}"
        raise InputError(f"unknown {what} '{name}': {hint}")
    return dict(table[name])


def leaves(config: ConfigDict, prefix: str = "") -> dict:
    """Nested config → {'section.field': value}."""
    flat = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= leaves(value, f"{name}.") if isinstance(value, ConfigDict) else {name: value}
    return flat
