"""Which clips `echofm finetune` learns from, and what its head answers."""

import argparse
import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from data_pipelines.labelled import LabelledClip, LabelledSet, word
from data_pipelines.labelled_cache import cached
from data_pipelines.labelled_checks import check_classes
from data_pipelines.labelled_files import FileReader
from data_pipelines.labelled_sources import labelled_set
from data_pipelines.records import GRADES, LANDMARKS
from echofm_jax.errors import InputError
from echofm_jax.pytorch.recipe import Recipe

UNITS = {"ejection_fraction": "%", "end_diastolic_volume": "ml", "end_systolic_volume": "ml"}
log = logging.getLogger(__name__)


def read_labels(
    args: argparse.Namespace, task: str, target: str
) -> tuple[LabelledSet, list[LabelledClip]]:
    """The whole source, and the clips of it that are labelled with the target."""
    structures = {"structures": tuple(args.structures)} if args.structures else {}
    found = labelled_set(
        args.source, dataset=args.dataset, labels=args.labels, target=target, fps=args.fps,
        precropped=args.precropped, **structures,
    )  # fmt: skip
    clips = [c for c in found.clips if not args.views or c.targets.get("view") in args.views]
    if not clips:
        raise InputError(f"{args.source}: no clip of view {' or '.join(args.views)}")
    if target == "masks":
        masked = [clip for clip in clips if clip.masked]
        if not masked:
            raise InputError(f"{args.source}: no clip has a mask: name labels that have some")
        return found, masked
    if target == "points":
        measured = [c for c in clips if isinstance(c.read, FileReader) and c.read.label.points]
        if not measured:
            raise InputError(
                f"{args.source}: no clip has measurement points: give EchoNet-LVH (--dataset "
                "echonet_lvh), or files whose labels.jsonl has `points`; shards do not keep them"
            )
        return found, measured
    labelled = [clip for clip in clips if target in clip.targets]
    check_classes(labelled if labelled else clips, target)
    if task != "number":
        labelled = [in_words(clip, target) for clip in labelled]
    return found, labelled


def in_words(clip: LabelledClip, target: str) -> LabelledClip:
    """A clip whose class is a name: a column of 0, 1 and 2 may hold classes, too."""
    targets = {**clip.targets, target: word(clip.targets[target])}
    return dataclasses.replace(clip, targets=targets)


def names(
    args: argparse.Namespace, task: str, target: str, labelled: LabelledSet,
    clips: Sequence[LabelledClip],
) -> tuple[str, ...]:  # fmt: skip
    """Names of what the head answers, in their order; of a number its unit."""
    if target == "masks":
        known = labelled.structures[1:]
        if args.leave_out and args.leave_out not in known:
            raise InputError(
                f"--leave_out {args.leave_out}: no structure has this name: {', '.join(known)}"
            )
        if args.leave_out and len(known) < 2:
            raise InputError(
                f"--leave_out {args.leave_out}: it is the only structure: label two or more"
            )
        return labelled.structures
    if task == "points":
        return LANDMARKS
    values = {clip.targets[target] for clip in clips}
    if task == "number":
        if words := sorted(value for value in values if isinstance(value, str)):
            raise InputError(f"{target}: '{words[0]}' is no number: use --task classes")
        return (UNITS.get(target, "units of the labels"),)
    if task == "classes":
        return tuple(sorted(values))
    known = tuple(args.grades) or (GRADES if values <= set(GRADES) else ())
    if not known:
        raise InputError(f"{target}: name its grades in order: --grades {' '.join(sorted(values))}")
    if unknown := sorted(values - set(known)):
        raise InputError(f"{target}: '{unknown[0]}' is none of --grades {' '.join(known)}")
    return known


def readable(
    args: argparse.Namespace, target: str, clips: Sequence[LabelledClip], how: Recipe
) -> tuple[list[LabelledClip], list]:
    """Clips whose pixels are at hand, and (name, reason, detail) of those that cannot be used."""
    size = shown_size(args.model, how.size)
    clips, refused = cached(clips, size, args.colour, args.workdir / "cache", args.workers)
    for name, reason, detail in refused:
        log.warning("left out: %s: %s %s", name, reason, detail)
    if not clips:
        raise InputError(f"{args.source}: none of its {len(refused)} labelled clips can be used")
    if target not in ("masks", "points"):
        check_classes(clips, target)
    return clips, refused


def shown_size(folder: Path, asked: int) -> int:
    """Side of the pixels that an exported encoder is shown: as `asked`, 0 as it was trained.

    Raises InputError if the folder is none, or the encoder's patches do not fit.
    """
    try:
        described = json.loads((folder / "config.json").read_text())
        if "image_size" in described:  # transformers' words
            size, patch = int(described["image_size"]), int(described["patch_size"])
        else:
            size, patch = (int(described["architecture"][name]) for name in ("size", "patch"))
        if asked % patch:
            raise InputError(f"--config.size={asked}: this model takes multiples of {patch} pixels")
        return asked or size
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(
            f"--model {folder}: no folder of `echofm export` ({type(error).__name__})"
        ) from None
