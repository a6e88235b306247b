"""EchoApex in PyTorch: equal to transformers' Dinov2 models, whose folders it reads."""

import json
import shutil
import subprocess
import sys

import apex
import numpy as np
import pytest
import torch
from conftest import REPO

from echofm_jax.pytorch import EchoApex, EchoApexConfig, modeling_echoapex
from echofm_jax.torch_checkpoint import sha256

MEAN = torch.tensor(modeling_echoapex.MEAN).view(3, 1, 1)
STD = torch.tensor(modeling_echoapex.STD).view(3, 1, 1)


def clips(size: int = 28, frames: int = 8, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


def theirs(model, clip: torch.Tensor):
    """What transformers' model makes of each frame: tokens [T, N, D]."""
    images = (clip.transpose(0, 1) - MEAN) / STD  # [T, 3, S, S]
    return model(pixel_values=images, output_hidden_states=True)


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("swiglu", [False, True])
@torch.no_grad()
def test_it_equals_transformers(tmp_path, registers, swiglu):
    model = apex.write(tmp_path / "m", registers, swiglu=swiglu)
    own = EchoApex.from_pretrained(tmp_path / "m").eval()
    for size in (28, 42, 14):  # 42 and 14: other positions than were trained
        own_size = EchoApex.from_pretrained(tmp_path / "m", size=size).eval()
        x = clips(size)
        found = own_size.encode(x)
        for row in range(2):
            state = theirs(model, x[row]).last_hidden_state  # [T, 1+R+L, D]
            patches = state[:, 1 + registers :].flatten(0, 1)
            torch.testing.assert_close(found.tokens[row], patches, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.frames[row], state[:, 0], atol=1e-5, rtol=1e-5)
    x = clips()
    found = own.encode(x)
    torch.testing.assert_close(found.video, found.tokens.mean(1))
    assert torch.equal(own.encode_tokens(x), found.tokens)
    assert torch.equal(own.frame_embeddings(x), found.frames)
    first, last = own.levels(x, (0, 1))
    assert torch.equal(last, found.tokens)
    hidden = model.layernorm(theirs(model, x[0]).hidden_states[1])[:, 1 + registers :]
    torch.testing.assert_close(first[0], hidden.flatten(0, 1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_frames_stand_for_themselves(tmp_path):
    apex.write(tmp_path / "m")
    model = EchoApex.from_pretrained(tmp_path / "m", frames=3).eval()
    assert (model.config.frames, model.config.steps, model.config.tubelet) == (3, 3, 1)
    x = clips(frames=3)
    turned = model.frame_embeddings(x.flip(2))
    torch.testing.assert_close(turned.flip(1), model.frame_embeddings(x))
    with pytest.raises(ValueError, match=r"this model takes \[B, 3, 3, 28, 28\]"):
        model.encode(clips(frames=4))
    with pytest.raises(ValueError, match="multiples of 14 pixels"):
        model.resize(size=30)


@pytest.mark.parametrize("registers", [0, 3])
def test_frames_of_clips_are_encoded_by_themselves(tmp_path, registers):
    """Only those that are asked for, each once, to what whole clips give, gradients too."""
    apex.write(tmp_path / "m", registers)
    model = EchoApex.from_pretrained(tmp_path / "m")
    encoded = []
    model.patch_embed.register_forward_hook(lambda _module, _inputs, out: encoded.append(len(out)))
    which, positions = torch.tensor([1, 0, 1, 1]), torch.tensor([5, 2, 0, 5])
    grads = []
    found = model.frame_levels(clips(), (0, 1), which, positions)
    whole = [x.unflatten(1, (8, 4))[which, positions] for x in model.levels(clips(), (0, 1))]
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one, other)
    for levels in (found, whole):
        model.zero_grad()
        sum(level.square().sum() for level in levels).backward()
        grads.append([p.grad.clone() for p in model.parameters() if p.numel()])
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
    assert encoded == [3, 16]  # the frame that is asked for twice is seen once
    with pytest.raises(ValueError, match=r"this model takes \[B, 3, 8, 28, 28\]"):
        model.frame_levels(clips(frames=4), (0,), which, positions)


def test_windows_are_as_the_folder_says(tmp_path):
    apex.write(tmp_path / "m")
    plain = EchoApex.from_pretrained(tmp_path / "m")
    assert (plain.config.frames, plain.config.window_seconds) == (8, 1.0)
    told = {"format": 1, "frames": 4, "window_seconds": 0.5, "trained": {}, "sha256": {}}
    (tmp_path / "m" / "echoapex.json").write_text(json.dumps(told))
    model = EchoApex.from_pretrained(tmp_path / "m")
    assert (model.config.frames, model.config.window_seconds) == (4, 0.5)
    frames = np.arange(40, dtype=np.uint8)[:, None, None].repeat(28, 1).repeat(28, 2)
    x = model.preprocess(frames, fps=40)  # 20 frames in the middle, every fifth
    steps = (x[0, 0, :, 0, 0] * 255).round().diff().tolist()
    assert x.shape == (1, 3, 4, 28, 28) and steps == [5, 5, 5]


def test_everything_learns_with_and_without_checkpointing(tmp_path):
    apex.write(tmp_path / "m", 2)
    model = EchoApex.from_pretrained(tmp_path / "m")
    found = []
    for again in (False, True):
        model.gradient_checkpointing = again
        model.zero_grad()
        model.encode_tokens(clips()).square().mean().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    assert all(grad.any() for grad in found[0].values())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@torch.no_grad()
def test_half_precision(tmp_path):
    apex.write(tmp_path / "m")
    exact = EchoApex.from_pretrained(tmp_path / "m").encode_tokens(clips())
    half = EchoApex.from_pretrained(tmp_path / "m", dtype=torch.bfloat16)
    assert half.encode_tokens(clips()).dtype == torch.bfloat16
    torch.testing.assert_close(half.encode_tokens(clips()).float(), exact, atol=0.1, rtol=0.1)


def test_random_weights_can_be_trained_from():
    torch.manual_seed(0)
    model = EchoApex(EchoApexConfig(size=28, width=24, depth=1, heads=3))
    assert 0.01 < model.blocks[0].attn.q.weight.std() < 0.03
    assert not model.blocks[0].attn.q.bias.any() and (model.blocks[0].scale1 == 1).all()
    with pytest.raises(ValueError, match="do not divide"):
        EchoApex(EchoApexConfig(size=30))


def edit(folder, name: str = "config.json", **changes) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def digest(folder, value: str) -> None:
    told = {"format": 1, "frames": 4, "window_seconds": 1.0}
    told |= {"sha256": {"model.safetensors": value}}
    (folder / "echoapex.json").write_text(json.dumps(told))


def cut(folder) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


WRONG = {
    "kind": (lambda f: edit(f, model_type="vit"), "config.json: not a config of Dinov2"),
    "field": (lambda f: (f / "config.json").write_text('{"model_type": "dinov2"}'), "image_size"),
    "depth": (lambda f: edit(f, num_hidden_layers=3), "missing (blocks.2."),
    "width": (lambda f: edit(f, image_size=42), "pos_embed_spatial (1, 4, 24) for (1, 9, 24)"),
    "act": (lambda f: edit(f, hidden_act="relu"), "hidden_act 'relu' is not supported"),
    "cut": (cut, "model.safetensors: truncated or damaged"),
    "changed": (lambda f: digest(f, "0" * 64), "(its SHA-256 is not that in echoapex.json)"),
    "newer": (lambda f: (digest(f, ""), edit(f, "echoapex.json", format=2)), "of a newer"),
    "window": (lambda f: (f / "echoapex.json").write_text("{}"), "echoapex.json: damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_folder_is_told(tmp_path, name):
    spoil, told = WRONG[name]
    apex.write(tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(ValueError) as raised:
        EchoApex.from_pretrained(tmp_path / "m")
    message = str(raised.value)
    assert told in message and str(tmp_path / "m") in message and "\n" not in message


def test_an_absent_file_is_named_and_the_right_digest_passes(tmp_path):
    apex.write(tmp_path / "m")
    digest(tmp_path / "m", sha256(tmp_path / "m" / "model.safetensors"))
    EchoApex.from_pretrained(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="give the folder that holds it"):
        EchoApex.from_pretrained(tmp_path / "m")


def test_two_files_are_all_it_needs(tmp_path):
    apex.write(tmp_path / "copied" / "m")
    for name in ("modeling_echoapex.py", "modeling_echofm.py"):
        shutil.copy(REPO / "echofm_jax" / "pytorch" / name, tmp_path / "copied" / name)
    program = (
        "import sys\n"
        "for name in ('echofm_jax', 'data_pipelines', 'transformers', 'jax'):\n"
        "    sys.modules[name] = None\n"
        "from copied.modeling_echoapex import EchoApex\n"
        "print(EchoApex.from_pretrained('copied/m').config.width)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0 and result.stdout == "24\n", result.stderr
