"""Image backbones out and in: transformers' folders, programs, official checkpoints."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from echofm_jax import cli, config, export
from echofm_jax.checkpoint import load_params
from echofm_jax.dinov2_config import from_config, to_config
from echofm_jax.dinov2_weights import from_state, head_to_state, to_state
from echofm_jax.errors import InputError
from echofm_jax.export_dinov2 import check, jax_outputs
from echofm_jax.image_architecture import IMAGENET_MEAN, IMAGENET_STD, ImageArchitecture
from echofm_jax.image_positions import resized_positions
from echofm_jax.import_dinov2 import is_dinov2, read_backbone
from echofm_jax.import_weights import import_weights
from echofm_jax.torch_checkpoint import TorchCheckpoint, read_checkpoint

transformers = pytest.importorskip("transformers")
ARCH = ImageArchitecture(
    width=192, depth=2, heads=3, patch=8, size=48, registers=2, ffn="swiglu", layer_scale=1e-5
)
CONFIG = """
from echofm_jax.config import image_config

def get_config():
    config = image_config("vit_s")
    config.model.update(width=192, depth={depth}, heads=3, patch=8, size=32, registers={registers},
                        ffn="swiglu", layer_scale=1e-5)
    config.objective.update(local_size=16, prototypes=24, hidden=16, bottleneck=8)
    return config
"""
# ml_collections imports config files the way that Python 3.12 removes.
loads_config_file = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def official(arch: ImageArchitecture = ARCH) -> dict[str, torch.Tensor]:
    """A state dict of the official code, random."""
    d, m = arch.width, arch.hidden
    shapes = {
        "cls_token": (1, 1, d), "pos_embed": (1, 1 + arch.positions, d), "mask_token": (1, d),
        "patch_embed.proj.weight": (d, 3, arch.patch, arch.patch), "patch_embed.proj.bias": (d,),
        "norm.weight": (d,), "norm.bias": (d,),
    }  # fmt: skip
    if arch.registers:
        shapes["register_tokens"] = (1, arch.registers, d)
    ffn = {"swiglu": {"w12": (2 * m, d), "w3": (d, m)}, "mlp": {"fc1": (m, d), "fc2": (d, m)}}
    dense = {"attn.qkv": (3 * d, d), "attn.proj": (d, d)}
    dense |= {f"mlp.{name}": shape for name, shape in ffn[arch.ffn].items()}
    for i in range(arch.depth):
        for name, shape in dense.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            shapes[f"blocks.{i}.{name}"] = (d,)
        if arch.layer_scale:
            shapes |= {f"blocks.{i}.ls1.gamma": (d,), f"blocks.{i}.ls2.gamma": (d,)}
    torch.manual_seed(0)
    return {key: 0.1 * torch.randn(shape) for key, shape in shapes.items()}


@pytest.fixture(scope="module")
def pth(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "jane_doe.pth"
    torch.save(official(), path)
    return path


@pytest.fixture(scope="module")
def workdir(pth: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "w"
    spec = folder.parent / "tiny.py"
    spec.write_text(CONFIG.format(depth=2, registers=2))
    import_weights(pth, folder, str(spec))
    settings = config.load(folder)
    settings.data.dir = "/data/jane_doe"  # a path that must appear nowhere
    settings.model.dtype = "bfloat16"  # training's, not the export's
    config.save(settings, folder)
    return folder


@pytest.fixture(scope="module")
def exported(workdir: Path, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("exports") / "apex"
    return folder, export.export(workdir, folder, extras=export.Extras(formats=("pt2", "onnx")))


@loads_config_file
def test_an_official_checkpoint_becomes_a_teacher_and_a_student(workdir: Path):
    state = {key: value.numpy() for key, value in official().items()}
    teacher, step = load_params(workdir)
    expected = from_state(state, ARCH, "official")
    expected["pos_spatial"] = resized_positions(expected["pos_spatial"], 6, 4)
    small = dataclasses.replace(ARCH, size=32)
    ours, theirs = (to_state(x, small, "official") for x in (teacher["backbone"], expected))
    assert step == 0 and ours.keys() == theirs.keys() == state.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)
        if key != "pos_embed":
            np.testing.assert_array_equal(value, state[key], err_msg=key)
    assert teacher["dino_head"]["last"]["kernel"].shape == (8, 24)
    settings = config.load(workdir)
    assert settings.method == "dinov2" and config.architecture(settings).size == 32


def test_the_folder_is_transformers_own(exported, workdir: Path):
    folder, report = exported
    model = transformers.AutoModel.from_pretrained(folder).eval()
    assert type(model).__name__ == "Dinov2WithRegistersModel"
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32), np.uint8)
    x = (image[..., None] / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    with torch.inference_mode():
        tokens = model(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()).last_hidden_state
    arch = dataclasses.replace(ARCH, size=32)
    ours = jax_outputs(load_params(workdir)[0]["backbone"], arch, image)
    for found, expected in (
        (tokens[:, 0].numpy(), ours["cls"]),
        (tokens[:, 3:].numpy(), ours["patches"]),
    ):
        assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)
    read_by = {"backbone.pt2", "backbone.onnx", "transformers"}
    assert report["also_checked"].keys() == read_by
    for by_image in (report["differences"], *report["also_checked"].values()):
        assert by_image["synthetic"].keys() == {"cls", "patches"}
        assert max(by_image["synthetic"].values()) < 1e-5
    about = json.loads((folder / "echoapex.json").read_text())
    assert about["format"] == 1 and about["frames"] == 8 and about["trained"]["images_seen"] == 0
    programs = {"backbone.pt2", "backbone.onnx", "backbone.onnx.data"}
    assert about["sha256"].keys() == {"model.safetensors", *programs}
    card = (folder / "README.md").read_text()
    assert "| backbone.onnx | synthetic | patches |" in card and "{" not in card
    assert not any(b"jane_doe" in file.read_bytes() for file in folder.iterdir())


def test_the_processor_makes_what_the_model_takes(exported):
    folder, _ = exported
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    made = processor(images=frame, return_tensors="np")["pixel_values"][0]
    expected = (frame / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(made.transpose(1, 2, 0), expected, atol=1e-5)


def test_what_was_exported_comes_back(exported, tmp_path: Path):
    folder, _ = exported
    arch, _ = import_weights(folder, tmp_path / "again")
    assert (arch.size, arch.patch, arch.registers, arch.ffn) == (32, 8, 2, "swiglu")
    back = to_state(load_params(tmp_path / "again")[0]["backbone"], arch, "transformers")
    for key, value in load_file(folder / "model.safetensors").items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)


def test_a_held_out_image_is_compared_too(workdir: Path, tiny_data: Path, tmp_path: Path):
    shutil.copytree(workdir, tmp_path / "w")
    settings = config.load(tmp_path / "w")
    settings.data.dir = str(tiny_data)
    config.save(settings, tmp_path / "w")
    found = export.export(tmp_path / "w", tmp_path / "out")["differences"]
    assert max(found["held_out"].values()) < 1e-5
    assert found["held_out"]["cls"] != found["synthetic"]["cls"]
    assert "| transformers | held-out | cls |" in (tmp_path / "out" / "README.md").read_text()


def test_a_wrong_weight_is_not_exported(exported, workdir: Path):
    folder, _ = exported
    backbone = load_params(workdir)[0]["backbone"]
    arch = dataclasses.replace(ARCH, size=32)
    image = {"noise": np.random.default_rng(0).integers(0, 256, (1, 32, 32), np.uint8)}
    check(folder, backbone, arch, image, [folder / "backbone.onnx"], 1e-4)
    backbone["registers"] = backbone["registers"][:, ::-1]
    with pytest.raises(RuntimeError, match="JAX and PyTorch differ"):
        check(folder, backbone, arch, image, [], 1e-4)


def test_which_files_are_of_image_backbones():
    """Other image models, and EchoFM's, are left to the reader that says what they are."""
    state = {key: value.numpy() for key, value in official().items()}
    timm = {key: x for key, x in state.items() if ".ls" not in key and key != "mask_token"}
    mae = state | {"decoder_embed.weight": np.zeros((8, 192), np.float32)}
    kinds = (state, True), (timm, False), (mae, False)
    for arrays, expected in kinds:
        assert is_dinov2(TorchCheckpoint(arrays, {})) == expected


@pytest.mark.parametrize("kind", ["teacher", "chunks", "transformers"])
def test_other_files_of_the_same_backbone(kind: str, tmp_path: Path, workdir: Path):
    """A training run's teacher with heads, blocks in FSDP's groups, a classifier's folder."""
    state, path = official(), tmp_path / "x.pth"
    if kind == "transformers":
        path = tmp_path / "folder"
        arrays = {key: value.numpy() for key, value in state.items()}
        backbone = from_state(arrays, ARCH, "official")
        model = transformers.Dinov2WithRegistersForImageClassification(
            transformers.Dinov2WithRegistersConfig(**to_config(ARCH))
        )
        theirs = to_state(backbone, ARCH, "transformers")
        model.dinov2_with_registers.save_pretrained(path)
        keys = load_file(path / "model.safetensors").keys()
        assert keys == theirs.keys()
        names = {f"dinov2_with_registers.{key}": torch.from_numpy(x) for key, x in theirs.items()}
        from safetensors.torch import save_file

        save_file(names | {"classifier.bias": torch.zeros(2)}, path / "model.safetensors")
    else:
        if kind == "chunks":
            state = {re.sub(r"^blocks\.", "blocks.0.", key): x for key, x in state.items()}
        head = head_to_state(load_params(workdir)[0]["dino_head"])
        heads = {f"dino_head.{key}": torch.from_numpy(x) for key, x in head.items()}
        saved = {f"backbone.{key}": value for key, value in state.items()} | heads
        torch.save({"teacher": saved, "student": {}, "iteration": 3}, path)
    checkpoint = read_checkpoint(path)
    assert is_dinov2(checkpoint)
    backbone, arch, missing = read_backbone(checkpoint, path)
    assert arch == ARCH
    back = to_state(backbone, arch, "official")
    for key, value in official().items():
        np.testing.assert_array_equal(back[key], value, err_msg=key)
    assert missing == ([] if kind == "transformers" else ["num_heads (3 assumed)"])


@loads_config_file
@pytest.mark.parametrize(
    "change, said",
    [
        ({"depth": 3}, "model.depth is 3 there and 2 in the weights"),
        ({"registers": 0}, "model.registers is 0 there and 2 in the weights"),
    ],
)
def test_a_config_of_another_backbone(pth: Path, tmp_path: Path, capsys, change, said):
    (tmp_path / "c.py").write_text(CONFIG.format(**({"depth": 2, "registers": 2} | change)))
    status = cli.run("import", [str(pth), "--workdir", str(tmp_path / "w"), "--config",
                                str(tmp_path / "c.py")])  # fmt: skip
    told = capsys.readouterr().err.strip()
    assert status == 2 and said in told and "\n" not in told
    assert not (tmp_path / "w").exists()


@loads_config_file
def test_wrong_files_are_refused_in_a_line(tmp_path: Path, pth: Path, workdir: Path, capsys):
    def refused(command: str, *arguments: object) -> str:
        assert cli.run(command, [str(x) for x in arguments]) == 2
        told = capsys.readouterr().err.strip()
        assert "\n" not in told
        return told

    w = ("--workdir", tmp_path / "w")
    short = official()
    del short["blocks.1.mlp.w3.bias"]
    torch.save(short, tmp_path / "short.pth")
    assert "1 missing: blocks.1.mlp.w3.bias" in refused("import", tmp_path / "short.pth", *w)
    odd = official() | {"cls_token": torch.zeros(1, 1, 200), "norm.bias": torch.zeros(200)}
    torch.save(odd, tmp_path / "odd.pth")
    assert "of another shape: cls_token" in refused("import", tmp_path / "odd.pth", *w)
    wide = official(dataclasses.replace(ARCH, width=200, heads=4))
    torch.save(wide, tmp_path / "wide.pth")
    assert "number of heads of width 200 is unknown" in refused("import", tmp_path / "wide.pth", *w)
    spec = "configs/echoapex_vitb.py"
    assert "model.width is 768 there and 192" in refused("import", pth, *w, "--config", spec)
    assert "trains echofm" in refused("import", pth, *w, "--config", "configs/smoke.py")
    folder = tmp_path / "vit"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(to_config(ARCH) | {"hidden_act": "relu"}))
    arrays = {key: value.numpy() for key, value in official().items()}
    from safetensors.numpy import save_file

    theirs = to_state(from_state(arrays, ARCH, "official"), ARCH, "transformers")
    save_file(theirs, folder / "model.safetensors")
    assert "hidden_act 'relu' instead of 'gelu'" in refused("import", folder, *w)
    out = ("--workdir", workdir, "--output", tmp_path / "out")
    assert "leave them out" in refused("export", *out, "--dtype", "bfloat16")
    assert not (tmp_path / "w").exists() and not (tmp_path / "out").exists()


@loads_config_file
def test_without_layer_scale_ones_are_written(tmp_path: Path):
    arch = dataclasses.replace(ARCH, layer_scale=0.0, registers=0, ffn="mlp")
    path = tmp_path / "plain.pth"
    torch.save(official(arch), path)
    spec = CONFIG.format(depth=2, registers=0)
    spec = spec.replace('"swiglu", layer_scale=1e-5', '"mlp", layer_scale=0.0')
    (tmp_path / "c.py").write_text(spec)
    import_weights(path, tmp_path / "w", str(tmp_path / "c.py"))
    report = export.export(tmp_path / "w", tmp_path / "out")
    assert report["also_checked"].keys() == {"transformers"}
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert (weights["encoder.layer.1.layer_scale2.lambda1"] == 1).all()


def test_configs_in_both_words():
    assert from_config(to_config(ARCH)) == ARCH
    plain = ImageArchitecture()
    assert from_config(to_config(plain)) == plain and "num_register_tokens" not in to_config(plain)
    assert from_config(transformers.Dinov2WithRegistersConfig().to_dict()).registers == 4
    with pytest.raises(InputError, match=r"mlp_ratio=2\.5"):
        to_config(dataclasses.replace(ARCH, mlp_ratio=2.5))
