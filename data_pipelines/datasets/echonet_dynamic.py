"""EchoNet-Dynamic: 10,030 apical four-chamber videos with ejection fractions and tracings.

    FileList.csv   VolumeTracings.csv   Videos/*.avi

No patient is named: each video is one. https://echonet.github.io/dynamic/
"""

from pathlib import Path

from data_pipelines.datasets.tables import SPLITS, join, read_table
from data_pipelines.datasets.volume_tracings import Traced, read_tracings
from data_pipelines.labels import Label
from data_pipelines.source import Source

TITLE = "EchoNet-Dynamic"
EXPECTED = ("FileList.csv", "VolumeTracings.csv", "Videos")
PLACES = (".", "EchoNet-Dynamic")
COLUMNS = ("FileName", "EF", "ESV", "EDV", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames",
           "Split")  # fmt: skip


def read(root: Path) -> Source:
    """Videos with split, rate, ejection fraction, volumes, ED and ES frames and masks."""
    traced = read_tracings(root / "VolumeTracings.csv")
    known: dict[str, Label] = {}
    for row in read_table(root / "FileList.csv", COLUMNS):
        stem = row.stem("FileName")
        if stem in known:
            raise row.wrong("FileName", "was there before")
        tracings, diastole, systole = traced.get(stem, Traced((), (), ()))
        known[stem] = Label(
            patient=stem,
            view="A4C",
            split=row.choice("Split", SPLITS | {name.upper(): name for name in SPLITS}),
            fps=row.rate("FPS"),
            ejection_fraction=row.number("EF", 0, 100),
            end_diastole=diastole,
            end_systole=systole,
            tracings=tracings,
            measurements=(
                ("end_diastolic_volume", row.number("EDV", 0)),
                ("end_systolic_volume", row.number("ESV", 0)),
            ),
        )
    for stem in traced.keys() - known.keys():
        known[stem] = Label(problem="traced, but no row in FileList.csv")
    videos = (path for path in (root / "Videos").iterdir() if path.suffix.lower() == ".avi")
    files, labels = join(
        root, videos, known, "FileList.csv", lambda stem: root / "Videos" / f"{stem}.avi"
    )
    return Source(root, files, labels, precropped=True)
