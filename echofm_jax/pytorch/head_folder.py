"""A trained head as a folder: weights, config, the code that loads it, a card. No names in it."""

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import nn

from echofm_jax import __version__
from echofm_jax.atomic import new_folder
from echofm_jax.pytorch.scores import Score
from echofm_jax.pytorch.trained_echofm import FORMAT
from echofm_jax.torch_checkpoint import sha256

if TYPE_CHECKING:
    from echofm_jax.pytorch.finetune_run import Run

HERE = Path(__file__).parent
KNOWN = {  # encoders: what a card calls them, what config.json says, code that their heads need
    "EchoFM": ("EchoFM (arXiv 2410.23413)", {}, ()),
    "EchoApex": (
        "EchoApex (arXiv 2410.11092)", {"model_type": "echoapex"}, ("modeling_echoapex.py",),
    ),
}  # fmt: skip
CARD = """\
---
library_name: pytorch
license: other
license_name: code-apache-2.0
tags: [echocardiography, ultrasound, video]
---
# {title}

{answers} Its encoder is {encoder}; the head was trained by echofm_jax
{version} on {train} clips of {patients} patients.

## Use

```python
from echofm_jax.pytorch import {loader}
head = {loader}.from_pretrained("{name}")
{use}
```

`{reads}` reads and cleans files as for training and needs echofm_jax (`requirements-torch.txt`; no
JAX). {alone}

## Measured

On {test} clips of {test_patients} other patients; 95 % intervals by bootstrap over patients.

| | value | interval |
| --- | --- | --- |
{measured}

## Training

{training}

## Limits

For research. It is not a medical device, and no output may guide the care of a patient. It has seen
the machines, views and patients of its training data only: measure it on your own before you rely
on it.
{simulated}
## Licence

Code: Apache-2.0. The weights follow the terms of the data that encoder and head were trained on.
"""
USE = {"use": 'answers = head.predict(["clip.dcm", "other.avi"])', "reads": "predict"}
SIMULATED = """\
It was trained on simulated clips: it shows how the software works and knows no patient.
"""


def write_head(
    folder: Path, model: nn.Module, described: Mapping, code: Sequence[str], card: Mapping[str, str]
) -> None:
    """Write a head's folder, whole or not at all.

    Args:
      folder: does not exist yet.
      model: its state dict is kept.
      described: what config.json says besides version and digest.
      code: files of this package that load it, copied.
      card: what fills the card, see `CARD`.

    Raises InputError when it is there already or cannot be written.
    """
    with new_folder(folder) as new:
        state = {
            name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
        }
        save_file(state, new / "model.safetensors")
        digests = {"model.safetensors": sha256(new / "model.safetensors")}
        config = {"head_format": FORMAT, **described, "sha256": digests}
        (new / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        for name in code:
            shutil.copyfile(HERE / name, new / name)
        (new / "README.md").write_text(CARD.format_map({"version": __version__, **USE, **card}))


def write_trained(
    run: "Run", model: nn.Module, metrics: Mapping, figures: Mapping[str, Score],
    code: Sequence[str], words: Mapping[str, str],
) -> None:  # fmt: skip
    """Write RUN/head.

    Args:
      run: what was trained.
      model: an encoder with a head; both have a `config`.
      metrics: what metrics.json will hold.
      figures: its scores.
      code: files of this package that load it, but for the encoder's own.
      words: `title`, `answers`, `loader` and `alone` of the card; `use` and `reads` where it is
        not used by `predict`.
    """
    called, kind, own_code = KNOWN[type(model.encoder).__name__]
    c = model.encoder.config
    architecture = dataclasses.asdict(c)
    window = architecture.pop("window_seconds")
    head = dataclasses.asdict(model.config)
    if not head.get("prompts", 1):
        del head["prompts"]  # readers from before there were any know no such field
    described = kind | {
        "head": head,
        "architecture": architecture,
        "preprocessing": {"frames": c.frames, "size": c.size, "window_seconds": window},
        "encoder": "random weights" if run.random else origin(run.model),
        "recipe": metrics["recipe"],
        "scores": metrics["scores"],
    }
    weights = "random weights" if run.random else "pre-trained without labels"
    card = {
        "encoder": f"{called}, width {c.width}, depth {c.depth}, {c.frames} frames of "
        f"{c.size}x{c.size}, {weights}",
        "name": "head",
        "train": metrics["clips"]["train"],
        "patients": metrics["patients"]["train"],
        "test": metrics["clips"]["test"],
        "test_patients": metrics["patients"]["test"],
        "measured": score_rows(figures),
        "training": "; ".join(f"{name} {value}" for name, value in metrics["recipe"].items()),
        "simulated": SIMULATED if run.simulated else "",
    }
    write_head(run.folder / "head", model, described, (*own_code, *code), card | words)


def origin(encoder: Path) -> dict:
    """What an encoder's folder says of where its weights come from."""
    own = encoder / "echoapex.json"
    if own.is_file():
        return json.loads(own.read_text()).get("trained", {})
    return json.loads((encoder / "config.json").read_text()).get("provenance", {})


def score_rows(scores: Mapping[str, Score]) -> str:
    """Lines of the card's table."""
    return "\n".join(
        f"| {name.replace('_', ' ')} | {s.value:.3f} | {s.low:.3f} – {s.high:.3f} |"
        for name, s in scores.items()
    )
