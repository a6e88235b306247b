"""Compiles a config's training step for a TPU topology, without a TPU, and keeps what came out.

libtpu's compiler runs in a process of its own: it must not find JAX imported already, its flags
come from the environment, and what it holds in memory goes back when the process ends.
"""

import dataclasses
import functools
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from echofm_jax.errors import InputError
from echofm_jax.planning import hlo, schedule
from echofm_jax.planning.topology import GIB, Topology

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # the only devices here; the topology's are described, not opened
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server to ask
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no chip to fight over, so no lock
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # a cached executable has no schedule
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
REASON = "libtpu, the TPU's compiler, is not installed: pip install 'echofm_jax[plan]'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What the compiler says of one step on one topology; sizes in bytes of one chip."""

    mesh: dict[str, int]  # axis → size
    state: dict[str, int]  # `parameters`, `moments`, … and `batch`, without padding
    gradients: int
    arguments: int = 0  # state and batch as they lie in memory, padded
    temporaries: int = 0
    outputs: int = 0  # those that take no argument's place
    code: int = 0
    needed: int = 0  # if it does not fit: what the compiler wanted
    text: str = ""
    issued: dict[str, int] = dataclasses.field(default_factory=dict)  # see schedule.py
    seconds: float = 0.0  # that the compiler took
    versions: str = ""
    cached: bool = False

    @property
    def fits(self) -> bool:
        """Whether there is an executable."""
        return not self.needed

    @property
    def total(self) -> int:
        """HBM of one chip."""
        return self.needed or self.arguments + self.temporaries + self.outputs + self.code

    @functools.cached_property
    def module(self) -> hlo.Module:
        """The parsed step."""
        return hlo.parse(self.text)


def cache_folder() -> Path:
    """Where compiled results are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "echofm_jax" / "plan"


def compile_step(
    config: ConfigDict,
    topology: Topology,
    *,
    train_records: int,
    colour: bool = False,
    flags: str = "",
    say: Callable[[str], None],
) -> Compiled:
    """The step that `echofm train` would run, compiled for a topology.

    Args:
      config: checked; its batch is the global one.
      topology: its slices override the config's.
      train_records: clips of the training split.
      colour: clips have three channels.
      flags: of libtpu, such as `--xla_tpu_scoped_vmem_limit_kib=98304`.
      say: told what is being compiled, and whether it was known already.

    Raises:
      InputError: no libtpu, a flag that it does not know, or the config does not fit the mesh (out
        of memory is no error).
    """
    config = ConfigDict(config.to_dict())
    config.mesh.slices = topology.slices
    per_chip = config.data.batch_size / topology.chips
    say(
        f"{topology}: {config.mesh.preset}, {per_chip:g} clips a chip, remat {config.model.remat}, "
        f"moments in {config.optim.get('moments_dtype', 'float32')} …"
    )
    request = {
        "config": config.to_dict(),
        "topology": topology.name,
        "slices": topology.slices,
        "train_records": train_records,
        "colour": colour,
        "cache": str(cache_folder()),
    }
    with tempfile.TemporaryDirectory(prefix="echofm-plan-") as folder:
        result, dump = Path(folder) / "result", Path(folder) / "dump"
        dump.mkdir()
        request |= {"result": str(result), "dump": str(dump), "flags": flags}
        arguments = f"{flags} {schedule.FLAGS.format(folder=dump)}"
        text = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"
        process = subprocess.run(
            [sys.executable, "-m", "echofm_jax.planning.aot"],
            input=json.dumps(request),
            env=os.environ | ENVIRONMENT | {"LIBTPU_INIT_ARGS": arguments, "XLA_FLAGS": text},
            capture_output=True,
            text=True,
        )
        if process.returncode == 2:
            raise InputError(process.stderr.strip().splitlines()[-1])
        unknown = re.search(r"[Uu]nknown command line flag '(\w+)'", process.stderr)
        if unknown:
            raise InputError(f"libtpu knows no flag --{unknown.group(1)}: take it out")
        if process.returncode or not result.exists():
            raise RuntimeError(f"compiling for {topology} failed:\n{process.stderr[-6000:]}")
        facts = json.loads(result.read_text())
    compiled = Compiled(**facts)
    how = "known already" if compiled.cached else f"compiled in {compiled.seconds:.0f} s"
    room = topology.chip.hbm_bytes
    verdict = "fits" if compiled.fits else "does not fit"
    say(f"  {how}: {compiled.total / GIB:.2f} of {room / GIB:.2f} GiB, {verdict}")
    return compiled


def main() -> int:
    """The process that compiles: a request on standard input, the result in its file."""
    request = json.load(sys.stdin)
    try:
        Path(request["result"]).write_text(json.dumps(dataclasses.asdict(_compile(request))))
    except InputError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    return 0


def _compile(request: dict) -> Compiled:
    try:
        import libtpu
    except ImportError:
        raise InputError(REASON) from None
    import jax
    from jax.experimental import topologies

    from echofm_jax import program
    from echofm_jax.sharding import make_mesh

    config = ConfigDict(request["config"])
    devices = topologies.get_topology_desc(
        platform="tpu", topology_name=request["topology"], num_slices=request["slices"]
    ).devices
    mesh = make_mesh(
        slices=config.mesh.slices,
        fsdp=config.mesh.fsdp,
        tensor=config.mesh.tensor,
        devices=devices,
    )
    step = program.build(config, mesh, request["train_records"], colour=request["colour"])
    lowered = step.lower()
    versions = f"jax {jax.__version__}, libtpu {libtpu.__version__}"
    key = hashlib.sha256(
        "\n".join(
            [
                lowered.as_text(),
                versions,
                request["topology"],
                request["flags"],
                str(mesh.shape),
                Path(schedule.__file__).read_text(),
            ]  # whose figures are kept too
        ).encode()
    ).hexdigest()
    kept = Path(request["cache"]) / f"{key}.json.gz"
    known = _load(kept)
    if known is not None:
        return dataclasses.replace(known, cached=True)
    facts = {
        "mesh": dict(mesh.shape),
        "state": _state_bytes(step),
        "gradients": _chip_bytes(step.state["params"]),
        "versions": versions,
    }
    began = time.monotonic()
    try:
        executable = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        compiled = Compiled(needed=_needed(str(error)), **facts)
    else:
        memory = executable.memory_analysis()
        compiled = Compiled(
            arguments=memory.argument_size_in_bytes,
            temporaries=memory.temp_size_in_bytes,
            outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
            code=memory.generated_code_size_in_bytes,
            # Not executable.as_text(): it stumbles over the asynchronous collectives of v6e.
            text=next(Path(request["dump"]).glob("*train_step*.after_codegen.txt")).read_text(),
            issued=schedule.read(Path(request["dump"])),
            **facts,
        )
    compiled = dataclasses.replace(compiled, seconds=time.monotonic() - began)
    _keep(compiled, kept)
    return compiled


def _load(path: Path) -> Compiled | None:
    try:
        return Compiled(**json.loads(gzip.decompress(path.read_bytes())))
    except (OSError, EOFError, ValueError, TypeError):
        return None  # absent, damaged, or of another version of this file


def _keep(compiled: Compiled, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    temporary.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(compiled)).encode(), 1))
    temporary.replace(path)


def _state_bytes(step) -> dict[str, int]:
    kinds = {"params": "parameters", "opt_state": "moments", "ema": "average", "own": "teacher"}
    parts = {}
    for name, tree in step.state.items():
        kind = kinds.get(name, "counters")
        parts[kind] = parts.get(kind, 0) + _chip_bytes(tree)
    return parts | {"batch": _chip_bytes(step.batch)}


def _chip_bytes(tree) -> int:
    import jax
    import numpy as np

    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def _needed(message: str) -> int:
    """Bytes that the compiler wanted; what it calls temporaries are arguments and outputs too."""
    size = r"([\d.]+)([KMGT])"
    found = re.search(rf"\({size}\) exceeds available|Used {size} of", message)
    if found is None:
        raise RuntimeError(f"out of memory, but by how much is not said: {message}")
    number, unit = [group for group in found.groups() if group]
    return int(float(number) * 1024 ** ("KMGT".index(unit) + 1))


if __name__ == "__main__":
    sys.exit(main())
