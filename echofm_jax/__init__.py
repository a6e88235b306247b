"""EchoFM in JAX: pre-training of an echocardiogram video foundation model, exported to PyTorch.

`import echofm_jax` imports neither JAX nor PyTorch; `load` imports what the path needs.
"""

import typing

if typing.TYPE_CHECKING:
    from echofm_jax.encode import EncoderOnly

__version__ = "0.1.0"


def load(path: str) -> "EncoderOnly":
    """A workdir, an exported folder or an official `.pth` → a model with `encode(clips)`.

        model = echofm_jax.load("runs/smoke")
        tokens, frames, video = model.encode(clips)  # [B, t·L, D], [B, t, D], [B, D]

    Raises:
      InputError: nothing loadable at `path`; one line says what is wrong with it.
    """
    from echofm_jax.encode import load

    return load(path)
