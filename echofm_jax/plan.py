"""`echofm plan`: what a config needs on TPUs, and what it will cost, before one is asked for.

    echofm plan --config=configs/vit_l.py --topology=v5e:16x16 --config.data.batch_size=2048
    echofm plan --config=configs/vit_l.py --topology=v5e:16x16 --slices=2 --per-chip=8
    echofm plan --config=configs/vit_l.py --all
    echofm plan --config=configs/vit_l.py --topology=v5e:16x16 --weak-scaling

The training step is compiled by the TPU's own compiler (libtpu), which needs no TPU: minutes for a
large model, seconds when the same step was planned before. Flags in LIBTPU_INIT_ARGS and those of
--libtpu-flags are obeyed.
"""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from echofm_jax import cli, libtpu_flags
from echofm_jax import config as configs
from echofm_jax.errors import InputError
from echofm_jax.planning import aot, facts, search, table, topology
from echofm_jax.planning.topology import CHIPS, Topology

PAPER_CLIPS = 290_000  # the paper's corpus
SAME_WORK = 8  # clips a chip
COMPARED = ("v5e:4x4", "v5e:16x16", "v6e:4x4", "v6e:16x16", "v5p:2x2x2", "v5p:4x4x4")


def main(argv: Sequence[str]) -> int:
    """Compile, print a table, end with the JSON line if it is asked for."""
    parser = argparse.ArgumentParser(
        "echofm plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="FILE.py[:variant]")
    parser.add_argument("--topology", help="GENERATION:SHAPE of one slice, e.g. v5e:16x16")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument(
        "--per-chip", type=int, metavar="N",
        help=f"clips a chip (default: as data.batch_size says; {SAME_WORK} to compare topologies)",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help=f"compare {', '.join(COMPARED)}")
    parser.add_argument(
        "--weak-scaling", action="store_true",
        help="from 4 chips to the generation's largest slice, then 2 and 4 of them",
    )  # fmt: skip
    parser.add_argument(
        "--clips",
        type=int,
        help=f"training clips (default: of --config.data.dir, or {PAPER_CLIPS})",
    )
    parser.add_argument(
        "--libtpu-flags",
        default="",
        metavar="NAME[,NAME]",
        help=f"sets of {libtpu_flags.FILE.name}",
    )
    parser.add_argument(
        "--loader-json", type=Path, help="what `echofm bench loader --json` printed on a host"
    )
    parser.add_argument("--no-search", action="store_true", help="do not look for what else fits")
    parser.add_argument(
        "--instructions", type=int, default=0, metavar="N", help="list the N most expensive ones"
    )
    parser.add_argument("--json", action="store_true", help="only one JSON line")
    args, overrides = parser.parse_known_args(argv)
    for extra in overrides:
        if not extra.startswith("--config."):
            raise InputError(f"unknown argument {extra}: see `echofm plan --help`")
    if args.per_chip is None and (args.all or args.weak_scaling):
        args.per_chip = SAME_WORK
    planner = Planner(args, configs.parse(overrides, args.config))
    if args.all:
        plans = planner.each(topology.parse(name, args.slices) for name in COMPARED)
        text = table.compare(plans)
    elif args.weak_scaling:
        plans = planner.each(growing(planner.topology(args.topology)), look=False)
        text = table.weak_scaling(plans)
    else:
        plans = [planner.plan(planner.topology(args.topology))]
        text = table.describe(plans[0])
    if not args.json:
        print(text)
    else:
        print(json.dumps(plans[0] if len(plans) == 1 else {"plans": plans}))
    return 0


class Planner:
    """A config and how to plan it; the topology varies."""

    def __init__(self, args: argparse.Namespace, config: ConfigDict):
        if importlib.util.find_spec("libtpu") is None:
            raise InputError(aot.REASON)
        self.args, self.config = args, config
        self.flags = chosen_flags(args.libtpu_flags)
        self.clips, self.colour = data_set(config)
        self.clips = args.clips or self.clips
        self.loader = None if args.loader_json is None else loader_rates(args.loader_json)

    def topology(self, name: str | None) -> Topology:
        """The one that was asked for."""
        if name is None:
            raise InputError(
                "give --topology=GENERATION:SHAPE, for example v5e:16x16, or --all; generations: "
                + ", ".join(CHIPS)
            )
        return topology.parse(name, self.args.slices)

    def each(self, targets: Iterable[Topology], *, look: bool = True) -> list[dict]:
        """Plans of several topologies; what is impossible on one of them is its row."""
        plans = []
        for target in targets:
            try:
                plans.append(self.plan(target, look=look))
            except InputError as error:
                plans.append({"topology": target.name, "slices": target.slices,
                              "chips": target.chips, "refused": str(error)})  # fmt: skip
        return plans

    def plan(self, target: Topology, *, look: bool = True) -> dict:
        """All figures for one topology; with `look`, also what fits."""
        refuse_foreign_flags(self.args.libtpu_flags, target)
        config = self.config_for(target)
        compiled = self.compile(config, target)
        plan = facts.facts(
            config, target, compiled, train_records=self.clips, loader=self.loader,
            flags=self.flags, instructions=self.args.instructions,
        )  # fmt: skip

        def attempt(other: ConfigDict) -> aot.Compiled:
            return self.compile(other, target)

        if not look or self.args.no_search:
            return plan
        plan["largest_batch"] = search.largest_batch(config, target, compiled, attempt)
        if not compiled.fits:
            plan["remedies"] = [
                {"change": change, "fits": other.fits, "total": other.total}
                for change, other in search.remedies(config, target, attempt)
            ]
        return plan

    def config_for(self, target: Topology) -> ConfigDict:
        """The config with the batch that is asked for."""
        config = search.changed(self.config, {"mesh.slices": target.slices})
        if self.args.per_chip is not None:
            config = search.with_batch(config, self.args.per_chip, target)
        configs.check(config)
        return config

    def compile(self, config: ConfigDict, target: Topology) -> aot.Compiled:
        """One step; progress goes to standard error."""

        def say(text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        return aot.compile_step(
            config, target, train_records=self.clips, colour=self.colour, flags=self.flags, say=say
        )


def growing(target: Topology) -> list[Topology]:
    """Slices of a generation, about four times larger each, to the largest; then 2 and 4 slices."""
    chip = target.chip
    shapes = [Topology(chip=chip, shape=shape) for shape in chip.shapes]
    kept = [next(t for t in shapes if t.chips >= 4)]
    for t in shapes:
        if t.chips >= 4 * kept[-1].chips:
            kept.append(t)
    if kept[-1].chips != shapes[-1].chips:
        kept.append(shapes[-1])
    return kept + [Topology(chip=chip, shape=kept[-1].shape, slices=n) for n in (2, 4)]


def chosen_flags(names: str) -> str:
    """The environment's flags and those of named sets, as libtpu takes them."""
    flags = [os.environ.get("LIBTPU_INIT_ARGS", "")]
    sets = libtpu_flags.flag_sets() if names else {}
    for name in filter(None, names.split(",")):
        configs.pick(dict.fromkeys(sets, ()), name, "set of libtpu flags")
        flags += sets[name]
    return " ".join(filter(None, flags))


def refuse_foreign_flags(names: str, target: Topology) -> None:
    """A set that is named after a chip is for that chip only."""
    for name in filter(None, names.split(",")):
        chip = name.partition("_")[0]
        if chip in CHIPS and chip != target.chip.generation:
            raise InputError(f"--libtpu-flags={name} is not for {target}: libtpu refuses it there")


def data_set(config: ConfigDict) -> tuple[int, bool]:
    """Training clips of the config's data set and whether they are in colour; or the paper's."""
    if not config.data.dir:
        return PAPER_CLIPS, False
    from data_pipelines import mixture

    info = mixture.dataset_info(config.data.dir)
    return mixture.training_records(info), info.colour


def loader_rates(path: Path) -> dict:
    """The last JSON line of a file that `echofm bench loader` wrote."""
    try:
        rates = json.loads(path.read_text().strip().splitlines()[-1])
        float(rates["one_core"])
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(
            f"--loader-json={path} is not the output of `echofm bench loader --json`: {error!r}"
        ) from None
    return rates


if __name__ == "__main__":
    sys.exit(cli.run("plan", sys.argv[1:]))
