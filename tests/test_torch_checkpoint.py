"""Reading PyTorch files: every layout that is EchoFM's, one line for everything else."""

import argparse
import dataclasses
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from echofm_jax.architecture import Architecture
from echofm_jax.errors import InputError
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.torch_checkpoint import infer_architecture, read_checkpoint, read_official
from echofm_jax.torch_weights import to_arguments, to_objective, to_torch, torch_shapes

TINY = Architecture(
    frames=8, size=48, tubelet=4, patch=8, width=24, depth=3, heads=3,
    decoder_width=16, decoder_depth=2, decoder_heads=2, pred_frames=4,
)  # fmt: skip
ARGUMENTS = to_arguments(dataclasses.asdict(TINY), dataclasses.asdict(EchoFMObjective()))


def random_state(arch: Architecture = TINY) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(shape, generator=generator) for key, shape in torch_shapes(arch).items()
    }


def without_prj_norm(state: dict) -> dict:
    return {key: value for key, value in state.items() if not key.startswith("prj_norm")}


@pytest.mark.parametrize(
    "saved",
    [
        {"model": random_state(), "model_args": ARGUMENTS},
        {"model": random_state(), "args": argparse.Namespace(**ARGUMENTS), "epoch": 3},
        {"model_state": random_state(), "args": ARGUMENTS, "optimizer": {"state": {}}},
        {"model": random_state(), "model_args": ARGUMENTS, "args": ["--lr", "1"]},
        {"model": {f"module.{k}": v for k, v in random_state().items()}, "model_args": ARGUMENTS},
        {"model": {k: v.double() for k, v in random_state().items()}, "model_args": ARGUMENTS},
    ],
    ids=["model_args", "namespace", "model_state", "odd args", "module prefix", "float64"],
)
def test_layouts_of_training_codes(tmp_path: Path, saved: dict):
    torch.save(saved, tmp_path / "x.pth")
    params, arch, missing = read_official(tmp_path / "x.pth")
    assert arch == TINY and missing == []
    for key, value in to_torch(params, arch).items():
        np.testing.assert_array_equal(value, random_state()[key].numpy(), err_msg=key)


def test_safetensors_without_a_config_in_half_precision(tmp_path: Path):
    arch = Architecture(
        width=384, depth=1, heads=6, decoder_width=32, decoder_depth=1, decoder_heads=4
    )
    state = {key: value.bfloat16() for key, value in random_state(arch).items()}
    save_file(state, tmp_path / "x.safetensors")
    params, found, missing = read_official(tmp_path / "x.safetensors")
    assert found == dataclasses.replace(arch, decoder_heads=16)
    assert missing == ["num_heads (6 assumed)", "decoder_num_heads (16 assumed)"]
    bias = params["encoder"]["norm"]["bias"]
    assert bias.dtype == np.float32
    np.testing.assert_array_equal(bias, state["norm.bias"].float().numpy())


def test_an_older_checkpoint_says_what_was_missing(tmp_path: Path):
    saved = {"model": without_prj_norm(random_state()), "model_args": ARGUMENTS}
    torch.save(saved, tmp_path / "x.pth")
    params, _, missing = read_official(tmp_path / "x.pth")
    assert [text.split()[0] for text in missing] == ["prj_norm.weight", "prj_norm.bias"]
    norm = params["projector"]["norm"]["scale"]
    np.testing.assert_array_equal(norm, random_state()["norm.weight"].numpy())


@pytest.mark.parametrize(
    "arch",
    [
        Architecture(width=768, depth=2, heads=12),
        Architecture(width=1024, depth=1, heads=16),
        Architecture(width=1280, depth=1, heads=16, patch=14, decoder_depth=1),
        dataclasses.replace(Architecture(width=384, depth=3, heads=6), frames=16, tubelet=2),
    ],
    ids=lambda arch: f"{arch.width}x{arch.depth}",
)
def test_bare_state_dicts_tell_their_architecture(arch: Architecture):
    state = {key: np.empty(shape, np.float32) for key, shape in torch_shapes(arch).items()}
    assert infer_architecture(state, {}) == arch


def test_an_unusual_width_asks_for_its_heads(tmp_path: Path):
    torch.save(random_state(), tmp_path / "x.pth")
    with pytest.raises(InputError, match="number of heads of width 24 is unknown"):
        read_official(tmp_path / "x.pth")


def test_arguments_make_the_round_trip():
    objective = EchoFMObjective(prior="embedding", cycle_weight=0.0, norm_targets=False)
    arguments = to_arguments(dataclasses.asdict(TINY), dataclasses.asdict(objective))
    assert arguments["phase_prior"] == "embed" and arguments["img_size"] == 48
    assert EchoFMObjective(**to_objective(arguments)) == objective
    assert to_objective({"phase_prior": "pixel", "lr": 1}) == {"prior": "pixel"}


def fused(state: dict) -> dict:
    return {"blocks.0.attn.qkv.weight": torch.zeros(72, 24), **state}


FOREIGN = {
    "q, k and v are fused": fused(random_state()),
    "does not embed tubelets": {"patch_embed.proj.weight": torch.zeros(24, 3, 8, 8)},
    "joint": random_state() | {"pos_embed": torch.zeros(1, 73, 24)},
    "an encoder without its decoder": {
        key: value for key, value in random_state().items() if "decoder" not in key
    },
    "without EchoFM's projector": {
        key: value for key, value in random_state().items() if "prj" not in key
    },
    "1 unknown: head.weight": random_state() | {"head.weight": torch.zeros(1)},
    "'pos_embed_temporal' is missing": {
        key: value for key, value in random_state().items() if key != "pos_embed_temporal"
    },
    "1 missing: decoder_norm.bias": {
        key: value for key, value in random_state().items() if key != "decoder_norm.bias"
    },
    "impossible architecture": random_state(dataclasses.replace(TINY, width=25, heads=1)),
}


@pytest.mark.parametrize("reason", FOREIGN)
def test_other_models_are_told_apart(tmp_path: Path, reason: str):
    torch.save({"model": FOREIGN[reason], "model_args": ARGUMENTS}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=reason) as raised:
        read_official(tmp_path / "x.pth")
    assert str(raised.value).startswith(str(tmp_path / "x.pth"))


class Malicious:
    """A pickle that runs a command when it is loaded carelessly."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_is_never_executed(tmp_path: Path):
    saved = {"model": random_state(), "args": Malicious(f"touch {tmp_path / 'executed'}")}
    torch.save(saved, tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(pickle.dumps(Malicious(f"touch {tmp_path / 'executed'}")))
    with pytest.raises(InputError, match=r"x\.pth: holds code \(.+system\), which is never run"):
        read_checkpoint(tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"y\.pth: "):
        read_checkpoint(tmp_path / "y.pth")
    assert not (tmp_path / "executed").exists()


def whole_pth() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": random_state()}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.pth", b"epoch 1 loss 0.3\n" * 50),
        ("empty.pth", b""),
        ("truncated.pth", whole_pth()[:-2000]),
        ("zip.pth", b"PK\x03\x04" + bytes(500)),
        ("noise.pth", np.random.default_rng(0).bytes(5000)),
        ("text.safetensors", b"epoch 1 loss 0.3\n" * 50),
        ("empty.safetensors", b""),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: truncated") as raised:
        read_checkpoint(tmp_path / name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("saved", [[1, 2], torch.zeros(3), {"model": 3}, {"epoch": 1}, {}])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, saved: object):
    torch.save(saved, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        read_checkpoint(tmp_path / "x.pth")


def test_absent_files_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"x\.pth: no such file"):
        read_checkpoint(tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"no model\.safetensors in it"):
        read_checkpoint(tmp_path)
