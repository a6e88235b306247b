"""Seconds, memory and arithmetic rate of one training step, in a process of its own."""

import functools
import multiprocessing
import os
import resource
import statistics
import time


def bench_step(*, model: str, batch_size: int, dtype: str, remat: str, steps: int) -> dict:
    """Time `steps` updates of a preset after two that warm up; random grey clips of 32×224².

    The process is fresh, so that peak memory is the step's own (compilation included) and nothing
    runs beside it. Returns medians in seconds, GB and GFLOP/s (recomputation not counted).
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure, (model, batch_size, dtype, remat, steps))


def _measure(model: str, batch_size: int, dtype: str, remat: str, steps: int) -> dict:
    import jax
    import numpy as np

    from echofm_jax import config
    from echofm_jax.architecture import Architecture
    from echofm_jax.host_memory import return_free_memory
    from echofm_jax.objectives import Time
    from echofm_jax.objectives.echofm import EchoFMObjective
    from echofm_jax.optimizer import adamw
    from echofm_jax.step import init_state, train_step

    sizes = config.pick(config.MODELS, model, "model")
    arch, objective = Architecture(**sizes, dtype=dtype, remat=remat), EchoFMObjective()
    optimizer = adamw(lambda count: 1e-4, clip_norm=0.02, weight_decay=0.05)
    state = jax.jit(functools.partial(init_state, arch, objective, optimizer))(jax.random.key(0))
    rng = np.random.default_rng(0)
    shapes = objective.batch(arch, batch_size, colour=False)
    batch = {
        "clip": rng.integers(0, 255, shapes["clip"].shape, np.uint8),
        "noise": rng.random(shapes["noise"].shape, np.float32),
    }
    began = time.perf_counter()
    update = functools.partial(
        train_step, arch=arch, objective=objective, optimizer=optimizer,
        clock=lambda step: Time(step, 1.0),
    )  # fmt: skip
    update = jax.jit(update, donate_argnums=0).lower(state, batch).compile()
    compiled = time.perf_counter() - began
    return_free_memory()
    compile_peak = peak_rss()
    wall, cpu = [], []
    for _ in range(2 + steps):
        began, used = time.perf_counter(), time.process_time()
        state, metrics = update(state, batch)
        jax.block_until_ready((state, metrics))
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    seconds = statistics.median(wall[2:])
    return {
        "model": model,
        "batch_size": batch_size,
        "dtype": dtype,
        "remat": remat,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": len(os.sched_getaffinity(0)),
        "seconds_per_step": seconds,
        "best_seconds_per_step": min(wall[2:]),
        "cpu_seconds_per_step": statistics.median(cpu[2:]),
        "clips_per_s": batch_size / seconds,
        "gflops_per_s": batch_size * objective.step_flops(arch) / seconds / 1e9,
        "compile_seconds": compiled,
        "peak_rss_gb": peak_rss(),
        "peak_rss_gb_until_compiled": compile_peak,
    }


def peak_rss() -> float:
    """The most memory this process has held, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
