"""One file → one `Clip`, whatever its format; and the files that a source names."""

import itertools
import os
from pathlib import Path

from data_pipelines.clip import Clip, Rejected
from echofm_jax.errors import InputError

DICOM_SUFFIXES = (".dcm", ".dicom")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mov", ".m4v", ".mkv", ".wmv", ".gif")
ARRAY_SUFFIXES = (".npy", ".npz")
VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mhd")
# A data set without preamble starts with its group number, little endian.
DICOM_GROUPS = (b"\x02\x00", b"\x08\x00")


def find_files(source: str) -> tuple[Path, list[Path]]:
    """Files of a folder (with its subfolders), of a glob pattern, or one file.

    Hidden files and folders are skipped; links to folders are followed once. A link to nothing
    and a folder that cannot be listed count as files, so that somebody hears of them.

    Returns:
        The folder that the paths share, and the sorted files below it.

    Raises:
        InputError: nothing is there.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        root, files = path, _walk(path)
    else:
        plain = list(itertools.takewhile(lambda part: not set(part) & set("*?["), path.parts))
        root, files = Path(*plain), set()
        pattern = path.relative_to(root)
        matches = root.glob(str(pattern)) if pattern.parts and root.is_dir() else ()
        for match in matches:
            if not any(part.startswith(".") for part in match.relative_to(root).parts):
                files |= _walk(match) if match.is_dir() else {match}
    if not files:
        raise InputError(
            f"no files: {source}: name a folder, a file or a quoted glob pattern that has some"
        )
    return root, sorted(files)


def _walk(root: Path) -> set[Path]:
    files, seen = set(), set()

    def unlisted(error: OSError) -> None:
        files.add(Path(error.filename))

    for folder, folders, names in os.walk(root, onerror=unlisted, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(folder, name) for name in names if not name.startswith("."))
        files.update(path for path in paths if path.is_file() or path.is_symlink())
    return files


def read(path: Path, *, colour: bool = True, still: bool = False) -> Clip:
    """Read a clip; what the content says goes before what the suffix says.

    Without `colour`, frames may be grey already: of DICOM files that show no flow. `still`: the
    file is expected to be a single picture, which otherwise is no clip.

    Raises:
        Rejected: the file is not a clip. The reason and the detail name no file, no path and no
            value of a header.
        MemoryError: it needs more than there is.
    """
    try:
        return _read(path, colour, still)
    except (Rejected, MemoryError):
        raise
    except FileNotFoundError:
        raise Rejected("missing") from None
    except Exception as error:  # decoders raise anything on damaged files
        # The message may quote the header, and the chained traceback would.
        raise Rejected("unreadable", type(error).__name__) from None


def companions(path: Path) -> tuple[Path, ...]:
    """Files that are read with this one. What is wrong with them is told when they are read."""
    if path.suffix.lower() != ".mhd":
        return ()
    from data_pipelines import volumes

    try:
        return (volumes.pixel_file(path),)
    except (OSError, Rejected):
        return ()


def _read(path: Path, colour: bool, still: bool) -> Clip:
    if path.stat().st_size == 0:
        raise Rejected("empty", "zero bytes")
    with path.open("rb") as file:
        start = file.read(132)
    suffix = path.suffix.lower()
    if (
        start[128:] == b"DICM"
        or suffix in DICOM_SUFFIXES
        or (not suffix and start[:2] in DICOM_GROUPS)
    ):
        from data_pipelines import dicom

        return dicom.read(path, colour=colour)
    if suffix in VIDEO_SUFFIXES:
        from data_pipelines import video as reader
    elif suffix in ARRAY_SUFFIXES:
        from data_pipelines import arrays as reader
    elif path.name.lower().endswith(VOLUME_SUFFIXES):
        from data_pipelines import volumes as reader
    elif still and suffix == ".png":
        from data_pipelines import stills as reader
    else:
        raise Rejected("not_video", "unknown format")
    return reader.read(path)
