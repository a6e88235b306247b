"""`echofm embed`: features equal the model's own; whole, resumable, in one line where wrong."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPO
from pyarrow import parquet
from safetensors.torch import load_file, save_file
from test_pytorch import TINY
from test_sector import fan_screen

from data_pipelines.cleaned_file import read_cleaned
from data_pipelines.deidentify import keyed_hash
from echofm_jax import cli
from echofm_jax.pytorch import EchoFM, embed, embed_output, embed_run

FPS, WINDOW = 16.0, 1.0  # a sample every other frame


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_file(EchoFM(TINY).state_dict(), folder / "model.safetensors")
    fields = vars(TINY) | {}
    del fields["window_seconds"]
    config = {"architecture": fields, "preprocessing": {"window_seconds": WINDOW}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Five clips of 1, 1, 2, 3 and 1 windows, the last too short; a letter; one without a rate."""
    folder = tmp_path_factory.mktemp("files")
    frames = np.concatenate([fan_screen(1, count=30).frames] * 2)
    for number, count in enumerate((16, 24, 40, 56, 9)):
        path = folder / "anna" / f"{number}.npz"
        path.parent.mkdir(exist_ok=True)
        np.savez(path, clip=frames[number : number + count], fps=FPS)
    np.save(folder / "rateless.npy", frames[:20])
    (folder / "letter.txt").write_text("Dear colleague")
    return folder


def command(model: Path, files: Path, output: Path, *more: str) -> list[str]:
    return ["embed", f"--model={model}", f"--source={files}", f"--output={output}",
            "--workers=1", *more]  # fmt: skip


def features(output: Path) -> np.ndarray:
    """[R, values]."""
    if output.suffix == ".npz":
        with np.load(output) as arrays:
            return arrays["features"]
    column = parquet.read_table(output)["features"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


def clips(model: EchoFM, file: Path, windows: int) -> torch.Tensor:
    """Windows of a file, in its middle, by the code that PyTorch users have."""
    frames = read_cleaned(file, size=model.config.size).frames
    samples = windows * model.config.frames
    span = round(windows * WINDOW * FPS)
    first = (len(frames) - span) // 2
    index = first + np.arange(samples) * span // samples
    return model.preprocess(frames[index].reshape(windows, -1, *frames.shape[1:]))


def test_a_recording_of_less_than_two_windows_is_what_preprocess_takes(model, files):
    torch_model = EchoFM.from_pretrained(model).eval()
    names = ["0.npz", "1.npz", "4.npz"]
    for name, found in zip(
        names, embed(torch_model, [files / "anna" / name for name in names]), strict=True
    ):
        frames = read_cleaned(files / "anna" / name, size=32).frames
        own = torch_model.encode(torch_model.preprocess(frames, fps=FPS)).video
        np.testing.assert_allclose(found.features, own.detach(), rtol=1e-5, atol=1e-6)
        assert found.whole == (name != "4.npz") and found.windows == 1


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kind", ["video", "frames", "tokens"])
def test_windows_side_by_side_whatever_the_batch(model, files, kind, batch):
    torch_model = EchoFM.from_pretrained(model).eval()
    paths = [files / "anna" / f"{n}.npz" for n in (2, 3)]
    found = list(embed(torch_model, [paths[0], files / "letter.txt", paths[1]],
                       kind=kind, batch=batch))  # fmt: skip
    assert found[1].reason == "not_video"
    for path, one in zip(paths, (found[0], found[2]), strict=True):
        with torch.no_grad():
            own = torch_model.encode(clips(torch_model, path, one.windows))
        expected = {
            "video": own.video.mean(0, keepdim=True),
            "frames": own.frames.flatten(0, 1),
            "tokens": own.tokens,
        }[kind]
        np.testing.assert_allclose(one.features, expected, rtol=1e-5, atol=1e-6)
        every = {"video": 99, "frames": TINY.tubelet / 8, "tokens": 1}[kind] * WINDOW
        steps = one.seconds[0] + np.arange(len(one.features)) * every
        np.testing.assert_allclose(one.seconds, steps, atol=1e-5)
        assert one.features.dtype == np.float32 and one.fps == pytest.approx(FPS)
    assert [found[0].windows, found[2].windows] == [2, 3]


def test_a_kind_that_is_none_is_refused(model):
    with pytest.raises(ValueError, match="choose one of video, frames, tokens"):
        embed(EchoFM.from_pretrained(model), [], kind="videos")


def test_both_files_hold_the_same_and_say_what_they_are(model, files, tmp_path, capsys):
    outputs = tmp_path / "f.parquet", tmp_path / "f.npz"
    for output in outputs:
        assert cli.main(command(model, files, output, "--features=tokens", "--json")) == 0
    shown = capsys.readouterr().out.splitlines()
    summary = json.loads(shown[-1])
    assert summary["embedded"] == 5 and summary["windows"] == 8 == summary["rows"]
    assert summary["refused"] == {"no_frame_rate": 1, "not_video": 1}
    assert "embedded 5 of 7 files, 8 windows" in shown
    metas = [embed_output.read_meta(output) for output in outputs]
    assert metas[0] == metas[1] and metas[0].items() <= summary.items()
    assert metas[0]["model"] == embed_run.sha256(model / "model.safetensors")
    assert (metas[0]["shape"], metas[0]["window_seconds"]) == ([16, 24], WINDOW)
    table = parquet.read_table(outputs[0])
    with np.load(outputs[1]) as arrays:
        assert arrays["features"].shape == (8, 16, 24)
        for name in ("name", "seconds", "fps", "windows", "whole"):
            assert table[name].to_pylist() == arrays[name].tolist()
        assert (arrays["features"].reshape(8, -1) == features(outputs[0])).all()
        assert arrays["name"].tolist() == [f"anna/{n}.npz" for n in (0, 1, 2, 2, 3, 3, 3, 4)]
        assert arrays["whole"].tolist() == [True] * 7 + [False]
    with (tmp_path / "f-refused.csv").open() as file:
        refused = {row["file"]: row["reason"] for row in csv.DictReader(file)}
    assert refused == {"rateless.npy": "no_frame_rate", "letter.txt": "not_video"}
    assert (tmp_path / "f-refused.csv").stat().st_mode & 0o77 == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "f-refused.csv", "f.npz", "f.parquet",
    ]  # fmt: skip


def test_groups_of_rows_are_cut_where_memory_ends(model, files, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_output, "ROW_GROUP", 3 * 4 * 24)
    monkeypatch.setattr(embed_run, "TOGETHER", 2)
    outputs = tmp_path / "f.parquet", tmp_path / "f.npz"
    for output in outputs:
        assert cli.main(command(model, files, output, "--features=frames")) == 0
    groups = parquet.ParquetFile(outputs[0])
    sizes = [groups.metadata.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert sizes == [3] * 10 + [2]
    assert (features(outputs[0]) == features(outputs[1])).all()
    with np.load(outputs[1]) as arrays:
        assert parquet.read_table(outputs[0])["seconds"].to_pylist() == arrays["seconds"].tolist()


def test_with_a_salt_no_name_is_told(model, files, tmp_path):
    salt = tmp_path / "salt"
    salt.write_text("0123456789abcdef")
    output = tmp_path / "f.parquet"
    assert cli.main(command(model, files, output, f"--salt_file={salt}")) == 0
    names = parquet.read_table(output)["name"].to_pylist()
    expected = [keyed_hash(b"0123456789abcdef", "name", f"anna/{n}.npz") for n in range(5)]
    assert names == expected and b"anna" not in output.read_bytes()


def test_a_name_that_is_no_text(model, files, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    shutil.copy(files / "anna" / "0.npz", os.fsencode(source) + b"/latin\xe9.npz")
    output = tmp_path / "f.parquet"
    assert cli.main(command(model, source, output)) == 0
    assert parquet.read_table(output)["name"].to_pylist() == ["latin\\xe9.npz"]


def test_the_same_again_is_nothing_to_do_and_anything_else_is_refused(
    model, files, tmp_path, capsys
):
    """Its output may lie in the source: it is no file of it."""
    source = tmp_path / "in"
    shutil.copytree(files, source)
    output = source / "f.npz"
    assert cli.main(command(model, source, output)) == 0
    before = output.read_bytes()
    capsys.readouterr()
    assert cli.main(command(model, source, output, "--json")) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("nothing to do")
    assert json.loads(shown[-1])["nothing_to_do"] and json.loads(shown[-1])["embedded"] == 5
    for more, named in {
        ("--features=frames",): "another features",
        ("--fps=20",): "another assumed_fps",
        ("--dtype=float16",): "another dtype",
        (f"--salt_file={tmp_path / 'salt'}",): "another names, source",
    }.items():
        assert cli.main(command(model, source, output, *more)) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "f.npz exists already" in line and named in line
    os.utime(source / "letter.txt", ns=(0, 0))
    assert cli.main(command(model, source, output)) == 2
    assert "made with another source" in capsys.readouterr().err
    other = tmp_path / "other"
    shutil.copytree(model, other)
    state = load_file(other / "model.safetensors")
    save_file(state | {"norm.bias": state["norm.bias"] + 1}, other / "model.safetensors")
    assert cli.main(command(other, source, output)) == 2
    assert "another model" in capsys.readouterr().err
    assert output.read_bytes() == before
    assert not list(source.glob(".*"))


IN_PAIRS = """
import sys
from echofm_jax import cli
from echofm_jax.pytorch import embed_run
embed_run.TOGETHER = 2
if __name__ == "__main__":
    sys.exit(cli.main(sys.argv[1:]))
"""


def test_killed_it_goes_on_and_ends_with_the_same_bytes(model, files, tmp_path, monkeypatch):
    """What was done is not done again (its file is unreadable by then), unless it has changed."""
    monkeypatch.setattr(embed_run, "TOGETHER", 2)
    source = tmp_path / "in"
    shutil.copytree(files, source)
    for number in range(10):  # so that there is time to kill it
        shutil.copy(source / "anna" / "3.npz", source / f"{number}.npz")
    assert cli.main(command(model, source, tmp_path / "whole.parquet")) == 0
    output, script = tmp_path / "f.parquet", tmp_path / "in_pairs.py"
    script.write_text(IN_PAIRS)
    process = subprocess.Popen(
        [sys.executable, script, *command(model, source, output)],
        env=os.environ | {"PYTHONPATH": str(REPO)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    staging = tmp_path / ".f.parquet-embed"
    while process.poll() is None and not list(staging.glob("[!.]*.json")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not output.exists()
    shutil.copytree(staging, tmp_path / ".g.parquet-embed")
    first = source / "0.npz"
    stamp = first.stat()
    first.write_bytes(bytes(stamp.st_size))
    os.utime(first, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    assert cli.main(command(model, source, output)) == 0
    assert output.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert not staging.exists()
    shutil.copy(files / "anna" / "2.npz", first)
    assert cli.main(command(model, source, tmp_path / "g.parquet")) == 0
    rows = {row["name"]: row for row in parquet.read_table(tmp_path / "g.parquet").to_pylist()}
    assert rows["0.npz"]["windows"] == 2 and rows["1.npz"]["windows"] == 3
    np.testing.assert_allclose(
        rows["0.npz"]["features"], rows["anna/2.npz"]["features"], rtol=1e-5, atol=1e-6
    )


def refusal(capsys, arguments: list[str]) -> str:
    capsys.readouterr()
    assert cli.main(arguments) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]  # a progress bar may stand before it
    assert line.startswith("echofm embed: ")
    return line


def test_bad_input_is_one_line(model, files, tmp_path, capsys):
    output = tmp_path / "f.parquet"
    for arguments, told in {
        ("--model=nowhere",): "nowhere/config.json: no such file",
        (f"--model={files}",): "`echofm export` makes such a folder",
        (f"--source={tmp_path / 'none'}",): "no files",
        (f"--output={tmp_path / 'none' / 'f.npz'}",): "is no folder: make it",
        (f"--output={tmp_path / 'f.csv'}",): "name a .parquet or an .npz file",
        (f"--output={tmp_path}.npz",): "is a folder",
        ("--batch=0",): "--batch 0: at least 1",
        ("--workers=-1",): "--workers -1: at least 1",
        ("--fps=0.5",): "--fps 0.5: give frames a second from 1 to 1000",
        ("--device=tpu9",): "--device tpu9",
    }.items():
        Path(f"{tmp_path}.npz").mkdir(exist_ok=True)
        line = refusal(capsys, command(model, files, output, *arguments))
        assert told in line, line
    for name, content in {"f.parquet": "mine", "f-refused.csv": "mine"}.items():
        (tmp_path / name).write_text(content)
        line = refusal(capsys, command(model, files, output))
        assert name in line and (tmp_path / name).read_text() == content
        (tmp_path / name).unlink()
    assert not list(tmp_path.iterdir())


def test_files_that_all_lack_a_rate(model, files, tmp_path, capsys):
    output, source = tmp_path / "f.npz", files / "rateless.npy"
    line = refusal(capsys, command(model, source, output))
    assert "none of 1 files could be embedded (1 no_frame_rate); give --fps: see" in line
    assert [path.name for path in tmp_path.iterdir()] == ["f-refused.csv"]
    assert cli.main(command(model, source, output, f"--fps={FPS}")) == 0
    assert len(features(output)) == 1


def test_the_owners_rates_go_before_those_of_files(model, files, tmp_path):
    """2.5 s at the file's 16 frames a second are 2 windows, at 40 a second one."""
    source = tmp_path / "in"
    shutil.copytree(files / "anna", source)
    label = {"file": "2.npz", "fps": 40.0, "patient": "Anna"}
    (source / "labels.jsonl").write_text(json.dumps(label))
    output = tmp_path / "f.parquet"
    assert cli.main(command(model, source, output)) == 0
    rows = parquet.read_table(output, columns=["name", "fps", "windows"]).to_pylist()
    assert rows[2] == {"name": "2.npz", "fps": pytest.approx(40), "windows": 1}
    assert [row["windows"] for row in rows] == [1, 1, 1, 3, 1]
    assert b"Anna" not in output.read_bytes()


def test_a_device_without_memory_asks_for_a_smaller_batch(
    model, files, tmp_path, capsys, monkeypatch
):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    output = tmp_path / "f.npz"
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", exhausted)
        line = refusal(capsys, command(model, files, output, "--batch=6"))
        assert "--batch 6: the device has too little memory: try --batch 3" in line
        line = refusal(capsys, command(model, files, output, "--batch=1"))
        assert "try --dtype bfloat16" in line
    assert cli.main(command(model, files, output, "--batch=3")) == 0


def test_a_disk_that_fills_up_is_one_line_and_leaves_no_output(model, files, tmp_path):
    """A limit on the size of files stands for the disk."""
    limit = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "from echofm_jax import cli; sys.exit(cli.main(sys.argv[1:]))"
    )
    output = tmp_path / "f.npz"
    arguments = command(model, files, output, "--features=tokens")
    result = subprocess.run(
        [sys.executable, "-c", limit, *arguments], capture_output=True, text=True, cwd=REPO
    )
    assert result.returncode == 2
    assert f"echofm embed: cannot write {output} (File too large)" in result.stderr
    assert not output.exists()
    assert cli.main(arguments) == 0


def test_one_at_a_time(model, files, tmp_path, capsys):
    output = tmp_path / "f.npz"
    with embed_output.staging(output):
        line = refusal(capsys, command(model, files, output))
    assert "another embed is writing" in line


def test_half_precision_is_its_copy_and_comes_out_in_float32(model, files, tmp_path):
    folder = tmp_path / "half"
    shutil.copytree(model, folder)
    state = {key: x.half() for key, x in load_file(model / "model.safetensors").items()}
    save_file(state | {"norm.bias": state["norm.bias"] + 1}, folder / "model.float16.safetensors")
    found = {}
    for dtype in ("float32", "float16"):
        output = tmp_path / f"{dtype}.npz"
        assert cli.main(command(folder, files, output, f"--dtype={dtype}")) == 0
        found[dtype] = features(output)
        file = {"float32": "model", "float16": "model.float16"}[dtype]
        told = embed_output.read_meta(output)["model"]
        assert told == embed_run.sha256(folder / f"{file}.safetensors")
    assert found["float16"].dtype == np.float32
    np.testing.assert_allclose(found["float16"] - 1, found["float32"], atol=0.02)
    half = EchoFM.from_pretrained(model, dtype=torch.bfloat16)
    (one,) = embed(half, [files / "anna" / "0.npz"])
    assert one.features.dtype == np.float32


WITHOUT_JAX = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "grain", "flax", "optax", "orbax"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
"""


def test_without_jax(model, files, tmp_path):
    """Neither the command nor its workers: `sitecustomize` is run in each of them."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_JAX)
    code = (
        "import sys\n"
        "import echofm_jax.pytorch\n"
        "from echofm_jax import cli\n"
        "try:\n    import jax\nexcept ImportError:\n    print('no jax')\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    output = tmp_path / "f.parquet"
    arguments = command(model, files, output, "--json")
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    shown = result.stdout.splitlines()
    assert shown[0] == "no jax" and json.loads(shown[-1])["embedded"] == 5


def test_the_environment_without_jax_has_the_bounds_of_setup():
    lines = (REPO / "requirements-torch.txt").read_text().splitlines()
    wanted = {line.partition("#")[0].strip() for line in lines} - {""}
    setup = (REPO / "setup.py").read_text()
    assert len(wanted) > 20 and all(f'"{line}"' in setup for line in wanted)
    assert not any(re.match("jax|flax|grain|optax|orbax|dm-pix", line) for line in wanted)
