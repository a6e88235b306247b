"""What `echofm inspect` found, to look at: a contact sheet and one page that opens offline.

Neither names a file, a path or a person; of a clip's salted id they show the first six digits.
"""

import base64
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import shards
from data_pipelines.inspect_pieces import Damage, shard_lengths
from data_pipelines.inspect_scan import decode
from data_pipelines.inspect_statistics import HISTOGRAMS
from data_pipelines.shard_files import open_shard
from echofm_jax.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, GAP = 8, 4  # clips of a split and view that the sheet shows, pixels between them
PHANTOM = "phantom: simulated, no patient"
BLUE = "#1f6fb2"
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em;
  padding: 0 1em; color: #222 } table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .2em 1em .2em 0; text-align: left; border-bottom: 1px solid #ddd }
td.n { text-align: right } .tables { display: flex; flex-wrap: wrap; gap: 0 3em }
img { max-width: 100% } .phantom { background: #fff3cd; padding: .5em }
.bad { color: #a40000 }"""


def write(out: Path, folder: Path, facts: np.ndarray, summary: dict) -> Path:
    """Write contact_sheet.png and inspect.html into `out`; returns the page's path.

    Args:
      out: a folder.
      folder: the shards'.
      facts: [n] inspect_scan.FACTS.
      summary: of `inspection.inspect`.

    Raises:
      InputError: `out` cannot be written.
    """
    pictures = {}
    if len(facts):
        pictures["Clips"] = png(contact_sheet(folder, facts, summary["simulated"]))
        pictures["Distributions"] = png(histograms(summary))
    try:
        if pictures:
            (out / "contact_sheet.png").write_bytes(pictures["Clips"])
        page = out / "inspect.html"
        page.write_text(as_html(summary, pictures), encoding="utf-8")
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}; choose another folder") from error
    return page


def contact_sheet(folder: Path, facts: np.ndarray, simulated: bool) -> "Figure":
    """Middle frames of up to COLUMNS clips for each split and view."""
    info = shards.dataset_info(folder.parents[1])
    lengths = shard_lengths(folder)
    groups: dict[tuple, list] = {}
    # By id: a random choice, since ids are hashes, and the same each time.
    for fact in facts[np.argsort(facts["clip_id"], kind="stable")]:
        group = groups.setdefault((fact["split"].decode(), fact["view"].decode()), [])
        if fact["segment"] == 0 and len(group) < COLUMNS:
            group.append(fact)
    order = {split: i for i, split in enumerate(shards.SPLITS)}
    rows = sorted((g for g in groups.items() if g[1]), key=lambda g: (order.get(g[0][0], 9), g[0]))
    size = min(info.size, 160)
    figure = _figure(1.3 * COLUMNS + 1.2, 1.52 * len(rows) + 0.6)
    axes = figure.subplots(len(rows), squeeze=False)[:, 0]
    for axis, ((split, view), chosen) in zip(axes, rows, strict=True):
        strip = np.full((size, COLUMNS * (size + GAP) - GAP, 3), 255, np.uint8)
        for column, fact in enumerate(chosen):
            total = len(lengths[split])
            path = folder / shards.shard_name(split, fact["shard"], total)
            frame = middle_frame(path, fact, info, size)
            left = column * (size + GAP)
            strip[:, left : left + size] = frame if frame.ndim == 3 else frame[..., None]
            digits = fact["clip_id"].decode()[:6]
            axis.text(left + size / 2, size + 3, digits, ha="center", va="top", fontsize=7)
        axis.imshow(strip, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_ylabel(f"{split}\n{view or 'view unknown'}", fontsize=9)
    _title(figure, "Middle frames", simulated)
    return figure


def middle_frame(path: Path, fact: np.void, info: shards.DatasetInfo, size: int) -> np.ndarray:
    """The frame in the middle of a record, reduced to [size, size] or [size, size, 3]."""
    import cv2

    reader = open_shard(path)
    data = reader.read([int(fact["record"])])[0]
    reader.close()
    frames = tf_example_pb2.Example.FromString(data).features.feature["frames"].bytes_list.value
    frame = decode(frames[len(frames) // 2], info)
    return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)


def histograms(summary: dict) -> "Figure":
    """A panel for each of HISTOGRAMS."""
    figure = _figure(11.5, 5.4)
    axes = figure.subplots(2, 3).ravel()
    for axis, (name, (_, what, unit)) in zip(axes, HISTOGRAMS.items(), strict=False):
        h = summary["histograms"][name]
        if h["known"]:
            axis.bar(h["edges"][:-1], h["counts"], np.diff(h["edges"]), align="edge", color=BLUE)
        unknown = f" ({h['unknown']} unknown)" if h["unknown"] else ""
        axis.set(title=f"{what}{unknown}", xlabel=unit, ylabel="clips")
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[-1].remove()
    _title(figure, f"{summary['clips']} clips", summary["simulated"])
    return figure


def as_html(summary: dict, pictures: dict[str, bytes]) -> str:
    """The page; everything it shows is in it, and its policy lets it load nothing else."""
    banner = f'<p class="phantom">{PHANTOM}</p>' if summary["simulated"] else ""
    whole = {key: summary[key] for key in ("clips", "patients", "records", "frames")}
    whole |= {"seconds": round(summary["seconds"]), "pixels along a side": summary["size"]}
    whole |= {"encoding": summary["encoding"], "colour": "yes" if summary["colour"] else "no"}
    parts = [table("All", whole)]
    parts += [table(f"Split {name}", counts) for name, counts in summary["splits"].items()]
    for key in ("views", "rhythms", "modes", "labels"):
        parts.append(table(f"{key.capitalize()} (clips)", summary[key]))
    found = {
        "clips stored twice": len(summary["duplicates"]),
        "pairs of clips that look the same": len(summary["near_duplicates"]),
        "clips that are not whole": len(summary["incomplete_clips"]),
        "patients in two splits": len(summary["patients_in_two_splits"]),
        "damaged shards or records": len(summary["damage"]),
    }
    parts = ['<div class="tables">', *parts, table("Checks", found), "</div>"]
    damages = [html.escape(str(Damage(**damage))) for damage in summary["damage"]]
    parts += [f'<p class="bad">{line}</p>' for line in damages]
    for title, picture in pictures.items():
        data = base64.b64encode(picture).decode()
        image = f'<img alt="{title}" src="data:image/png;base64,{data}">'
        parts.append(f"<h2>{title}</h2>{banner}{image}")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Echo clips</title>
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style></head>
<body><h1>Echo clips</h1>{banner}
{"".join(parts)}
</body></html>
"""


def table(title: str, rows: dict) -> str:
    """Names and their values, two columns."""
    lines = "".join(
        f'<tr><td>{html.escape(str(name))}</td><td class="n">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
    )
    return f"<div><h2>{html.escape(title)}</h2><table>{lines}</table></div>"


def _figure(width: float, height: float) -> "Figure":
    """A figure of its own, outside pyplot: no display, no global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor="white")


def _title(figure: "Figure", text: str, simulated: bool) -> None:
    figure.suptitle(f"{text}  ·  {PHANTOM}" if simulated else text, fontsize=12)


def png(figure: "Figure") -> bytes:
    """A figure as PNG without metadata."""
    data = io.BytesIO()
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()
