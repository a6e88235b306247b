"""Programs of an export: the outputs of JAX for any batch, their own parts alone, no paths."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from test_export import make_workdir

from echofm_jax import cli, export
from echofm_jax.export_check import check, of_program
from echofm_jax.export_program import run_program, write_programs
from echofm_jax.pytorch import EchoFM, load_program
from echofm_jax.torch_checkpoint import read_official
from echofm_jax.torch_parity import jax_outputs, synthetic_clip

PROGRAMS = ["encoder.onnx", "encoder.pt2", "reconstruction.onnx", "reconstruction.pt2"]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(workdir: Path, tmp_path_factory) -> tuple[Path, dict]:
    """A folder with every program, and the report of the command."""
    folder = tmp_path_factory.mktemp("programs") / "out"
    extras = export.Extras(formats=("pt2", "onnx"), projector=True, decoder=True)
    return folder, export.export(workdir, folder, extras=extras)


def test_every_program_was_compared_with_jax(exported):
    folder, report = exported
    assert sorted(report["also_checked"]) == PROGRAMS
    for name, by_clip in report["also_checked"].items():
        outputs = {"tokens", "video", "frames"} if name.startswith("encoder") else {"pixels"}
        assert by_clip["synthetic"].keys() == outputs
        assert max(by_clip["synthetic"].values()) < 1e-5, name
    card = (folder / "README.md").read_text()
    assert "| encoder.onnx | synthetic | frames |" in card and "{" not in card
    assert "`video` and `frames`" in card and "gives `pixels` [B, 64, 192]" in card
    digests = json.loads((folder / "config.json").read_text())["sha256"]
    weights = {"model.safetensors", "echofm.pth"}
    assert digests.keys() == {*PROGRAMS, *weights, "encoder.onnx.data", "reconstruction.onnx.data"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_batches_of_any_length_and_any_number_of_visible_tokens(exported, name: str):
    folder, _ = exported
    model = EchoFM.from_pretrained(folder).eval()
    for batch, step in ((1, 2), (4, 5)):
        clips = torch.rand(batch, 3, 8, 32, 32)
        visible = torch.arange(0, 64, step).repeat(batch, 1)
        with torch.inference_mode():
            expected = model.encode(clips)._asdict()
            latent = model.encode_tokens(clips, visible)
            expected["pixels"] = model.decode(latent, visible)
        inputs = {"clips": clips.numpy()}
        if name.startswith("reconstruction"):
            inputs["visible"] = visible.numpy()
        for key, value in run_program(folder / name, inputs).items():
            np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5)


def test_the_encoder_is_alone_by_default(exported, tmp_path: Path):
    """It holds no parameter of the projector or decoder, and gives no phase embeddings."""
    shutil.copytree(exported[0], tmp_path / "copy")
    for name in PROGRAMS:
        (tmp_path / "copy" / name).unlink()
    written = write_programs(tmp_path / "copy", ("pt2", "onnx"), projector=False, decoder=False)
    assert [file.name for file in written] == ["encoder.pt2", "encoder.onnx"]
    graph = onnx.load(written[1], load_external_data=False).graph
    assert [output.name for output in graph.output] == ["tokens", "video"]
    held = torch.export.load(written[0])
    names = {name.removeprefix("model.") for name in held.state_dict}
    assert "blocks.2.mlp.fc2.weight" in names and "norm.bias" in names
    assert not [name for name in names if "decoder" in name or "prj" in name or "mask" in name]


def test_onnx_names_its_free_axes(exported):
    graph = onnx.load(exported[0] / "reconstruction.onnx", load_external_data=False).graph
    axes = {
        x.name: [axis.dim_param or axis.dim_value for axis in x.type.tensor_type.shape.dim]
        for x in (*graph.input, *graph.output)
    }
    assert axes["clips"] == ["batch", 3, 8, 32, 32]
    assert axes["visible"] == ["batch", "visible"]
    assert axes["pixels"] == ["batch", 64, 192]


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_path_and_no_example_is_in_a_program(exported, name: str):
    content = (exported[0] / name).read_bytes()
    here = Path(__file__).parents[1]
    for path in (str(here), str(Path(torch.__file__).parent), str(exported[0])):
        assert path.encode() not in content, path
    if name.endswith(".pt2"):
        with zipfile.ZipFile(exported[0] / name) as archive:
            pickled = [x.file_size for x in archive.infolist() if x.filename.endswith(".pt")]
        assert sum(pickled) < 2000 < 2 * 3 * 8 * 32 * 32 * 4  # nothing but an empty list of them


def test_a_program_is_refused_unless_its_digest_is_right(exported, tmp_path: Path):
    shutil.copytree(exported[0], tmp_path / "copy")
    file = tmp_path / "copy" / "encoder.pt2"
    assert load_program(file)(torch.rand(3, 3, 8, 32, 32))["frames"].shape == (3, 4, 24)
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"encoder\.pt2: .*changed since its export"):
        load_program(file)
    (tmp_path / "copy" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"encoder\.pt2: its folder holds no SHA-256"):
        load_program(file)


def test_a_program_of_other_weights_is_seen(exported):
    """One nudged bias of JAX's: every comparison that depends on it shows it."""
    folder, _ = exported
    params, arch, _ = read_official(folder)
    clip = synthetic_clip(arch)
    clips = EchoFM.from_pretrained(folder).preprocess(clip).numpy()
    params["encoder"]["norm"]["bias"][0] += 0.5
    truth = jax_outputs(params, arch, clip)
    for name in PROGRAMS:
        found = of_program(folder / name, clips, truth)
        assert min(found.values()) > export.TOLERANCE, name
    with pytest.raises(RuntimeError, match="JAX and PyTorch differ by more than"):
        check(folder, params, arch, {"synthetic": clip}, [], (), export.TOLERANCE)


def test_parts_without_a_program_are_refused(workdir: Path, tmp_path: Path, capsys):
    for flag in ("--with-decoder", "--with-projector"):
        command = ["export", "--workdir", str(workdir), "--output", str(tmp_path / "out"), flag]
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "give --format pt2 or onnx, too" in error
    assert list(tmp_path.iterdir()) == []


def test_without_onnx_the_extra_is_named(workdir: Path, tmp_path: Path):
    command = ["export", "--workdir", str(workdir), "--output", str(tmp_path / "out")]
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from echofm_jax import cli\n"
        f"sys.exit(cli.main({[*command, '--format', 'onnx']}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert "pip install 'echofm_jax[onnx]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(exported, tmp_path: Path):
    """A limit on the size of files stands for the disk."""
    code = f"""
import resource, signal, pathlib
from echofm_jax.errors import InputError
from echofm_jax.export_program import write_programs
from shutil import copytree
folder = pathlib.Path(copytree({str(exported[0])!r}, {str(tmp_path / "copy")!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for name in ("pt2", "onnx"):
    try:
        write_programs(folder, (name,), projector=False, decoder=False)
    except InputError as error:
        print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        f"encoder.{name}: cannot be written; free some space" for name in ("pt2", "onnx")
    ], result.stderr
