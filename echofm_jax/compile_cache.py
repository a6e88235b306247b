"""Compiled programs on disk: a run that is started again need not compile again."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import jax

HIT = "/jax/compilation_cache/cache_hits"


def keep_compiled(folder: Path) -> None:
    """Keep programs in `folder`, unless JAX_COMPILATION_CACHE_DIR names another place.

    All hosts read it and host 0 writes, so several of them need a folder that they share. On a full
    disk the next run compiles again; who must know of it hears it from the checkpoints.
    """
    warnings.filterwarnings("ignore", "Error writing persistent compilation cache")
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(folder))


@contextlib.contextmanager
def watch_cache() -> Iterator[list[str]]:
    """Yields a list that holds something once a program was found instead of compiled."""
    hits = []

    def listen(event: str, **_) -> None:
        if event == HIT:
            hits.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(listen)
