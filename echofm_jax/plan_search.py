"""What fits: the largest batch a chip takes, and which change makes a step fit that does not."""

from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from echofm_jax.aot import Compiled
from echofm_jax.errors import InputError
from echofm_jax.topology import Topology

Compile = Callable[[ConfigDict], Compiled]
GAP = 1 / 8  # the search ends when what fits and what does not are this close


def changed(config: ConfigDict, fields: dict) -> ConfigDict:
    """A copy with other values."""
    config = ConfigDict(config.to_dict())
    config.update_from_flattened_dict(fields)
    return config


def with_batch(config: ConfigDict, clips: int, topology: Topology) -> ConfigDict:
    """The config with that many clips a chip (with tensor parallelism: a group of chips)."""
    return changed(config, {"data.batch_size": clips * topology.chips // config.mesh.tensor})


def largest_batch(
    config: ConfigDict, topology: Topology, first: Compiled, compile_step: Compile
) -> dict:
    """Clips a chip that fit, and the next number tried that does not; both were compiled.

    Memory grows nearly linearly with the batch: two compiles give a line, where it crosses the
    chip's memory is compiled, and the gap is narrowed until it is an eighth.
    """
    unit, tensor = config.optim.accumulate, config.mesh.tensor
    start = config.data.batch_size * tensor // topology.chips
    needs = {start: first.total}  # clips → bytes
    fits, fails = (start, None) if first.fits else (0, start)
    while fails is None or fails - fits > max(unit, fails * GAP):
        guess = _guess(needs, topology.chip.hbm_bytes, fits, fails) // unit * unit
        compiled = compile_step(with_batch(config, guess, topology))
        needs[guess] = compiled.total
        if compiled.fits:
            fits = guess
        else:
            fails = guess
    return {
        "clips_per_chip": fits / tensor,
        "does_not_fit": fails / tensor,
        "tried": [{"clips_per_chip": n / tensor, "bytes": needs[n]} for n in sorted(needs)],
    }


def _guess(needs: dict[int, int], room: int, fits: int, fails: int | None) -> int:
    """A number above what fits and below what fails, from the line through two that are known."""
    known = sorted(needs)
    below = min(fits + max(1, round(fits * GAP)), fails - 1 if fails else 4 * fits)
    above = fails - max(1, round((fails - fits) * GAP)) if fails else 4 * fits
    if len(known) == 1:
        return max(known[0] * 2 if fails is None else known[0] // 2, 1)
    low, high = (known[-2], known[-1]) if fails is None else (known[0], known[-1])
    slope = (needs[high] - needs[low]) / (high - low)
    crossing = low + (room - needs[low]) / slope if slope > 0 else above
    return int(min(max(crossing, below), above))


def remedies(
    config: ConfigDict, topology: Topology, compile_step: Compile
) -> Iterator[tuple[dict, Compiled]]:
    """Changes, each by itself and then all together, with what compiling them gave."""
    room = []
    for options in _options(config, topology):
        for fields in options:
            try:
                compiled = compile_step(changed(config, fields))
            except InputError:
                continue  # does not divide this model
            yield fields, compiled
            if compiled.fits or fields is options[-1]:
                room.append(fields)
                break
    together = {name: value for fields in room for name, value in fields.items()}
    if len(room) > 1:
        yield together, compile_step(changed(config, together))


def _options(config: ConfigDict, topology: Topology) -> list[list[dict]]:
    """Kinds of change; of each, what is tried in turn until one fits."""
    options = []
    if config.model.remat != "full":
        options.append([{"model.remat": "full"}])
    if config.mesh.preset == "dp":
        sizes = [n for n in (4, 8, 16) if topology.slice_chips % n == 0]
        if sizes:
            options.append([{"mesh.preset": "fsdp", "mesh.fsdp": n} for n in sizes])
    if config.optim.get("moments_dtype", "bfloat16") != "bfloat16":
        options.append([{"optim.moments_dtype": "bfloat16"}])
    return options
