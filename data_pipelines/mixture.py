"""Several data sets as one: `data.dir` may name a JSON file such as

    [{"dir": "echonet", "weight": 1},
     {"dir": "hospital", "view": ["A4C", "A2C"], "mode": ["b_mode"], "weight": 3}]

`dir` is what `echofm ingest --data_dir` wrote, relative to the file. `view` and `mode` choose
records. Of training's clips every part gets its weight's share, exactly, in every epoch
(`order.RecordOrder`); without weights each record comes once an epoch. Held-out splits are read
from all parts that have them, unweighted.
"""

import dataclasses
import json
import math
from pathlib import Path

from data_pipelines import records, shards
from data_pipelines.record_index import chosen_records
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

KEYS = {"dir", "view", "mode", "weight"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One data set of a mixture, or those of its records that are asked for."""

    data_dir: str
    views: tuple[str, ...] = ()  # none: all
    modes: tuple[str, ...] = ()
    weight: float | None = None

    def chosen(self, split: str):
        """Numbers of the part's records in its split, [n] int64; None where it takes all."""
        if not self.views and not self.modes:
            return None
        return chosen_records(self.data_dir, split, self.views, self.modes)

    def count(self, split: str) -> int:
        """The part's records in a split."""
        chosen = self.chosen(split)
        return shards.dataset_info(self.data_dir).records[split] if chosen is None else len(chosen)


def parts_of(data_dir: str | Path) -> list[Part]:
    """The parts of a mixture; one part for a data set.

    Raises:
      InputError: the file is no mixture, naming the part and the key.
    """
    path = local_path(data_dir)
    if not path.is_file():
        return [Part(data_dir=str(data_dir))]
    try:
        described = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no mixture of data sets: {error}") from None
    if not isinstance(described, list) or not described:
        raise InputError(f'{path}: a mixture is a list such as [{{"dir": "A", "weight": 1}}, …]')
    parts = [_part(entry, f"{path}, part {i}", path.parent) for i, entry in enumerate(described)]
    if len({part.weight is None for part in parts}) > 1:
        raise InputError(f"{path}: give every part a weight, or none")
    return parts


def _part(entry: dict, where: str, folder: Path) -> Part:
    if not isinstance(entry, dict) or not isinstance(entry.get("dir"), str):
        raise InputError(f'{where}: needs a "dir", what `echofm ingest --data_dir` wrote')
    if unknown := ", ".join(entry.keys() - KEYS):
        raise InputError(f"{where}: unknown key {unknown}: choose of {', '.join(sorted(KEYS))}")
    asked = {}
    for key, known in (("view", records.VIEWS), ("mode", records.MODES)):
        names = entry.get(key, [])
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or (other := [n for n in names if n not in known]):
            shown = other[0] if isinstance(names, list) else names
            raise InputError(
                f"{where}: unknown {key} '{shown}': choose of {', '.join(filter(None, known))}"
            )
        asked[key] = tuple(names)
    weight = entry.get("weight")
    if weight is not None:
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise InputError(f"{where}: weight {weight!r} must be a number above 0")
    place = entry["dir"]
    return Part(
        data_dir=place if place.startswith("gs:") else str(folder / Path(place).expanduser()),
        views=asked["view"],
        modes=asked["mode"],
        weight=weight,
    )


def choices(data_dir: str | Path) -> list[tuple]:
    """What a mixture's parts are but for their places: whoever has others reads other clips."""
    return [(part.views, part.modes, part.weight) for part in parts_of(data_dir)]


def told(data_dir: str | Path) -> dict:
    """What a run remembers of its data, JSON-able: the place, and its parts' `choices`."""
    return {"dir": str(data_dir), "parts": json.loads(json.dumps(choices(data_dir)))}


def refuse_changed(data_dir: str | Path, known: dict) -> None:
    """Raises InputError if a mixture is not what it was when a run's position in it was `told`.

    With other weights, views or modes that position is one among other clips. A run may go on with
    the data of another place, and what it knew before it was told is taken as it is.
    """
    now = told(data_dir)
    if known.get("dir") == now["dir"] and known.get("parts", now["parts"]) != now["parts"]:
        raise InputError(
            f"{data_dir}: views, modes or weights are not those that the run began with "
            f"({json.dumps(known['parts'])}): put them back, or write the other mixture into a "
            "file of its own"
        )


def training_records(info: shards.DatasetInfo) -> int:
    """Records to train on. Raises InputError if there are none."""
    if not info.records.get("train"):
        there = ", ".join(info.records) or "no record of the views and modes asked for"
        raise InputError(f"nothing to train on: data.dir has {there}: ingest or ask for more")
    return info.records["train"]


def dataset_info(data_dir: str | Path) -> shards.DatasetInfo:
    """`shards.dataset_info` of a data set or of a mixture: its smallest size, its parts' counts.

    Raises:
      InputError: a part is missing, or some are in colour and some are not.
    """
    parts = parts_of(data_dir)
    infos = [shards.dataset_info(part.data_dir) for part in parts]
    if len({info.colour for info in infos}) > 1:
        named = ", ".join(
            f"{part.data_dir} ({'colour' if info.colour else 'grey'})"
            for part, info in zip(parts, infos, strict=True)
        )
        raise InputError(f"{data_dir} mixes colour with grey: {named}: ingest them alike")
    counts = {}
    for part, info in zip(parts, infos, strict=True):
        for split in info.records:
            counts[split] = counts.get(split, 0) + part.count(split)
    return shards.DatasetInfo(
        size=min(info.size for info in infos),
        encoding="+".join(sorted({info.encoding for info in infos})),
        colour=infos[0].colour,
        simulated=any(info.simulated for info in infos),
        records={split: count for split, count in counts.items() if count},
    )
