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

`EchoFM.from_pretrained(".", frames=16, size=112)` takes other clips (position embeddings are
interpolated), `dtype=torch.bfloat16` computes in half precision, `model.gradient_checkpointing =
True` saves memory in fine-tuning, and `torch.compile(model)` finds no graph break.

With transformers (`trust_remote_code=True` runs `hf_echofm.py` and `modeling_echofm.py`: read them;
`AutoVideoProcessor` gives the same, but wants torchvision):

```python
from transformers import AutoImageProcessor, AutoModel
processor = AutoImageProcessor.from_pretrained(".", trust_remote_code=True)
model = AutoModel.from_pretrained(".", trust_remote_code=True).eval()
output = model(**processor(frames, fps=fps))
```

{programs}`echofm.pth` holds the same weights for the public EchoFM code: state dict `model`,
constructor arguments `model_args`; its `norm_layer` must be a LayerNorm of eps 1e-6.
`config.json` holds the SHA-256 of every weight file: a truncated or changed one is refused.

## Model

{model}

## Training

{training}

## Measured

{measured}

The export was verified by running the same clip through JAX and every file here; the relative
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
PROGRAMS = """\
Programs, for batches of any length, that need no code of this folder:
{names}.
Their input `clips` is float32 [B, 3, {frames}, {size}, {size}] in [0, 1], grey in three equal
channels. `encoder` gives {encodes}.{decoder}

- ONNX: `onnxruntime.InferenceSession("encoder.onnx")`; keep `.onnx.data` beside it. Nothing but
  `sha256sum` tells whether it was changed.
- PyTorch: `load_program("encoder.pt2")` of `modeling_echofm`, which checks the digest first,
  because PyTorch unpickles parts of such files.

"""
DECODER = """
`reconstruction` also takes `visible`, int64 [B, n], the ascending indices of the tokens that it may
see, and gives `pixels` [B, {tokens}, {pixels}] of all tokens."""
SIMULATED = """\
- It was trained on simulated clips: it shows how the software works and knows no patient.
"""


def model_card(
    config: Mapping,
    evaluation: Mapping,
    differences: Mapping[str, Mapping[str, float]],
    also: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """The card's text.

    Args:
      config: what the folder's `config.json` holds.
      evaluation: the workdir's `evaluation.json`; empty if this step was not evaluated.
      differences: clip -> output -> relative difference between JAX and PyTorch.
      also: the same by file, of programs and half-precision copies.
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
        programs=programs(architecture, also),
        differences=table(
            ("file", "clip", "output", "difference"),
            (
                (file, clip.replace("_", "-"), output, f"{value:.1e}")
                for file, by_clip in {"model.safetensors": differences, **also}.items()
                for clip, by_output in by_clip.items()
                for output, value in by_output.items()
            ),
        ),
    )


def programs(architecture: Mapping, also: Mapping[str, Mapping]) -> str:
    """How to run the programs of a folder; nothing where there are none."""
    names = [name for name in also if name.endswith((".pt2", ".onnx"))]
    if not names:
        return ""
    steps = architecture["frames"] // architecture["tubelet"]
    tokens = steps * (architecture["size"] // architecture["patch"]) ** 2
    pixels = architecture["pred_frames"] // steps * architecture["patch"] ** 2 * 3
    decodes = any(name.startswith("reconstruction") for name in names)
    projects = any("frames" in by_output for name in names for by_output in also[name].values())
    return PROGRAMS.format(
        names=", ".join(f"`{name}`" for name in names),
        frames=architecture["frames"],
        size=architecture["size"],
        encodes="`tokens`, `video` and `frames`" if projects else "`tokens` and `video`",
        decoder=DECODER.format(tokens=tokens, pixels=pixels) if decodes else "",
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
