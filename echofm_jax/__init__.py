"""EchoFM in JAX: pre-training of an echocardiogram video foundation model, exported to PyTorch.

`import echofm_jax` imports neither JAX nor PyTorch; `load` imports what the path needs.
"""

import typing

if typing.TYPE_CHECKING:
    from echofm_jax.encode import EncoderOnly
    from echofm_jax.image_encode import ImageEncoder

__version__ = "0.1.0"


def load(
    path: str, frames: int | None = None, size: int | None = None
) -> "EncoderOnly | ImageEncoder":
    """A workdir, an exported folder or an official `.pth` → a model with `encode(clips)`.

        model = echofm_jax.load("runs/smoke")
        tokens, frames, video = model.encode(clips)  # [B, t·L, D], [B, t, D], [B, D]

    `frames` and `size` make it take other clips than it was trained on: position embeddings are
    interpolated, as `EchoFM.from_pretrained` does in PyTorch. An image model (DINOv2: a workdir, an
    exported folder, official weights) takes clips of any length: t = T.

    Raises:
      InputError: nothing loadable at `path`, or not for such clips; one line says what is wrong.
    """
    from echofm_jax.encode import load

    return load(path, frames, size)
