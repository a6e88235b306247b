"""`echofm export`: verified weights and a folder that stands alone, or one line and nothing."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_pipelines import records, shards
from echofm_jax import cli, config, export
from echofm_jax.architecture import Architecture
from echofm_jax.checkpoint import load_params
from echofm_jax.errors import InputError
from echofm_jax.import_weights import import_weights
from echofm_jax.objectives.echofm import EchoFMObjective
from echofm_jax.pytorch import EchoFM
from echofm_jax.torch_checkpoint import read_official
from echofm_jax.torch_parity import differences, jax_outputs, synthetic_clip
from echofm_jax.torch_weights import to_arguments, to_torch, torch_shapes

TINY = Architecture(
    frames=8, size=32, tubelet=2, patch=8, width=24, depth=3, heads=3, mlp_ratio=2.0,
    decoder_width=16, decoder_depth=2, decoder_heads=2, pred_frames=4,
)  # fmt: skip
OBJECTIVE = EchoFMObjective(prior="embedding", cycle_weight=0.0)

EVALUATION = {  # as `echofm evaluate` writes it
    "step": 0, "split": "val", "clips": 12, "patients": 5, "loss": None, "psnr": 24.25,
    "cross_beat_error_model": 7.5, "cross_beat_error_chance": 25.0,
    "intervals": {"loss": [None, None], "psnr": [23.5, 25.0], "cross_beat_error_model": [6, 9]},
    "recordings": [{"cross_beat_error_model": 7.123}],
}  # fmt: skip


def make_workdir(folder: Path, **changes: torch.Tensor) -> Path:
    """A workdir as `echofm import` makes it, of random weights (some changed)."""
    rng = np.random.default_rng(0)
    state = {
        key: torch.from_numpy(rng.standard_normal(shape, np.float32) * np.float32(0.1))
        for key, shape in torch_shapes(TINY).items()
    }
    arguments = to_arguments(dataclasses.asdict(TINY), dataclasses.asdict(OBJECTIVE))
    torch.save({"model": state | changes, "model_args": arguments}, folder / "x.pth")
    import_weights(folder / "x.pth", folder / "w")
    settings = config.load(folder / "w")
    settings.data.dir = "/data/jane_doe"  # a path that must appear nowhere
    settings.data.window_seconds = 2.0
    settings.model.dtype = "bfloat16"  # training's, not the export's
    config.save(settings, folder / "w")
    return folder / "w"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, workdir: Path) -> Path:
    (workdir / "evaluation.json").write_text(json.dumps(EVALUATION))
    folder = tmp_path_factory.mktemp("exports") / "echofm"
    report = export.export(workdir, folder)
    (workdir / "evaluation.json").unlink()
    assert all(value < 1e-5 for value in report["differences"]["synthetic"].values())
    return folder


def test_every_file_is_there_and_readable(exported: Path):
    names = [
        "README.md",
        "config.json",
        "echofm.pth",
        "hf_echofm.py",
        "model.safetensors",
        "modeling_echofm.py",
        "preprocessor_config.json",
    ]
    assert sorted(file.name for file in exported.iterdir()) == names
    assert len({file.stat().st_mode for file in exported.iterdir()}) == 1
    assert [path.name for path in exported.parent.iterdir()] == [exported.name]


def test_the_pth_holds_the_public_codes_layout(exported: Path, workdir: Path):
    saved = torch.load(exported / "echofm.pth", weights_only=True)
    imported = torch.load(workdir.with_name("x.pth"), weights_only=True)
    assert saved["model_args"] == imported["model_args"]
    assert saved["model_args"]["phase_prior"] == "embed"
    assert saved["model"].keys() == imported["model"].keys()
    for weights in (saved["model"], load_file(exported / "model.safetensors")):
        assert all(torch.equal(weights[key], value) for key, value in imported["model"].items())


def test_three_lines_without_jax(exported: Path):
    """The README's own example, in a process that has none of our packages imported."""
    readme = (exported / "README.md").read_text()
    example = readme.split("```python\n")[1].split("```")[0]
    code = (
        "import sys, numpy as np\nframes, fps = np.full((50, 40, 40), 9, np.uint8), 30\n"
        f"{example}\n"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('jax', 'flax', 'echofm_jax')]\n"
        "print(*(list(x.shape) for x in features))"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, cwd=exported
    )
    assert result.stdout.split("\n")[0] == "[1, 64, 24] [1, 4, 24] [1, 24]", result.stderr


def test_the_config_says_how_to_prepare_frames(exported: Path):
    written = json.loads((exported / "config.json").read_text())
    assert written["preprocessing"]["window_seconds"] == 2.0
    assert written["provenance"]["step"] == 0
    assert len(written["provenance"]["started_from"]["sha256"]) == 64
    assert EchoFM.from_pretrained(exported).config.window_seconds == 2.0


def test_the_card_holds_metrics_differences_and_origin(exported: Path):
    card = (exported / "README.md").read_text()
    assert "On 12 clips of 5 patients, split `val`" in card
    assert "| PSNR of hidden pixels inside the sector | 24.25 dB | 23.5 to 25 |" in card
    assert "| cross-beat phase error: chance | 25 % of a cycle |  |" in card
    assert "None" not in card and "7.123" not in card
    assert "| synthetic | tokens |" in card
    origin = json.loads((exported / "config.json").read_text())["provenance"]["started_from"]
    assert origin["sha256"] in card
    assert "{" not in card and "simulated" not in card


def test_no_path_leaves_the_workdir(exported: Path, workdir: Path):
    for file in exported.iterdir():
        content = file.read_bytes()
        assert b"jane_doe" not in content and str(workdir).encode() not in content, file.name


def test_an_evaluation_of_another_step_is_left_out(workdir: Path):
    (workdir / "evaluation.json").write_text(json.dumps(EVALUATION | {"step": 7}))
    assert export.read_evaluation(workdir, 0) == {}
    assert export.read_evaluation(workdir, 7)["psnr"] == 24.25
    (workdir / "evaluation.json").unlink()


def test_import_takes_the_exported_folder_back(exported: Path, workdir: Path, tmp_path: Path):
    params, arch, missing = read_official(exported)
    assert arch == TINY and missing == []
    expected = torch.load(workdir.with_name("x.pth"), weights_only=True)["model"]
    for key, value in to_torch(params, arch).items():
        np.testing.assert_array_equal(value, expected[key].numpy())
    import_weights(exported, tmp_path / "again")
    before, after = (load_params(folder)[0] for folder in (workdir, tmp_path / "again"))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    assert config.load(tmp_path / "again").data.window_seconds == 2.0


@pytest.mark.parametrize("name", ["model.safetensors", "echofm.pth"])
@pytest.mark.parametrize("harm", [lambda x: x[:-9], lambda x: x[:-900] + b"\1" + x[-899:]])
def test_a_truncated_or_changed_file_is_refused(exported: Path, tmp_path: Path, name, harm):
    shutil.copytree(exported, tmp_path / "copy")
    file = tmp_path / "copy" / name
    assert read_official(file)[1] == TINY
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(InputError, match=f"{name}: truncated, damaged or changed since its export"):
        read_official(file)


def test_differences_see_one_changed_weight(exported: Path):
    """Each output is compared for real: nudging what only it depends on shows."""
    params, arch, _ = read_official(exported)
    clip = synthetic_clip(arch)
    ours = jax_outputs(params, arch, clip)
    for key, output in (
        ("norm.bias", "tokens"),
        ("prj_norm.bias", "frames"),
        ("decoder_pred.bias", "pixels"),
    ):
        model = EchoFM.from_pretrained(exported).eval()
        with torch.no_grad():
            model.get_parameter(key)[0] += 0.05
        assert differences(ours, model, clip)[output] > export.TOLERANCE, output


def test_colour_clips_are_compared_too(exported: Path):
    params, arch, _ = read_official(exported)
    shape = (1, arch.frames, arch.size, arch.size, 3)
    clip = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ours = jax_outputs(params, arch, clip)
    found = differences(ours, EchoFM.from_pretrained(exported).eval(), clip)
    assert max(found.values()) < 1e-5


def test_a_held_out_clip_is_compared_too(workdir: Path, tmp_path: Path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (20, 40, 40), np.uint8)
    record = {
        "frames": [records.encode_frame(frame, "zstd") for frame in frames],
        "times": np.arange(20, dtype=np.float32) / 30, "fps": np.float32(30),
        "fps_source": "FrameTime", "mode": "b_mode", "sector": b"", "clip_id": "0" * 16,
        "patient_id": "0" * 16, "segment": 0, "segments": 1, "view": "",
        "ejection_fraction": np.float32(np.nan), "phase": np.zeros(0, np.float32),
        "end_diastole": np.zeros(0, np.int32), "end_systole": np.zeros(0, np.int32),
    }  # fmt: skip
    shards.write_dataset(
        tmp_path / "data", {"test": [record]}, size=40, encoding="zstd", simulated=True
    )
    shutil.copytree(workdir, tmp_path / "w")
    settings = config.load(tmp_path / "w")
    settings.data.dir = str(tmp_path / "data")
    config.save(settings, tmp_path / "w")
    found = export.export(tmp_path / "w", tmp_path / "out")["differences"]
    assert max(found["held_out"].values()) < 1e-5
    assert found["held_out"]["tokens"] != found["synthetic"]["tokens"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| held-out | tokens |" in card and "trained on simulated clips" in card


def test_half_precision_copies_are_compared_and_read_back(workdir: Path, tmp_path: Path):
    extras = export.Extras(dtypes=("bfloat16", "float16"))
    report = export.export(workdir, tmp_path / "out", extras=extras)
    whole = load_file(tmp_path / "out" / "model.safetensors")
    for dtype, least, most in (("bfloat16", 1e-3, 1e-2), ("float16", 1e-4, 2e-3)):
        name = f"model.{dtype}.safetensors"
        found = report["also_checked"][name]["synthetic"]
        assert found.keys() == {"tokens", "frames", "video", "pixels"}
        assert all(least < value < most for value in found.values()), found
        assert report["files"][name] < report["files"]["model.safetensors"] * 0.6
        copy = load_file(tmp_path / "out" / name)
        assert all(torch.equal(copy[key], x.to(getattr(torch, dtype))) for key, x in whole.items())
        params, arch, _ = read_official(tmp_path / "out" / name)
        read = to_torch(params, arch)["norm.bias"]
        assert np.array_equal(read, copy["norm.bias"].float().numpy())
    modes = {file.stat().st_mode for file in (tmp_path / "out").iterdir()}
    assert len(modes) == 1


def test_a_model_too_large_for_half_precision_is_refused(tmp_path: Path):
    count = dict(torch_shapes(TINY))["decoder_pred.bias"][0]
    workdir = make_workdir(tmp_path, **{"decoder_pred.bias": torch.full((count,), 1e6)})
    with pytest.raises(InputError, match=r"--dtype float16: .*does not bear it"):
        export.export(workdir, tmp_path / "out", extras=export.Extras(dtypes=("float16",)))
    assert not (tmp_path / "out").exists()


def test_a_disagreement_leaves_nothing(workdir: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", 1e-12)
    with pytest.raises(RuntimeError, match="JAX and PyTorch differ by more than"):
        export.export(workdir, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_refused(tmp_path: Path):
    nan = torch.full((24,), float("nan"))
    workdir = make_workdir(tmp_path, **{"norm.bias": nan})
    with pytest.raises(InputError, match="not finite"):
        export.export(workdir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_output_is_refused_and_untouched(workdir: Path, tmp_path: Path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    status = cli.main(["export", "--workdir", str(workdir), "--output", str(tmp_path / "out")])
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and "exists already" in error
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine"]


def test_what_is_not_a_workdir_is_named(tmp_path: Path, workdir: Path):
    with pytest.raises(InputError, match="not a workdir"):
        export.export(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no checkpoint of step 5"):
        export.export(workdir, tmp_path / "out", step=5)
    shutil.copytree(workdir, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints"))
    with pytest.raises(InputError, match="no whole checkpoint"):
        export.export(tmp_path / "copy", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unwritable_output_is_named(workdir: Path, tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        export.export(workdir, tmp_path / "file" / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(workdir: Path, tmp_path: Path):
    """A limit on the size of files stands for the disk."""
    code = (
        "import resource, signal, sys; from echofm_jax import cli\n"
        "import jax, torch, safetensors.torch\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    arguments = ["export", "--workdir", str(workdir), "--output", str(tmp_path / "out")]
    env = {name: os.environ[name] for name in os.environ if name != "JAX_COMPILATION_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True
    )
    assert result.returncode == 2 and "cannot write weights of 2 x " in result.stderr
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_pytorch_the_extra_is_named(workdir: Path, tmp_path: Path):
    commands = [
        ["export", "--workdir", str(workdir), "--output", str(tmp_path / "out")],
        ["import", str(workdir.with_name("x.pth")), "--workdir", str(tmp_path / "w")],
    ]
    code = (
        "import sys; sys.modules['torch'] = None; from echofm_jax import cli\n"
        f"print([cli.main(command) for command in {commands}])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[2, 2]\n", result.stderr
    assert result.stderr.count("pip install 'echofm_jax[torch]'") == 2
    assert list(tmp_path.iterdir()) == []


def test_json_is_the_last_line(workdir: Path, tmp_path: Path, capsys):
    arguments = ["--workdir", str(workdir), "--output", str(tmp_path / "out"), "--json"]
    assert cli.main(["export", *arguments]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["step"] == 0 and report["differences"]["synthetic"].keys() == {
        "tokens",
        "frames",
        "video",
        "pixels",
    }
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "out").iterdir()}
    assert report["files"] == sizes
