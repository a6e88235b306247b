"""Every figure twice: NAME.png for a light page, NAME-dark.png for a dark one.

A figure is a function of a theme; `save` calls it for both. Colours of lines tell themselves apart
with every kind of colour blindness (checked with the model of Machado et al. 2009), and points of
different kinds differ in their marks, too.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

MARKS = "os^DvPX*"


@dataclasses.dataclass(frozen=True)
class Theme:
    """Colours of one background."""

    suffix: str  # of a file's name
    page: str
    ink: str  # text and axes
    faint: str  # what must not draw the eye
    hidden: str  # a patch that the model did not see
    series: tuple[str, ...]  # lines and points, as they come
    cycle: tuple[str, ...]  # once around the heartbeat; light and dark, blue and yellow
    diverging: str  # matplotlib's name of a map whose middle is the page's colour

    def path(self, path: Path) -> Path:
        """NAME.png → NAME.png or NAME-dark.png."""
        return path.with_name(f"{path.stem}{self.suffix}{path.suffix}")

    def phase_map(self) -> "Colormap":
        """Phase 0 … 1 → colour; both ends are the same, and what is not known is faint."""
        from matplotlib.colors import LinearSegmentedColormap

        around = LinearSegmentedColormap.from_list("phase", [*self.cycle, self.cycle[0]])
        return around.with_extremes(bad=self.faint)

    def time_map(self) -> "Colormap":
        """Early … late → colour."""
        from matplotlib.colors import LinearSegmentedColormap

        return LinearSegmentedColormap.from_list("time", self.cycle[:3])

    def rc(self) -> dict[str, object]:
        """What matplotlib is told."""
        text = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        pages = ("figure.facecolor", "axes.facecolor", "legend.facecolor")
        return dict.fromkeys(text, self.ink) | dict.fromkeys(pages, self.page) | {
            "grid.color": self.faint, "grid.alpha": 0.3, "legend.edgecolor": "none",
            "legend.framealpha": 0.85, "font.sans-serif": ["DejaVu Sans"],
        }  # fmt: skip


# Pages and inks are those of `compare_page`.
LIGHT = Theme(
    "", page="#ffffff", ink="#1b1f24", faint="#666677", hidden="#c9d3dc",
    series=("#0072b2", "#c44e00", "#00916a", "#b84f8c", "#b58a00", "#4497d6", "#4b2f90", "#555555"),
    cycle=("#1c2f80", "#4497d6", "#d9a300", "#7a2f08"), diverging="RdBu_r",
)  # fmt: skip
DARK = Theme(
    "-dark", page="#16191d", ink="#e6e8eb", faint="#9aa3ad", hidden="#34506b",
    series=("#5ab4f0", "#f0a030", "#34c796", "#e58fc0", "#f0e442", "#ff6f4a", "#8f78f5", "#e6e8eb"),
    cycle=("#4a68e0", "#a5dcff", "#ffe070", "#d9682a"), diverging="berlin",
)  # fmt: skip
THEMES = (LIGHT, DARK)


def save(path: Path, draw: Callable[[Theme], "Figure"]) -> None:
    """Draw for each theme and write both PNGs, whole files or none."""
    from matplotlib import rc_context

    path.parent.mkdir(parents=True, exist_ok=True)
    for theme in THEMES:
        target = theme.path(path)
        half = target.with_name(f".{target.name}.writing")
        with rc_context(theme.rc()):
            draw(theme).savefig(half, format="png", metadata={"Software": None})
        half.replace(target)


def figure(width: float, height: float) -> "Figure":
    """A figure of its own, outside pyplot: no display, no global state. Inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def title(drawn: "Figure", text: str, simulated: bool) -> None:
    """The figure's heading; it says where the heart is simulated."""
    drawn.suptitle(headed(text, simulated), fontsize=12)


def headed(text: str, simulated: bool) -> str:
    """A heading, with the word that nobody was examined for it."""
    return f"{text}  ·  simulated" if simulated else text


def time_unit(seconds: float, name: str) -> tuple[float, str]:
    """(duration of one, its unit): `seconds` and "s", or 1 and `name` where they are not known."""
    return (seconds, "s") if np.isfinite(seconds) else (1.0, name)


def moment(frame: int, seconds: float) -> str:
    """When a frame is: in seconds from the clip's first, else its number."""
    return f"{frame * seconds:.2f} s" if np.isfinite(seconds) else f"frame {frame}"
