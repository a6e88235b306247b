"""What fits: the largest batch a chip takes, and which change makes a step fit that does not."""

from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from echofm_jax.errors import InputError
from echofm_jax.planning.aot import Compiled
from echofm_jax.planning.topology import Topology

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

    Memory grows nearly linearly with the batch: where the line through what is known crosses the
    chip's memory is compiled next, until what fits and what does not are an eighth apart.
    """
    unit, tensor = config.optim.accumulate, config.mesh.tensor
    start = config.data.batch_size * tensor // topology.chips
    needs = {0: sum(first.state.values()) - first.state["batch"] + first.gradients}
    needs[start] = first.total  # clips → bytes
    fits, fails = (start, None) if first.fits else (0, start)
    while fails is None or fails - fits > max(unit, fails * GAP):
        guess = _guess(needs, topology.chip.hbm_bytes, fits, fails)
        guess = max(guess // unit, fits // unit + 1) * unit
        compiled = compile_step(with_batch(config, guess, topology))
        needs[guess] = compiled.total
        if compiled.fits:
            fits = guess
        else:
            fails = guess
    return {
        "clips_per_chip": fits / tensor,
        "does_not_fit": fails / tensor,
        "tried": [{"clips_per_chip": n / tensor, "bytes": needs[n]} for n in sorted(needs) if n],
    }


def _guess(needs: dict[int, int], room: int, fits: int, fails: int | None) -> int:
    """A number above what fits and below what fails, from the line through two that are known."""
    low, high = sorted(needs)[-2:] if fails is None else (fits, fails)
    slope = max(needs[high] - needs[low], 1) / (high - low)
    crossing = int(low + (room - needs[low]) / slope)
    step = max(1, round((fails or fits) * GAP))
    if fails is None:
        return min(max(crossing, fits + step), 8 * fits)
    return min(max(crossing, fits + step), fails - step)


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
    sizes = [n for n in (4, 8, 16) if n > config.mesh.fsdp and topology.slice_chips % n == 0]
    preset = "fsdp" if config.mesh.preset == "dp" else config.mesh.preset
    if sizes:
        options.append([{"mesh.preset": preset, "mesh.fsdp": n} for n in sizes])
    if config.optim.get("moments_dtype", "bfloat16") != "bfloat16":
        options.append([{"optim.moments_dtype": "bfloat16"}])
    return options
