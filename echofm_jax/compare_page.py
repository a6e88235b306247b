"""The page of a comparison: it opens offline, in light and dark, and loads nothing."""

import html
from collections.abc import Mapping, Sequence

from echofm_jax.compare_table import REFERENCES, Metric, Row, differs, signed

STYLE = """:root { color-scheme: light dark; --ink: #1b1f24; --page: #fff; --line: #d8dde3;
  --best: #d8f0df; --note: #fff3cd; --faint: #667 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --page: #16191d; --line: #3a4048;
  --best: #1f4a30; --note: #4a3f12; --faint: #9aa3ad } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 86em; padding: 0 1em;
  color: var(--ink); background: var(--page) }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: 1em 0; font-size: 14px }
td, th { padding: .35em .8em; text-align: left; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap }
th { font-weight: 600; white-space: normal; vertical-align: bottom }
thead small { font-weight: 400 }
td.n { text-align: right; font-variant-numeric: tabular-nums }
td.best { background: var(--best); font-weight: 600 }
tbody th { position: sticky; left: 0; background: var(--page); white-space: nowrap;
  vertical-align: top }
small, .faint { color: var(--faint) } .note { background: var(--note); padding: .5em 1em }
figure { margin: 1.5em 0 } svg { max-width: 100%; height: auto } code { font-size: 13px }"""
TITLES = {
    "settings": "Every setting",
    "losses": "Loss curves",
    "cost-hours": "Time against quality",
    "cost-cpu_hours": "Processor time against quality",
    "cost-parameters": "Parameters against quality",
}


def as_html(
    title: str,
    notes: Sequence[str],
    rows: Sequence[Row],
    metrics: Sequence[Metric],
    baseline: str | None,
    figures: Mapping[str, str],
) -> str:
    """The page.

    Args:
      title: what is compared.
      notes: what a reader must know before any number.
      rows, metrics: of compare_table.
      baseline: the setting that differences are from.
      figures: {name: SVG}.
    """
    own = [m for m in metrics if not m.name.endswith(REFERENCES)]
    references = [m for m in metrics if m.name.endswith(REFERENCES)]
    parts = [f'<p class="note">{html.escape(note)}</p>' for note in notes]
    parts += [table(rows, own, baseline), f'<p class="faint">{legend(baseline)}</p>']
    for name, picture in figures.items():
        heading = TITLES.get(name, name.replace("field-", "Against "))
        parts.append(f"<h2>{html.escape(heading)}</h2><figure>{inline(name, picture)}</figure>")
    if references:
        parts.append(
            "<h2>For comparison</h2><p>What raw pixels, random weights and chance give on the "
            "same clips: no training has a part in it.</p>" + table(rows, references, baseline)
        )
    parts += ["<h2>Runs</h2>", runs_table(rows)]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{STYLE}</style></head>
<body><h1>{html.escape(title)}</h1>
{"".join(parts)}
</body></html>
"""


def inline(name: str, picture: str) -> str:
    """An SVG as part of the page; its ids must not meet those of another."""
    for mark in (' id="', 'href="#', "url(#"):
        picture = picture.replace(mark, f"{mark}{name}-")
    return picture


def legend(baseline: str | None) -> str:
    """How to read the table."""
    told = (
        "Mean ± half of the 95 % interval over seeds (t distribution); no interval for one seed. "
        "Shaded: best mean, be the difference large or small. "
        "“missing”: no run of the setting has that metric."
    )
    if baseline is not None:
        told += (
            f" Second line: difference from {html.escape(baseline)}, seed by seed; "
            "* where its interval leaves out 0."
        )
    return told


def table(rows: Sequence[Row], metrics: Sequence[Metric], baseline: str | None) -> str:
    """Settings × metrics."""
    aims = {1: "more is better", -1: "less is better", 0: ""}
    head = "".join(
        f"<th>{html.escape(m.label)}{small(m.unit)}{small(aims[m.better])}</th>" for m in metrics
    )
    body = ""
    for row in rows:
        name = html.escape(row.setting) + small("baseline" * (row.setting == baseline))
        runs = f"{row.done} of {len(row.runs)}" if row.done < len(row.runs) else f"{row.done}"
        cells = "".join(cell(row, metric) for metric in metrics)
        body += f'<tr><th>{name}</th><td class="n">{runs}</td>{cells}</tr>'
    return wide(f"<th>setting</th><th>runs</th>{head}", body)


def cell(row: Row, metric: Metric) -> str:
    """A mean, of how many runs if not all, and the difference from the baseline."""
    value, change = row.values[metric.name], row.differences.get(metric.name)
    if not value.n:
        return '<td class="n faint">missing</td>'
    of = f" <small>({value.n} of {len(row.runs)})</small>" if value.n < len(row.runs) else ""
    second = ""
    if change and change.n and not metric.name.endswith(REFERENCES):
        second = small(signed(change) + " *" * differs(change))
    best = " best" * (metric.name in row.best)
    return f'<td class="n{best}">{value}{of}{second}</td>'


def runs_table(rows: Sequence[Row]) -> str:
    """Every run and how far it is."""
    body = "".join(
        f'<tr><th>{html.escape(row.setting)}</th><td class="n">{run.seed}</td>'
        f"<td>{html.escape(run.state)}</td><td>{html.escape(run.looked_at)}</td>"
        f"<td><code>{html.escape(str(run.folder))}</code></td></tr>"
        for row in rows
        for run in row.runs
    )
    heads = ("setting", "seed", "state", "evaluated on", "folder")
    return wide("".join(f"<th>{head}</th>" for head in heads), body)


def wide(head: str, body: str) -> str:
    """A table that scrolls by itself where the window is narrow."""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def small(text: str) -> str:
    """One more line, of small print, or nothing."""
    return f"<br><small>{html.escape(text)}</small>" if text else ""
