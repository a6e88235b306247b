"""Pure PyTorch: never imports JAX."""
