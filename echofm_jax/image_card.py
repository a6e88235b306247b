"""README.md of an exported image backbone: what it is, how to load it, what it is not for."""

from collections.abc import Mapping

from echofm_jax.image_architecture import ImageArchitecture
from echofm_jax.model_card import SIMULATED, measured, table

CARD = """\
---
library_name: transformers
pipeline_tag: image-feature-extraction
license: other
license_name: code-apache-2.0
tags: [echocardiography, ultrasound, dinov2, self-supervised]
---
# EchoApex backbone, {size}x{size} pixels, width {width}, depth {depth}

A vision transformer for single echocardiogram frames, pre-trained without labels by DINOv2's
self-distillation (EchoApex, arXiv 2410.11092; DINOv2, arXiv 2304.07193) by {software}, and exported
in transformers' own format. It is the teacher's. Training started from {origin}.

## Use

With transformers; no code in this folder is run:

```python
from transformers import AutoImageProcessor, AutoModel
processor = AutoImageProcessor.from_pretrained(".")
model = AutoModel.from_pretrained(".").eval()
tokens = model(**processor(images=frame, return_tensors="pt")).last_hidden_state
```

`frame` is a uint8 array [H, W, 3], grey repeated; `tokens` [B, {tokens}, {width}]: CLS, {registers}
registers, {grid}x{grid} patches. What is outside the ultrasound sector must be black and text
removed, as in training. With echofm_jax (no JAX and no transformers needed), on whole recordings:

```python
from echofm_jax.pytorch import EchoApex
model = EchoApex.from_pretrained(".").eval()
features = model.encode(model.preprocess(frames, fps=fps))
```

At other sizes than {size}, position embeddings are interpolated; training's own rule for them
(the official code's, a tenth of a patch added) is not exactly transformers'.

{programs}## Model

{model}

## Training

{training}

## Measured

{measured}

The export was verified by running the same image through JAX and every file here; the relative
differences were:

{differences}

## Intended use and limits

For research: as a starting point to fine-tune view, segmentation, ejection fraction or hypertrophy
heads, and for retrieval. It is not a medical device, and no output may guide the care of a patient.
- It has seen the views, machines and patients of its training data only; measure it on your own
  before you rely on it.
- A frame is all that it sees: nothing in a token tells of motion.
{simulated}
## Licence

Code: Apache-2.0. The weights follow the terms of the data that they were trained on, and of the
weights that training started from: whoever trained them says here who may use them, and for what.
"""
PROGRAMS = """\
{names}: the same as programs that need no code, for batches of any length. Their input `images` is
float32 [B, 3, {size}, {size}] in [0, 1], grey in three equal channels; they give `cls` [B, {width}]
and `patches` [B, {positions}, {width}]. Keep `.onnx.data` beside the ONNX file; read a `.pt2` with
`echofm_jax.pytorch.load_program`, which checks its digest, because PyTorch unpickles parts of it.

"""


def image_card(
    arch: ImageArchitecture,
    about: Mapping,
    evaluation: Mapping,
    differences: Mapping,
    also: Mapping,
) -> str:
    """The card's text; `about` is echoapex.json, the others as in `model_card`."""
    trained = about["trained"]
    origin = trained["started_from"]
    if not isinstance(origin, str):
        origin = f"other weights (SHA-256 {origin['sha256']}), whose terms apply here too"
    rows = {k: v for k, v in trained.items() if k not in ("optimizer", "objective", "started_from")}
    for section in ("optimizer", "objective"):
        rows |= {f"{section}.{name}": value for name, value in trained[section].items()}
    names = [name for name in also if name.endswith((".pt2", ".onnx"))]
    sizes = {"size": arch.size, "width": arch.width, "positions": arch.positions}
    shown = ("width", "depth", "heads", "mlp_ratio", "ffn", "patch", "size", "registers")
    programs = ", ".join(f"`{name}`" for name in names)
    return CARD.format(
        **sizes,
        depth=arch.depth,
        grid=arch.grid,
        registers=arch.registers,
        tokens=1 + arch.registers + arch.positions,
        software=trained["software"],
        origin=origin,
        programs=PROGRAMS.format(names=programs, **sizes) if names else "",
        model=table(("", "value"), ((name, getattr(arch, name)) for name in shown)),
        training=table(("", "value"), rows.items()),
        measured=measured(evaluation),
        simulated=SIMULATED if trained["data"] == "simulated clips" else "",
        differences=table(
            ("read by", "image", "output", "difference"),
            (
                (reader, image.replace("_", "-"), output, f"{value:.1e}")
                for reader, by_image in {"model.safetensors": differences, **also}.items()
                for image, by_output in by_image.items()
                for output, value in by_output.items()
            ),
        ),
    )
