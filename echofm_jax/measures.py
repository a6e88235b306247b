"""The figures of an evaluation: their names in `evaluation.json`, meanings and units.

A figure of a source carries its name at the end: `model`, and what it is to be read beside – raw
`pixels` (the prior itself), `random` weights, `chance`.
"""

SOURCES = {
    "model": "",
    "tokens": "its tokens instead of frame embeddings",
    "pixels": "raw pixels",
    "random": "random weights",
    "cavity": "without labels, from the cavity",
    "patch_mean": "each hidden patch its own mean",
    "truth": "from the true end-diastoles",
    "chance": "chance",
}
FROZEN = ("model", "pixels", "random")
GUESSED = (*FROZEN, "chance")
PERIODIC = ("model", "tokens", "pixels", "random")  # tokens: of models without a projector, too
NEAREST = (*PERIODIC, "chance")
_MEASURES = (  # name, meaning, unit, sources; none: the name is whole
    ("loss", "total loss", "", ()),
    ("recon", "reconstruction loss", "", ()),
    ("triplet", "periodic contrast loss", "", ()),
    ("cycle", "cycle distillation loss", "", ()),
    ("psnr", "PSNR of hidden pixels inside the sector", "dB", ("", "patch_mean")),
    ("ssim", "SSIM of hidden pixels inside the sector", "", ("", "patch_mean")),
    ("effective_rank", "effective rank of the frame embeddings", "", ("model", "random")),
    ("prior_agreement", "agreement with the pixel prior, r", "", ("model", "random")),
    ("cross_beat_error", "cross-beat phase error", "% of a cycle", NEAREST),
    ("cross_beat_error_sinus", "cross-beat phase error, sinus rhythm", "% of a cycle", NEAREST),
    ("cross_beat_error_af", "cross-beat phase error, atrial fibrillation", "% of a cycle", NEAREST),
    ("heart_rate_found", "share of recordings that show a cycle", "", PERIODIC),
    ("heart_rate_error", "heart rate error where a cycle shows", "bpm", PERIODIC),
    ("end_diastole_error", "end-diastole, linear readout", "ms", (*FROZEN, "cavity")),
    ("end_systole_error", "end-systole, linear readout", "ms", (*FROZEN, "cavity")),
    ("end_diastole_frames", "end-diastole, in frames of the file", "frames", (*FROZEN, "cavity")),
    ("end_systole_frames", "end-systole, in frames of the file", "frames", (*FROZEN, "cavity")),
    ("ef_mae", "ejection fraction, linear, mean error", "% points", GUESSED),
    ("ef_knn_mae", "ejection fraction, nearest neighbours, mean error", "% points", FROZEN),
    ("ef_mae_10pct", "ejection fraction, linear, 10 % of the patients", "% points", FROZEN),
    ("ef_mae_1pct", "ejection fraction, linear, 1 % of the patients", "% points", FROZEN),
    ("view_accuracy", "view, linear", "", GUESSED),
    ("view_knn_accuracy", "view, nearest neighbours", "", FROZEN),
    ("view_accuracy_10pct", "view, linear, 10 % of the patients", "", FROZEN),
    ("view_accuracy_1pct", "view, linear, 1 % of the patients", "", FROZEN),
    ("af_auroc", "fibrillation against sinus rhythm, linear, AUROC", "", FROZEN),
    ("af_beats_auroc", "fibrillation, from the beats read, AUROC", "", (*FROZEN, "truth")),
)


def _shown() -> dict[str, tuple[str, str]]:
    found = {}
    for name, meaning, unit, sources in _MEASURES:
        for source in sources or ("",):
            label = f"  {SOURCES[source]}" if SOURCES.get(source) else meaning
            found[f"{name}_{source}" if source else name] = (label, unit)
    return found


SHOWN = _shown()  # name in `evaluation.json`: (what it is, its unit)
