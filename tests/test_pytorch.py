"""The PyTorch model: equal to the goldens, strict about its files, free of JAX."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_pipelines.window import choose_frames
from echofm_jax.pytorch import EchoFM, EchoFMConfig
from echofm_jax.torch_checkpoint import infer_architecture

GOLDENS = Path(os.environ.get("ECHOFM_GOLDENS", Path(__file__).parents[2] / "shared" / "goldens"))
CASES = sorted(GOLDENS.glob("*.json"))
TINY = EchoFMConfig(
    frames=8, size=32, tubelet=2, patch=16, width=24, depth=2, heads=3,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=4,
)  # fmt: skip

needs_goldens = pytest.mark.skipif(not CASES, reason=f"no goldens in {GOLDENS}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a PyTorch user downloads."""
    torch.manual_seed(0)
    save_file(EchoFM(TINY).state_dict(), tmp_path / "model.safetensors")
    architecture = vars(TINY).copy()
    preprocessing = {"window_seconds": architecture.pop("window_seconds")}
    config = {"architecture": architecture, "preprocessing": preprocessing}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


def golden_model(settings: dict, golden: dict[str, torch.Tensor]) -> EchoFM:
    """The model of a golden, its parameters stored or made by the formula of their README."""
    state = {k.removeprefix("param."): v for k, v in golden.items() if k.startswith("param.")}
    for key, shape in settings.get("keys", {}).items():
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        value = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        one = key.endswith(("norm.weight", "norm1.weight", "norm2.weight"))
        state[key] = torch.from_numpy(value + np.float32(one))
    fields = vars(infer_architecture({k: v.numpy() for k, v in state.items()}, settings))
    known = {field.name for field in dataclasses.fields(EchoFMConfig)}
    model = EchoFM(EchoFMConfig(**{k: v for k, v in fields.items() if k in known}))
    model.load_state_dict(state, strict=True)
    return model.eval()


@needs_goldens
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_outputs_equal_the_goldens(path: Path):
    settings, golden = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    model = golden_model(settings, golden)
    if "input.imgs" in golden:
        clips = golden["input.imgs"]
    else:
        clips = model.preprocess(golden["input.imgs_gray_uint8"][:, 0])
    noise = golden["input.mask_noise"]
    visible = noise.argsort(1)[:, : int(noise.shape[1] * (1 - settings["mask_ratio"]))]
    mask = torch.ones_like(noise, dtype=torch.bool).scatter(1, visible, False)
    with torch.no_grad():
        masked, whole = model.reconstruct(clips, mask), model.encode(clips)
        outputs = {
            "latent": masked.latent,
            "pred": masked.pred,
            "cls_stack": model.project(masked.latent),
            "latent_unmasked": whole.tokens,
            "cls_stack_unmasked": whole.frames,
        }
    held = [name for name in outputs if f"output.{name}" in golden]
    assert held
    for name in held:
        ours = outputs[name]
        stride = settings.get("strides", {}).get(name, 1)
        tolerance = 5e-5 if "keys" in settings else 1e-5
        assert relative(ours[:, ::stride], golden[f"output.{name}"]) < tolerance, name
    assert torch.equal(masked.mask, mask.repeat(1, model.config.steps))
    torch.testing.assert_close(whole.video, whole.tokens.mean(1))


def test_reconstruction_can_be_trained():
    """A gradient reaches every parameter but the projector's, which is not in this loss."""
    model = EchoFM(TINY)
    mask = torch.arange(TINY.positions)[None] % 2 == 0
    model.reconstruct(torch.rand(1, 3, 8, 32, 32), mask).pred.square().mean().backward()
    without = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    assert without == {"decoder_block", "decoder_prj_cls_token", "prj_norm"}


def test_masks_that_leave_unequally_many_tokens_are_refused():
    mask = torch.tensor([[True, False, False, False], [True, True, True, False]])
    with pytest.raises(ValueError, match=r"\[12, 4\] tokens are visible"):
        EchoFM(TINY).reconstruct(torch.rand(2, 3, 8, 32, 32), mask)


def gradients(model: EchoFM, clips: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    visible = torch.arange(0, 16, 3).expand(2, -1)
    latent = model.encode_tokens(clips, visible)
    loss = model.decode(latent, visible).square().mean() + model(clips).frames.square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_gradient_checkpointing_saves_activations_and_changes_no_gradient():
    """What autograd keeps for the backward pass is counted by its own hook."""
    torch.manual_seed(0)
    model, clips, kept = EchoFM(TINY), torch.rand(2, 3, 8, 32, 32), []

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[-1] += x.numel() if 1 + TINY.steps * TINY.positions in x.shape else 0
        return x

    found = []
    for model.gradient_checkpointing in (False, True):
        kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            model.encode_tokens(clips)
        found.append(gradients(model, clips))
    assert kept[1] < kept[0] / 5
    for name, gradient in found[0].items():
        assert gradient.abs().max() > 0 or name.endswith("attn.k.bias"), name
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiles_without_a_graph_break(checkpointing: bool):
    """One graph, attention as one operation in each block, the same numbers."""
    torch.manual_seed(0)
    model, graphs = EchoFM(TINY), []
    model.gradient_checkpointing = checkpointing
    clips, visible = torch.rand(2, 3, 8, 32, 32), torch.arange(0, 16, 3).expand(2, -1)

    def backend(graph: torch.fx.GraphModule, _: list) -> torch.nn.Module:
        graphs.append(graph)
        return graph.forward

    def train(clips: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return model.decode(model.encode_tokens(clips, visible), visible)

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)(clips)
    assert torch.equal(compiled.frames, model(clips).frames)
    pixels = torch.compile(train, fullgraph=True, backend=backend)(clips, visible)
    assert torch.equal(pixels, train(clips, visible))
    calls = [
        sum(
            node.target is torch.nn.functional.scaled_dot_product_attention
            for module in graph.modules()
            if isinstance(module, torch.fx.GraphModule)
            for node in module.graph.nodes
        )
        for graph in graphs
    ]
    assert calls == [TINY.depth + 1, TINY.depth + TINY.decoder_depth]


def test_folder_gives_the_same_model_back(folder: Path):
    torch.manual_seed(0)
    expected, model = EchoFM(TINY), EchoFM.from_pretrained(folder)
    clips = torch.rand(2, 3, 8, 32, 32)
    assert torch.equal(model.encode(clips).tokens, expected.encode(clips).tokens)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_features_have_the_documented_shapes(folder: Path):
    features = EchoFM.from_pretrained(folder)(torch.rand(2, 3, 8, 32, 32))
    assert [list(x.shape) for x in features] == [[2, 16, 24], [2, 4, 24], [2, 24]]


def test_preprocess_takes_grey_and_colour_one_clip_and_many():
    model = EchoFM(TINY)
    grey = np.random.default_rng(0).integers(0, 256, (8, 32, 32), np.uint8)
    grey.flags.writeable = False  # as np.load(mmap_mode="r") gives them
    clips = model.preprocess(grey)
    assert clips.shape == (1, 3, 8, 32, 32) and clips.dtype == torch.float32
    assert torch.equal(clips[0, 2] * 255, torch.tensor(grey).float())
    colour = np.stack([grey] * 3, -1)
    assert torch.equal(model.preprocess(colour), clips)
    assert torch.equal(model.preprocess(np.stack([grey, grey]))[1], clips[0])
    assert torch.equal(model.preprocess(colour[None]), clips)


def test_preprocess_resizes_to_the_models_size_and_keeps_the_aspect():
    size = TINY.size
    clips = EchoFM(TINY).preprocess(np.full((8, 60, 80), 51, np.uint8))
    assert clips.shape[-2:] == (size, size)
    rows = clips[0, 0, 0].mean(-1)
    filled = round(size * 60 / 80)
    top = (size - filled) // 2
    assert torch.allclose(rows[top : top + filled], torch.tensor(0.2))
    assert rows[:top].max() == 0 and rows[top + filled :].max() == 0


@pytest.mark.parametrize("total", [5, 8, 9, 40, 200])
@pytest.mark.parametrize(("window_seconds", "fps"), [(0.0, None), (1.5, 51.0), (1.5, 7.3)])
def test_preprocess_takes_the_window_that_evaluation_takes(total, window_seconds, fps):
    model = EchoFM(dataclasses.replace(TINY, window_seconds=window_seconds))
    frames = np.arange(total, dtype=np.uint8)[:, None, None] * np.ones((32, 32), np.uint8)
    times = np.arange(total) / (fps or 1)
    expected = choose_frames(times, TINY.frames, window_seconds or TINY.frames, None)
    got = model.preprocess(frames, fps)[0, 0, :, 0, 0] * 255
    assert got.round().int().tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((9, 32, 32), np.uint8), "fps is needed"),
        (np.zeros((32, 32), np.uint8), r"give \[T, H, W\]"),
        (np.zeros((0, 32, 32), np.uint8), r"give \[T, H, W\]"),
        (np.zeros((8, 32, 32), np.float32), "uint8"),
    ],
)
def test_preprocess_refuses_what_it_cannot_take(frames: np.ndarray, message: str):
    with pytest.raises(ValueError, match=message):
        EchoFM(dataclasses.replace(TINY, window_seconds=2.0)).preprocess(frames)


def test_clips_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\[B, 3, 8, 32, 32\]"):
        EchoFM(TINY).encode(torch.zeros(1, 3, 8, 48, 48))


def test_truncated_weights_are_named(folder: Path):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors: truncated or damaged"):
        EchoFM.from_pretrained(folder)


def note_digest(folder: Path) -> None:
    """As `echofm export` does: the config knows which weights are its own."""
    config = json.loads((folder / "config.json").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    config["sha256"] = {"model.safetensors": digest}
    (folder / "config.json").write_text(json.dumps(config))


def test_one_changed_bit_of_the_weights_is_refused(folder: Path):
    note_digest(folder)
    assert EchoFM.from_pretrained(folder)
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors: .*changed since its export"):
        EchoFM.from_pretrained(folder)


def test_half_precision_is_read_from_its_copy(folder: Path):
    state = {key: x.bfloat16() for key, x in load_file(folder / "model.safetensors").items()}
    model = EchoFM.from_pretrained(folder, dtype=torch.bfloat16)
    clips = torch.rand(1, 3, 8, 32, 32)
    features = model.encode(clips)
    assert {x.dtype for x in features} == {torch.bfloat16}
    state["norm.bias"] += 1
    save_file(state, folder / "model.bfloat16.safetensors")
    copy = EchoFM.from_pretrained(folder, dtype=torch.bfloat16, frames=4)
    assert torch.equal(copy.norm.bias, model.norm.bias + 1)
    assert copy.pos_embed_temporal.dtype == torch.bfloat16
    assert EchoFM.from_pretrained(folder).norm.bias.dtype == torch.float32


def test_absent_files_are_named(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        EchoFM.from_pretrained(folder)


IMPOSSIBLE = [
    json.dumps({"architecture": sizes, "preprocessing": {"window_seconds": 0}})
    for sizes in ({"patch": 0}, {"heads": 5}, {"frames": 30}, {"size": -224}, {"width": "large"})
]


@pytest.mark.parametrize("text", ["{", "[]", '{"architecture": {"widht": 3}}', "{}", *IMPOSSIBLE])
def test_a_config_of_something_else_is_refused(folder: Path, text: str):
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: not a config of EchoFM"):
        EchoFM.from_pretrained(folder)


def test_wrong_keys_and_shapes_are_listed(folder: Path):
    file = folder / "model.safetensors"
    state = load_file(file)
    state["head.weight"] = state.pop("norm.weight")
    state["prj_norm.bias"] = torch.zeros(3)
    save_file(state, file)
    with pytest.raises(ValueError) as raised:
        EchoFM.from_pretrained(folder)
    message = str(raised.value)
    assert str(file) in message and "\n" not in message
    assert all(key in message for key in ("norm.weight", "head.weight", "prj_norm.bias"))


def test_no_jax_is_imported():
    code = (
        "import sys, echofm_jax.pytorch\n"
        "print(*sorted({'jax', 'flax', 'orbax', 'grain', 'ml_collections'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_the_file_stands_alone(folder: Path):
    """Copied next to the weights, it needs torch and safetensors only."""
    import echofm_jax.pytorch.modeling_echofm as module

    (folder / "modeling_echofm.py").write_text(Path(module.__file__).read_text())
    code = (
        "import sys; from modeling_echofm import EchoFM; model = EchoFM.from_pretrained('.')\n"
        "assert not [m for m in sys.modules if m.startswith(('echofm_jax', 'jax'))]\n"
        "print(model.config.width)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=folder
    )
    assert (result.returncode, result.stdout.strip()) == (0, "24"), result.stderr
