"""Exported programs: the model as a graph that runs without its code, torch.export's or ONNX.

`encoder` takes clips, `reconstruction` clips and the tokens that it may see; both take batches of
any length. Each holds the parameters of its own parts alone, in float32.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from echofm_jax.errors import InputError
from echofm_jax.pytorch import EchoApex, EchoFM, load_program
from echofm_jax.torch_weights import TABLE

FORMATS = ("pt2", "onnx")
BATCH = 2  # of the traced example; another one must run as well
CLIPS, VISIBLE, IMAGES = "clips", "visible", "images"  # programs' inputs

# Inputs to trace with, and which of their axes may have any length.
Example = tuple[dict[str, Tensor], dict[str, dict[int, str]]]


class Encoder(nn.Module):
    """Clips to token features and their mean, and to phase embeddings where asked for."""

    outputs = ("tokens", "video")
    parts = ("encoder",)

    def __init__(self, model: EchoFM):
        super().__init__()
        self.model = model

    def example(self) -> Example:
        """Of its inputs."""
        c = self.model.config
        return {CLIPS: torch.zeros(BATCH, 3, c.frames, c.size, c.size)}, {CLIPS: {0: "batch"}}

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """[B, 3, T, H, W] in [0, 1] to tokens [B, t*L, D] and video [B, D]."""
        tokens = self.model.encode_tokens(clips)
        return {"tokens": tokens, "video": tokens.mean(1)}


class EncoderWithProjector(Encoder):
    """The same, and phase embeddings."""

    outputs = ("tokens", "video", "frames")
    parts = ("encoder", "projector")

    def forward(self, clips: Tensor) -> dict[str, Tensor]:
        """[B, 3, T, H, W] in [0, 1] to tokens, video and frames [B, t, D]."""
        found = super().forward(clips)
        return found | {"frames": self.model.project(found["tokens"])}


class Reconstruction(Encoder):
    """Clips and the tokens that are visible to the pixels of all tokens."""

    outputs = ("pixels",)
    parts = ("encoder", "decoder")

    def example(self) -> Example:
        """Half of the tokens are visible."""
        inputs, axes = super().example()
        c = self.model.config
        visible = torch.arange(c.steps * c.positions // 2).repeat(BATCH, 1)
        return inputs | {VISIBLE: visible}, axes | {VISIBLE: {0: "batch", 1: "visible"}}

    def forward(self, clips: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """[B, 3, T, H, W] and ascending indices [B, n] int64 to [B, t*L, u'*p*p*3]."""
        latent = self.model.encode_tokens(clips, visible)
        return {"pixels": self.model.decode(latent, visible)}


class ImageBackbone(nn.Module):
    """Images to their CLS token and patch tokens."""

    outputs = ("cls", "patches")

    def __init__(self, model: EchoApex):
        super().__init__()
        self.model = model

    def example(self) -> Example:
        """Of its input."""
        size = self.model.config.size
        return {IMAGES: torch.zeros(BATCH, 3, size, size)}, {IMAGES: {0: "batch"}}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, S, S] in [0, 1] to cls [B, D] and patches [B, L, D]."""
        found = self.model.encode(images.unsqueeze(2))  # clips of one frame
        return {"cls": found.frames[:, 0], "patches": found.tokens}


def write_programs(
    folder: Path, formats: tuple[str, ...], *, projector: bool, decoder: bool
) -> list[Path]:
    """Write `encoder.FORMAT`, and with `decoder` `reconstruction.FORMAT`, from a folder's weights.

    Raises InputError when ONNX is asked for and its packages are absent.
    """
    kinds = {"encoder": EncoderWithProjector if projector else Encoder}
    if decoder:
        kinds["reconstruction"] = Reconstruction
    files = []
    for name, kind in kinds.items():
        model = EchoFM.from_pretrained(folder).eval()
        for part in {"encoder", "projector", "decoder"} - set(kind.parts):
            for key in {row.key.split(".")[0] for row in TABLE if row.path.startswith(f"{part}/")}:
                delattr(model, key)
        files += _write(kind(model), name, folder, formats)
    return files


def write_image_programs(folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write `backbone.FORMAT` from a folder of an image backbone's weights."""
    return _write(ImageBackbone(EchoApex.from_pretrained(folder, frames=1)), "backbone", folder,
                  formats)  # fmt: skip


def run_program(file: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A written program's outputs by name, on the CPU, of its inputs by name, in its order."""
    if file.suffix == ".pt2":
        program = load_program(file)
        with torch.inference_mode():
            found = program(*map(torch.from_numpy, inputs.values()))
        return {name: value.numpy() for name, value in found.items()}
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return dict(zip(outputs, session.run(outputs, inputs), strict=True))


def require_onnx() -> None:
    """Raises InputError when a package that ONNX needs is absent."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--format onnx needs {error.name}, which is not installed; run: pip install "
            "'echofm_jax[onnx]'"
        ) from None


@contextlib.contextmanager
def one_line_if_it_cannot_be_written(file: Path) -> Iterator[None]:
    """Raises InputError for a full disk."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{file.name}: cannot be written; free some space") from error


def _write(program: nn.Module, name: str, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    program = program.eval().requires_grad_(False)
    files = []
    for format_ in formats:
        files.append(folder / f"{name}.{format_}")
        {"pt2": _write_pt2, "onnx": _write_onnx}[format_](program, files[-1])
    return files


def _write_pt2(program: nn.Module, file: Path) -> None:
    inputs, axes = program.example()
    dims = {
        "batch": torch.export.Dim("batch", min=1),
        "visible": torch.export.Dim("visible", min=1),
    }
    exported = torch.export.export(
        program,
        tuple(inputs.values()),
        dynamic_shapes={
            name: {axis: dims[dim] for axis, dim in of_input.items()}
            for name, of_input in axes.items()
        },
    )
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    exported.example_inputs = None  # they would be stored, pickled
    content = io.BytesIO()  # PyTorch ends the process when it cannot write to a file
    torch.export.save(exported, content)
    with one_line_if_it_cannot_be_written(file):
        file.write_bytes(content.getbuffer())


def _write_onnx(program: nn.Module, file: Path) -> None:
    """One file for the graph and FILE.data for the weights: one alone may not exceed 2 GB."""
    inputs, axes = program.example()
    logging.getLogger("torch.onnx._internal.exporter").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # PyTorch's own, of its exporter.
        warnings.filterwarnings("ignore", r".*LeafSpec\)` is deprecated", FutureWarning)
        exported = torch.onnx.export(
            program,
            tuple(inputs.values()),
            dynamo=True,
            verbose=False,
            output_names=program.outputs,
            dynamic_shapes=axes,
        )
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # paths of this machine
    with one_line_if_it_cannot_be_written(file):
        exported.save(file, external_data=True)
