"""Facts of records → figures of a data set: how many of what, and how they are distributed."""

import numpy as np

from data_pipelines.inspect_hash import near_pairs
from data_pipelines.inspect_scan import LABELS

BINS = 20
HISTOGRAMS = {  # figure: (fact of a clip, what it is, unit)
    "fps": ("fps", "frame rate", "frames/s"),
    "length_frames": ("frames", "length", "frames"),
    "length_seconds": ("seconds", "length", "s"),
    "brightness": ("brightness", "brightness inside the sector", "grey level"),
    "sector_coverage": ("coverage", "sector", "share of the picture"),
}


def statistics(facts: np.ndarray) -> dict:
    """Everything that `echofm inspect` counts, of [n] FACTS; ready for JSON.

    A clip counts once, however many records it is cut into.
    """
    clips = whole_clips(facts)
    return {
        "records": len(facts),
        "clips": len(clips),
        "patients": len(np.unique(facts["patient_id"])),
        "frames": int(facts["frames"].sum()),
        "seconds": float(np.nansum(facts["seconds"])),
        "splits": {
            split: {
                "records": int((facts["split"] == split.encode()).sum()),
                "clips": len(own := clips[clips["split"] == split.encode()]),
                "patients": len(np.unique(own["patient_id"])),
            }
            for split in counted(facts["split"])
        },
        "views": counted(clips["view"]),
        "rhythms": counted(clips["rhythm"]),
        "modes": counted(clips["mode"]),
        "labels": dict(zip(LABELS, clips["labels"].sum(0).tolist(), strict=True)),
        "histograms": {
            name: histogram(clips[fact]) for name, (fact, _, _) in HISTOGRAMS.items()
        },
        **repeated(facts),
        "near_duplicates": near_duplicates(facts),
    }  # fmt: skip


def whole_clips(facts: np.ndarray) -> np.ndarray:
    """[n] FACTS of records → [c] FACTS of clips: lengths added, labels that any part has."""
    if not len(facts):
        return facts
    ordered = facts[np.lexsort((facts["segment"], facts["clip_id"]))]
    first = np.flatnonzero(np.r_[True, ordered["clip_id"][1:] != ordered["clip_id"][:-1]])
    clips = ordered[first].copy()
    for length in ("frames", "seconds"):
        clips[length] = np.add.reduceat(ordered[length], first)
    clips["labels"] = np.logical_or.reduceat(ordered["labels"], first)
    return clips


def counted(values: np.ndarray) -> dict[str, int]:
    """{text: how often}, the most frequent first; an empty text is "unknown"."""
    texts, counts = np.unique(values, return_counts=True)
    pairs = sorted(zip(texts.tolist(), counts.tolist(), strict=True), key=lambda p: (-p[1], p[0]))
    return {text.decode(errors="replace") or "unknown": count for text, count in pairs}


def histogram(values: np.ndarray) -> dict:
    """Extremes, median and BINS equal bins of what is known; 0 and NaN are unknown."""
    known = values[np.isfinite(values) & (values > 0)].astype(np.float64)
    if not len(known):
        return {"known": 0, "unknown": len(values)}
    counts, edges = np.histogram(known, BINS)
    return {
        "known": len(known), "unknown": len(values) - len(known),
        "min": float(known.min()), "median": float(np.median(known)), "max": float(known.max()),
        "edges": edges.tolist(), "counts": counts.tolist(),
    }  # fmt: skip


def repeated(facts: np.ndarray) -> dict:
    """Clips stored twice or in part, and patients in two splits, by their salted ids."""
    keys, counts = np.unique(facts[["clip_id", "segment"]], return_counts=True)
    parts = {}
    for clip, segment, segments in facts[["clip_id", "segment", "segments"]].tolist():
        parts.setdefault((clip, segments), set()).add(segment)
    homes = np.unique(facts[["patient_id", "split"]])["patient_id"]  # one line for each split
    patients, splits = np.unique(homes, return_counts=True)
    return {
        "duplicates": sorted({key["clip_id"].decode() for key in keys[counts > 1]}),
        "incomplete_clips": sorted(
            clip.decode() for (clip, n), found in parts.items() if len(found) != n
        ),
        "patients_in_two_splits": [patient.decode() for patient in patients[splits > 1]],
    }


def near_duplicates(facts: np.ndarray) -> list[tuple[str, str]]:
    """Pairs of clip ids whose first parts look the same."""
    first = facts[facts["segment"] == 0]
    _, kept = np.unique(first["clip_id"], return_index=True)
    first = first[np.sort(kept)]
    names = [clip.decode() for clip in first["clip_id"].tolist()]
    return [(names[a], names[b]) for a, b in near_pairs([look.tobytes() for look in first["look"]])]
