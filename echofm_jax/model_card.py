"""README.md of an exported folder: what the model is, how to load it, what it is not for."""

from collections.abc import Mapping

from echofm_jax.measures import SHOWN

CARD = """\
---
library_name: pytorch
license: other
license_name: code-apache-2.0
tags: [echocardiography, ultrasound, video, masked-autoencoder, self-supervised]
---
# EchoFM, {frames} frames of {size}x{size}, width {width}, depth {depth}

A video masked autoencoder for echocardiograms with periodic contrastive learning (EchoFM,
arXiv 2410.23413), pre-trained without labels by {software} and exported to PyTorch.
Training started from {origin}.

## Use

Needs `torch` and `safetensors`, nothing else. With this folder as the working directory:

```python
from modeling_echofm import EchoFM
model = EchoFM.from_pretrained(".").eval()
features = model.encode(model.preprocess(frames, fps=fps))
```

`frames` is a uint8 array [T, H, W] (or [B, T, H, W], or with a last axis of 3 for colour), of any
T; `fps` its frame rate. {window}
What is outside the ultrasound sector must be black and text removed, as in training.

| field | shape | what it is |
| --- | --- | --- |
| `features.tokens` | [B, {tokens}, {width}] | a feature a tubelet, {steps} steps of {grid}x{grid} |
| `features.frames` | [B, {steps}, {width}] | an embedding a time step: cardiac phase |
| `features.video` | [B, {width}] | mean of the tokens, for clip-level heads |

`echofm.pth` holds the same weights for the public EchoFM code: state dict `model`, constructor
arguments `model_args`; its `norm_layer` must be a LayerNorm of eps 1e-6.

## Model

{model}

## Training

{training}

## Measured

{measured}

The export was verified by running the same clip through JAX and this PyTorch code; the relative
differences were:

{differences}

## Intended use and limits

For research: as a starting point to fine-tune view, segmentation, ejection fraction or valve
heads, and for retrieval. It is not a medical device, and no output may guide the care of a patient.
- It has seen the views, machines, frame rates and patients of its training data only; measure it on
  your own before you rely on it.
- Frame embeddings assume a rhythm that repeats. Irregular rhythms, such as atrial fibrillation,
  and windows shorter than a heartbeat break that assumption.
- Pixels that the decoder predicts are plausible, not observed.
{simulated}
## Licence

Code: Apache-2.0. The weights follow the terms of the data that they were trained on: whoever
trained them says here who may use them, and for what.
"""
SIMULATED = """\
- It was trained on simulated clips: it shows how the software works and knows no patient.
"""


def model_card(
    config: Mapping, evaluation: Mapping, differences: Mapping[str, Mapping[str, float]]
) -> str:
    """The card's text.

    Args:
      config: what the folder's `config.json` holds.
      evaluation: the workdir's `evaluation.json`; empty if this step was not evaluated.
      differences: clip -> output -> relative difference between JAX and PyTorch.
    """
    architecture, provenance = config["architecture"], config["provenance"]
    seconds = config["preprocessing"]["window_seconds"]
    grid = architecture["size"] // architecture["patch"]
    steps = architecture["frames"] // architecture["tubelet"]
    optimizer = {f"optimizer.{k}": v for k, v in provenance["optimizer"].items()}
    training = {k: v for k, v in provenance.items() if k not in ("optimizer", "started_from")}
    origin = provenance["started_from"]
    if not isinstance(origin, str):
        origin = f"other weights (SHA-256 {origin['sha256']}), whose terms apply here too"
    objective = {f"objective.{k}": v for k, v in config["objective"].items()}
    return CARD.format(
        **architecture,
        software=provenance["software"],
        origin=origin,
        steps=steps,
        grid=grid,
        tokens=steps * grid**2,
        window=(
            f"The central {seconds:g} s are taken, {architecture['frames']} frames of them."
            if seconds
            else f"The central {architecture['frames']} consecutive frames are taken."
        ),
        model=table(("", "value"), architecture.items()),
        training=table(("", "value"), (training | optimizer | objective).items()),
        measured=measured(evaluation),
        simulated=SIMULATED if provenance["data"] == "simulated clips" else "",
        differences=table(
            ("clip", "output", "difference"),
            (
                (clip.replace("_", "-"), output, f"{value:.1e}")
                for clip, by_output in differences.items()
                for output, value in by_output.items()
            ),
        ),
    )


def measured(evaluation: Mapping) -> str:
    """The figures of `echofm evaluate` with their 95 % intervals; of all clips, not of any one."""
    if not evaluation:
        return "Nothing yet: run `echofm evaluate` before `echofm export`."
    rows, whole = [], ""
    for name, (meaning, unit) in SHOWN.items():
        # Indented lines of the evaluation compare with the line above them.
        whole = whole if meaning.startswith(" ") else meaning
        label = whole if meaning == whole else f"{whole}: {meaning.strip()}"
        value = evaluation.get(name)
        low, high = evaluation["intervals"].get(name, (None, None))
        if value is not None:
            interval = "" if low is None else f"{low:.4g} to {high:.4g}"
            rows.append((label, f"{value:.4g} {unit}".strip(), interval))
    clips, patients, split = (evaluation[name] for name in ("clips", "patients", "split"))
    return (
        f"On {clips} clips of {patients} patients, split `{split}`:\n\n"
        f"{table(('figure', 'value', '95 % interval'), rows)}"
    )


def table(header: tuple[str, ...], rows) -> str:
    """A Markdown table."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
