"""The same commands on a Dinov2 folder: every task and mode, heads that load, features of files."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import apex
import discs
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from data_pipelines.clean_files import Cut, read_windows, stamped
from echofm_jax import cli
from echofm_jax.pytorch import EchoApex, EchoFMHead, EchoFMSegmenter, labelled_frames, scores
from echofm_jax.pytorch.modeling_echoapex import renamed


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`model`; `studies` of a phantom and `labels.csv` of them."""
    folder = tmp_path_factory.mktemp("apex")
    apex.write(folder / "model", 2, image_size=42)
    shown = ["--views", "A4C", "PLAX", "--clips_per_study=2", "--size", "120", "160"]
    studies = folder / "studies"
    assert cli.main(["phantom", f"--output={studies}", "--studies=6", *shown]) == 0
    known = [json.loads(line) for line in (studies / "labels.jsonl").read_text().splitlines()]
    rows = []
    for row in known:
        patient = int(row["file"][1:4])
        split = {5: "val", 6: "test"}.get(patient, "train")
        grade = ("none", "mild")["_1." in row["file"]]  # one of each in every patient
        kept = {name: row[name] for name in ("file", "fps", "view", "ejection_fraction")}
        rows.append(kept | {"patient": patient, "split": split, "grade": grade})
    discs.write_table(folder / "labels.csv", rows)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few draws of patients, short epochs, and the root logger as it was."""
    monkeypatch.setattr(scores, "DRAWS", 20)
    monkeypatch.setattr(labelled_frames, "LEAST", 8)
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before
    logging.getLogger("echofm_jax").setLevel(logging.NOTSET)


def finetune(folder: Path, task: str, *more: str, labels: bool = True) -> Path:
    """The workdir of what was trained; files are read once for all."""
    workdir = folder / "-".join((task, *more)).replace("/", "")
    if (folder / "cache").exists():
        ignored = shutil.ignore_patterns("*.npy", "*.json")
        shutil.copytree(folder / "cache", workdir / "cache", ignore=ignored)
    table = [f"--labels={folder / 'labels.csv'}"] if labels else []
    assert cli.main([
        "finetune", f"--model={folder / 'model'}", f"--source={folder / 'studies'}", *table,
        f"--workdir={workdir}", f"--task={task}", "--workers=2", "--device=cpu",
        "--config.epochs=1", "--config.frames=2", *more,
    ]) == 0  # fmt: skip
    if not (folder / "cache").exists():
        shutil.copytree(workdir / "cache", folder / "cache")
    return workdir


MODES = [
    ("view", "frozen", "linear"), ("ejection_fraction", "lora", "mlp"),
    ("grades", "adapter", "attentive"), ("view", "full", "mlp"),
    ("ejection_fraction", "frozen", "temporal"), ("view", "prompt", "temporal"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "mode", "head"), MODES)
def test_clips_are_answered_for(folder, task, mode, head):
    more = ("--target=grade", "--grades", "none", "mild") if task == "grades" else ()
    more += ("--config.batch=2",)  # several updates: in the first one a new head teaches nothing
    run = finetune(folder, task, f"--config.mode={mode}", f"--config.head={head}", *more)
    made = run / "pretrained" / "head"
    assert {p.name for p in made.glob("*.py")} == {
        "modeling_echofm.py", "modeling_echoapex.py", "trained_echofm.py", "temporal_decoder.py",
        "head_echofm.py",
    }  # fmt: skip
    card = (made / "README.md").read_text()
    assert "EchoApex head: " in card and "encoder is EchoApex (arXiv 2410.11092), width 24" in card
    model = EchoFMHead.from_pretrained(made)
    assert isinstance(model.encoder, EchoApex) and model.encoder.config.frames == 2
    rows = discs.read_table(run / "pretrained" / "predictions.csv")
    rates = {r["file"]: float(r["fps"]) for r in discs.read_table(folder / "labels.csv")}
    assert len(rows) == 2
    for row in rows:
        file = folder / "studies" / row["file"]
        (answer,) = model.predict([file], fps=rates[row["file"]])
        if task == "ejection_fraction":
            assert float(row["answer"]) == pytest.approx(answer["answer"], abs=0.01)
        else:
            assert row["answer"] == answer["answer"]
    if mode == "prompt":
        assert model.encoder.blocks[1].prompts.shape == (1, 10, 24)
    before = renamed(load_file(folder / "model" / "model.safetensors"))
    state = model.encoder.state_dict()
    moved = {n for n in before if n in state and not torch.equal(state[n], before[n])}
    assert all(".attn." in name for name in moved) or mode == "full"
    assert bool(moved) == (mode in ("lora", "full"))
    c = model.encoder.config
    own = {"frozen": 0, "lora": 4 * 8 * c.width * c.depth,
           "adapter": c.depth * (2 * 64 * c.width + 64 + c.width),
           "prompt": c.depth * 10 * c.width,
           "full": sum(p.numel() for p in model.encoder.parameters())}  # fmt: skip
    heads = sum(p.numel() for p in model.head.parameters())
    found = json.loads((run / "pretrained" / "metrics.json").read_text())
    assert found["trained_parameters"] == heads + own[mode]


@pytest.mark.parametrize("mode", ["full", "prompt"])
def test_frames_are_labelled(folder, mode):
    run = finetune(folder, "segmentation", f"--config.mode={mode}", labels=False) / "pretrained"
    made = run / "head"
    model = EchoFMSegmenter.from_pretrained(made)
    learned = json.loads((run / "metrics.json").read_text())["trained_parameters"]
    decoder = sum(p.numel() for p in model.decoder.parameters())
    prompts = 10 * 24 * 2 if mode == "prompt" else 0
    assert model.config.prompts == prompts // 48
    assert learned == decoder + (prompts or sum(p.numel() for p in model.encoder.parameters()))
    assert isinstance(model.encoder, EchoApex)
    (answer,) = model.predict([next((folder / "studies").rglob("*_1.*"))])
    assert answer["labels"].shape == answer["frames"].shape == (len(answer["labels"]), 42, 42)
    assert "EchoApex head: segmentation" in (made / "README.md").read_text()


def test_random_weights_are_told_apart(folder):
    workdir = finetune(folder, "view", "--compare_random", "--seeds=2")
    runs = json.loads((workdir / "metrics.json").read_text())["runs"]
    assert [run["weights"] for run in runs] == ["pretrained", "random"] * 2
    assert len({(workdir / run["run"] / "run.json").read_text() for run in runs}) == 4
    assert len(list((workdir / "cache").glob("*.npy"))) == 3  # maps by each encoder


def test_a_head_stands_alone(folder, tmp_path):
    """Copied away from echofm_jax, it answers for windows."""
    made = finetune(folder, "view", "--config.head=mlp") / "pretrained" / "head"
    shutil.copytree(made, tmp_path / "head")
    program = (
        "import sys\n"
        "sys.modules['echofm_jax'] = sys.modules['data_pipelines'] = None\n"
        "import torch\n"
        "from head.head_echofm import EchoFMHead\n"
        "model = EchoFMHead.from_pretrained('head')\n"
        "print(model(torch.ones(1, 3, 2, 42, 42)).tolist())"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True,
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    expected = EchoFMHead.from_pretrained(made)(torch.ones(1, 3, 2, 42, 42))
    np.testing.assert_allclose(json.loads(result.stdout), expected.detach(), rtol=1e-4)


@pytest.mark.parametrize("kind", ["video", "frames", "tokens"])
@torch.no_grad()
def test_files_are_embedded(folder, tmp_path, kind):
    output = tmp_path / f"{kind}.npz"
    source = folder / "studies" / "P001"
    assert cli.main(["embed", f"--model={folder / 'model'}", f"--source={source}",
                     f"--output={output}", f"--features={kind}", "--workers=1"]) == 0  # fmt: skip
    found = np.load(output)
    model = EchoApex.from_pretrained(folder / "model")
    assert set(found["name"]) == {path.name for path in source.iterdir()}
    shape = {"video": (24,), "frames": (24,), "tokens": (8 * 9, 24)}[kind]
    assert found["features"].shape[1:] == shape
    name = str(found["name"][0])
    windows = read_windows(stamped(source / name), Cut(size=42, frames=8, window_seconds=1.0))
    clips = model.preprocess(torch.from_numpy(windows.frames[windows.index]))
    own = getattr(model.encode(clips), kind)
    own = own.mean(0, keepdim=True) if kind == "video" else own
    own = own.flatten(0, 1) if kind == "frames" else own
    here = found["features"][found["name"] == name]
    np.testing.assert_allclose(here, own, atol=1e-5)


def test_what_is_no_encoder_is_told(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"patch_size": 13}))
    given = [f"--model={tmp_path / 'm'}", f"--source={folder / 'studies'}", "--workers=1"]
    table = [f"--labels={folder / 'labels.csv'}", f"--workdir={tmp_path / 'w'}", "--task=view"]
    assert cli.main(["finetune", *given, *table]) == 2
    assert "config.json: not a config of Dinov2" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["embed", *given, f"--output={tmp_path / 'f.npz'}"]) == 2
    assert "config.json: not a config of Dinov2" in capsys.readouterr().err.splitlines()[-1]
