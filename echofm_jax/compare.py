"""`echofm report`: sweeps and single runs in one table, with plots, as a page that opens offline.

Means and intervals are over seeds; a setting's seeds are runs whose configs differ in nothing else.
A metric that a run does not have is missing, never zero. Runs of different data sets are refused.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from echofm_jax import cli
from echofm_jax.buckets import local_path
from echofm_jax.errors import InputError

if TYPE_CHECKING:
    from echofm_jax.compare_runs import Run

EXAMPLE = """example:
  echofm report runs/masking --baseline masking=consistent
  echofm report runs/a runs/b runs/c --output compared
  echofm report runs/masking --metrics cross_beat_error ef_mae cpu_hours

Writes report.html, table.csv, runs.csv and a PNG of each figure."""


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        "echofm report", description=__doc__, epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("workdirs", nargs="+", type=local_path, metavar="W", help="of `echofm sweep` or `train`")
    add("--baseline", metavar="SETTING", help="differences from this one, seed by seed")
    add("--metrics", nargs="+", metavar="NAME", help="only those whose name begins so")
    add("--output", type=Path, metavar="FOLDER", help="default: report in the first W")
    args = parser.parse_args(argv)
    from echofm_jax import compare_figures, compare_page, compare_table
    from echofm_jax.atomic import write_text
    from echofm_jax.compare_runs import read_all

    runs = read_all(args.workdirs)
    metrics = compare_table.metrics_of(runs)
    if args.metrics:
        metrics = compare_table.chosen(metrics, args.metrics)
    rows = compare_table.rows_of(runs, metrics, args.baseline)
    notes = notes_on(runs)
    print("\n".join([*notes, compare_table.as_text(rows, metrics, args.baseline)]))
    output = args.output or args.workdirs[0] / "report"
    figures = compare_figures.draw(rows, metrics)
    pictures = {name: compare_figures.svg(figure) for name, figure in figures.items()}
    title = " and ".join(folder.resolve().name for folder in args.workdirs[:4])
    page = compare_page.as_html(title, notes, rows, metrics, args.baseline, pictures)
    try:
        output.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            (output / f"{name}.png").write_bytes(compare_figures.png(figure))
        write_text(output / "table.csv", compare_table.as_csv(rows, metrics))
        write_text(output / "runs.csv", compare_table.runs_csv(runs, metrics))
        write_text(output / "report.html", page)
    except OSError as error:
        raise InputError(f"--output {output}: {error.strerror}; choose another folder") from error
    print(f"page: {output / 'report.html'}")
    return 0


def notes_on(runs: Sequence["Run"]) -> list[str]:
    """What a reader must know before any number."""
    done = [run for run in runs if run.metrics]
    notes = [f"{len(done)} of {len(runs)} runs are evaluated, on {done[0].config.data.dir}"]
    if simulated(done[0].config.data.dir):
        notes.append("phantom: the clips are simulated, no patient is in them")
    for state, count in Counter(run.state for run in runs if run.state != "done").items():
        first = next(f"{run.setting}, seed {run.seed}" for run in runs if run.state == state)
        notes.append(f"{first}{f' and {count - 1} more' if count > 1 else ''}: {state}")
    looks = sorted({run.looked_at for run in done})
    if len(looks) > 1:
        notes.append(f"not all were evaluated on the same clips: {'; '.join(looks)}")
    return notes


def simulated(data_dir: str) -> bool:
    """Whether a data set that is still there says that it comes from the phantom."""
    from data_pipelines.mixture import dataset_info

    try:
        return dataset_info(data_dir).simulated
    except InputError:
        return False


if __name__ == "__main__":
    sys.exit(cli.run("report", sys.argv[1:]))
