"""Every figure of a plan, as one JSON-able dictionary, from a config and what compiling it gave."""

import dataclasses

from ml_collections import ConfigDict

from echofm_jax import config as configs
from echofm_jax.planning import hlo, roofline, schedule, traffic
from echofm_jax.planning.aot import Compiled
from echofm_jax.planning.collectives import collectives, summary
from echofm_jax.planning.expensive import expensive as most_expensive
from echofm_jax.planning.topology import Topology

ASSUMPTIONS = (
    "computed from what the TPU compiler says of its own output; nothing has run on a TPU",
    "fastest: an instruction takes as long as its slowest engine (issued bundles, matrix units at "
    "peak, HBM at the data sheet's bandwidth); collectives use every link and hide behind what "
    "the schedule puts beside them",
    "slowest: an instruction takes the compiler's estimated cycles, kernels hide none of their "
    "copies (but never wait for a matrix unit), collectives hide behind nothing and use two links "
    "(between slices: half the bandwidth)",
    "not included: waiting for input, evaluation, checkpoints, start-up",
    "gradients are one copy of the parameters in float32; activations are the other temporaries",
)


def facts(
    config: ConfigDict,
    topology: Topology,
    compiled: Compiled,
    *,
    train_records: int,
    flags: str = "",
    loader: dict | None = None,
    instructions: int = 0,
) -> dict:
    """What a plan says; times, hours and rates only if the step fits.

    Args:
      config: the one that was compiled; its batch is the global one.
      topology: what it was compiled for.
      compiled: see `aot.compile_step`.
      train_records: clips of the training split.
      flags: of libtpu, that it was compiled with.
      loader: the JSON of `echofm bench loader`, to compare with what the step consumes.
      instructions: how many of the most expensive ones are listed.

    Returns:
      Sizes in bytes of one chip, times in seconds, ranges as [fastest, slowest] or, for rates
      and MFU, [lowest, highest].
    """
    arch, objective = configs.architecture(config), configs.objective(config)
    recipe = configs.recipe(config, train_records)
    clip_flops = objective.step_flops(arch)
    batch = config.data.batch_size
    result = {
        "topology": topology.name,
        "slices": topology.slices,
        "chips": topology.chips,
        "hosts": topology.hosts,
        "device_kind": topology.chip.device_kind,
        "mesh": compiled.mesh,
        "preset": config.mesh.preset,
        "model": {"method": config.method, "summary": arch.summary, "width": arch.width,
                  "depth": arch.depth, "dtype": arch.dtype, "remat": arch.remat},
        "batch_size": batch,
        "clips_per_chip": batch / topology.chips,
        "steps": recipe.steps,
        "clips": train_records,
        "epochs": recipe.steps / recipe.steps_per_epoch,
        "hbm": hbm(compiled, topology),
        "flops": {"per_clip": clip_flops, "per_chip": clip_flops * batch / topology.chips},
        "compiler": {"versions": compiled.versions, "seconds": compiled.seconds,
                     "cached": compiled.cached, "flags": flags},
        "assumptions": list(ASSUMPTIONS),
    }  # fmt: skip
    if not compiled.fits:
        return result
    found = collectives(compiled.module, compiled.mesh)
    issued = schedule.spread(compiled.issued, compiled.module)
    times = roofline.times(compiled.module, issued, found, topology, result["flops"]["per_chip"])
    fastest, slowest = times.step.low, times.step.high
    hours = [seconds * recipe.steps / 3600 for seconds in (fastest, slowest)]
    return result | {
        "collectives": summary(found),
        "kernels": _kernels(compiled, issued, topology),
        "bounds": {"compute": times.compute_bound, "hbm": times.hbm_bound,
                   "ici": times.ici_bound, "dcn": times.dcn_bound, "bound_by": times.bound_by,
                   "hbm_bytes": times.hbm_bytes},
        "time": {"instructions": _pair(times.core), "kernels": _pair(times.kernels),
                 "exposed_collectives": _pair(times.exposed), "step": [fastest, slowest],
                 "step_per_clip": [t * topology.chips / batch for t in (fastest, slowest)]},
        "mfu": [times.compute_bound / slowest, times.compute_bound / fastest],
        "clips_per_s": [batch / slowest, batch / fastest],
        "clips_per_s_chip": [batch / t / topology.chips for t in (slowest, fastest)],
        "hours": hours,
        "chip_hours": [h * topology.chips for h in hours],
        "input": host_input(compiled, topology, batch, (fastest, slowest), loader),
        "instructions": expensive(compiled.module, issued, topology, instructions),
    }  # fmt: skip


STATE = ("parameters", "moments", "average", "teacher")  # kinds of what a step updates


def hbm(compiled: Compiled, topology: Topology) -> dict:
    """HBM of one chip by kind. Without an executable only the state and the total are known."""
    parts = {kind: compiled.state.get(kind, 0) for kind in STATE}
    parts["batch"] = compiled.state["batch"]
    known = sum(parts.values())
    if compiled.fits:
        gradients = min(compiled.gradients, compiled.temporaries)
        parts |= {
            "gradients": gradients,
            "activations": compiled.temporaries - gradients,
            "program": compiled.code,
            "padding": compiled.arguments - known + compiled.outputs,  # counters too
        }
    else:
        parts["gradients_and_activations"] = compiled.needed - known
    room = topology.chip.hbm_bytes
    return parts | {
        "total": compiled.total,
        "available": room,
        "fits": compiled.fits,
        "over": max(compiled.total - room, 0),
    }


def host_input(
    compiled: Compiled,
    topology: Topology,
    batch: int,
    step: tuple[float, float],
    loader: dict | None,
) -> dict:
    """What every host's loader must deliver, against what one was measured to."""
    tensor = compiled.mesh["tensor"]  # chips that share clips, and hosts that load the same ones
    shares = min(topology.hosts, topology.chips // tensor)
    clips = [batch / shares / seconds for seconds in reversed(step)]
    clip_bytes = compiled.state["batch"] * topology.chips / tensor / batch
    needed = {
        "clip_bytes": clip_bytes,
        "clips_per_s_host": clips,
        "gb_per_s_host": [rate * clip_bytes / 1e9 for rate in clips],
        "host_cores": topology.host_cores,
        "clips_per_s_core": [rate / topology.host_cores for rate in clips],
        "measured_clips_per_s_core": None,
    }
    if loader is not None:
        rate = loader["one_core"]
        needed |= {
            "measured_clips_per_s_core": rate,
            "measured_on": loader.get("settings", {}).get("data_dir", ""),
            "cores_needed": [c / rate for c in clips],
            "enough": clips[1] / rate <= topology.host_cores,
        }
    return needed


def expensive(
    module: hlo.Module, issued: dict[str, int], topology: Topology, rows: int
) -> list[dict]:
    """The most expensive instructions, and what each engine needs for them; seconds a step."""
    chip, runs = topology.chip, {run.instruction.name: run for run in module.runs}
    table = []
    for row in most_expensive(module, rows):
        run = dataclasses.replace(runs[row["name"]], times=row["runs"])
        spent = roofline.instruction_times(module, run, issued, topology)
        products = traffic.matrix_flops(module, run.computation, run.instruction)
        table.append(row | {
            "seconds": _pair(spent),
            "issue": run.times * issued.get(row["name"], 0) / chip.clock_hz,
            "matrix": run.times * products / chip.peak_flops,
            "hbm": run.times * traffic.hbm_bytes(module, run) / chip.hbm_bandwidth,
        })  # fmt: skip
    return table


def _kernels(compiled: Compiled, issued: dict[str, int], topology: Topology) -> list[dict]:
    rows = []
    for run in compiled.module.kernels:
        spent = roofline.instruction_times(compiled.module, run, issued, topology)
        rows.append({
            "name": run.instruction.name,
            "runs": run.times,
            "cycles_issued": issued.get(run.instruction.name, 0),
            "seconds": _pair(spent),
        })  # fmt: skip
    return rows


def _pair(value: roofline.Range) -> list[float]:
    return [value.low, value.high]
