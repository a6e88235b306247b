"""EchoFM in JAX: pre-training of an echocardiogram video foundation model, exported to PyTorch.

`import echofm_jax` imports neither JAX nor PyTorch; `load` imports what the path needs.
"""

__version__ = "0.1.0"
