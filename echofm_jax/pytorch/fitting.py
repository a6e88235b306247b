"""Training in PyTorch: warm-up and cosine, early stopping, exactly resumable after each epoch."""

import contextlib
import dataclasses
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from echofm_jax.errors import InputError
from echofm_jax.pytorch.recipe import Recipe

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, on what, and how good it is."""

    module: nn.Module
    groups: list[dict]  # of parameters, as torch.optim takes them, each with its own `lr`
    batches: Callable[[int], Iterable[Any]]  # epoch → its batches, the same whenever it is asked
    steps: int  # batches of an epoch
    loss: Callable[[Any], Tensor]  # of a batch
    score: Callable[[], float]  # on validation clips; more is better
    key: str  # tells all that the result depends on
    fitted: bool = False  # it is good already: the start may turn out to be the best


def fit(job: Job, recipe: Recipe, seed: int, state_file: Path) -> list[dict]:
    """Train `job.module`; it ends with the weights of its best epoch, or, where it was fitted
    before, of its start if no epoch was better. Returns what each epoch was.

    After every epoch all is kept in `state_file`: the same call, after a kill at any moment, goes
    on from there and ends with the same weights.

    Raises:
      InputError: a loss or score that is no number, or a GPU that is out of memory.
    """
    device = next(job.module.parameters()).device
    optimizer = torch.optim.AdamW(job.groups, betas=(0.9, 0.999))
    trained = [parameter for group in job.groups for parameter in group["params"]]
    total = recipe.epochs * job.steps
    peaks = [group["lr"] for group in optimizer.param_groups]
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.precision == "float16")
    kept = load_state(state_file, job.key)
    history = kept["history"] if kept else []
    best = kept["best"] if kept else learned(job.module)

    def score(when: str) -> float:
        job.module.eval()
        with within_memory(device), torch.no_grad():
            found = job.score()
        if math.isnan(found):
            raise InputError(f"validation is no number {when}: lower --config.lr")
        return found

    start = kept.get("start", -math.inf) if kept else -math.inf
    if job.fitted and not kept:
        start = score("before the first epoch")
        log.info("as fitted: validation %.4f", start)
    if kept:
        job.module.load_state_dict(kept["module"], strict=False)
        optimizer.load_state_dict(kept["optimizer"])
        scaler.load_state_dict(kept["scaler"])
    for epoch in range(len(history), recipe.epochs):
        if stale(history, recipe.patience):
            break
        torch.manual_seed(draw(seed, epoch))  # dropout; batches draw by themselves
        job.module.train()
        losses = []
        for step, batch in enumerate(job.batches(epoch), epoch * job.steps):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate(step, total, recipe)
            with within_memory(device), autocast(device, recipe.precision):
                loss = job.loss(batch)
                scaler.scale(loss).backward()
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise InputError(
                    f"the loss is {losses[-1]} in epoch {epoch + 1}: lower --config.lr"
                )
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        if not losses:
            raise InputError(f"nothing to train on in epoch {epoch + 1}: label more frames")
        reached = score(f"in epoch {epoch + 1}")
        if reached > max([start, *(h["score"] for h in history)]):
            best = learned(job.module)
        history.append({"epoch": epoch + 1, "loss": sum(losses) / len(losses), "score": reached})
        log.info("epoch %d: loss %.4f, validation %.4f", *history[-1].values())
        save_state(state_file, {
            "key": job.key, "history": history, "start": start, "best": best,
            "module": learned(job.module), "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
        })  # fmt: skip
    job.module.load_state_dict(best, strict=False)
    job.module.eval()
    return history


def rate(step: int, total: int, recipe: Recipe) -> float:
    """Of the peak learning rate at a step: linear warm-up, then half a cosine."""
    warmup = max(1, round(recipe.warmup * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def stale(history: list[dict], patience: int) -> bool:
    """Whether the last `patience` epochs brought no better score; 0: never."""
    scores = [h["score"] for h in history]
    return bool(patience and scores and len(scores) - 1 - scores.index(max(scores)) >= patience)


def draw(*parts: object) -> int:
    """A seed of its own for every combination of its arguments."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6])


def learned(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that are trained, and of buffers."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    state = module.state_dict()
    return {name: value.detach().clone() for name, value in state.items() if name not in frozen}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Matrix products in the recipe's precision; parameters stay float32."""
    half = getattr(torch, precision if precision != "float32" else "bfloat16")
    return torch.autocast(device.type, half, enabled=precision != "float32")


@contextlib.contextmanager
def within_memory(device: torch.device) -> Iterator[None]:
    """A GPU's out-of-memory error, told in one line with what helps."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise InputError(
            f"{device} is out of memory: halve --config.batch, or use "
            "--config.precision=bfloat16, --config.mode=lora or frozen, or --device=cpu"
        ) from None


def load_state(file: Path, key: str) -> dict | None:
    """What was kept of this very job; None if nothing was. Tensors and plain values only."""
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    return kept if kept["key"] == key else None


def save_state(file: Path, state: dict) -> None:
    """A whole file or none."""
    half = file.with_name(f".{file.name}.writing")
    try:
        with half.open("wb") as handle:
            torch.save(state, handle)
            handle.flush()
            os.fsync(handle.fileno())
        half.replace(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}): free some space") from None
