"""What a training step needs on TPUs, read from what the TPU compiler makes of it."""
