"""`echofm finetune` from files to a folder of results, and every wrong input in one line."""

import json
import logging
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import discs
import numpy as np
import pytest
import torch
from conftest import REPO
from safetensors.torch import load_file, save_file
from test_embed import WITHOUT_JAX

from echofm_jax import cli
from echofm_jax.pytorch import EchoFMHead, scores

KIND = ("--task=classes", "--target=kind")
TASKS = {
    "classes": KIND,
    "grades": ("--task=grades", "--target=grade", "--grades", "none", "mild", "severe"),
    "number": ("--task=number", "--target=size"),
}
FAST = ("--config.hidden=16", "--config.lr=0.01", "--config.dropout=0.0", "--config.batch=12",
        "--config.patience=0")  # fmt: skip
PRIVATE = (b"anna", b"berta", b"carla", b"dora")  # folders, files, patients, examinations


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """`model`, `clips`, and clips that were read before in `read`."""
    folder = tmp_path_factory.mktemp("finetune")
    discs.write_encoder(folder / "model")
    discs.write_clips(folder / "clips")
    assert cli.main(command(folder, folder / "first", *KIND)) == 0
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few draws of patients, and the root logger as it was."""
    monkeypatch.setattr(scores, "DRAWS", 20)
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers[:] = before
    logging.getLogger("echofm_jax").setLevel(logging.NOTSET)


def command(folder: Path, workdir: Path, *more: str, **replaced) -> list[str]:
    """Arguments; clips that another workdir has read are taken from there."""
    read = folder / "first" / "cache"
    if read.exists() and not (workdir / "cache").exists() and not workdir.is_file():
        shutil.copytree(read, workdir / "cache", ignore=shutil.ignore_patterns("*.npy", "*.json"))
    options = {
        "model": folder / "model", "source": folder / "clips",
        "labels": folder / "clips" / "labels.csv", "workdir": workdir, "workers": 1,
    } | replaced  # fmt: skip
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return ["finetune", *given, "--precropped", "--device=cpu", *more]


def run(capsys, folder: Path, workdir: Path, *more: str, **replaced) -> dict:
    """What it says as JSON."""
    capsys.readouterr()
    assert cli.main(command(folder, workdir, *more, "--json", **replaced)) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal(capsys, folder: Path, workdir: Path, *more: str, **replaced) -> str:
    """The one line of a run that is refused."""
    capsys.readouterr()
    assert cli.main(command(folder, workdir, *more, **replaced)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("echofm finetune: ")
    return lines[-1]


def clips(folder: Path, workdir: Path, **columns) -> Path:
    """The clips with other labels: a table beside the workdir."""
    rows = discs.read_table(folder / "clips" / "labels.csv")
    for number, row in enumerate(rows):
        row |= {name: of(number) for name, of in columns.items()}
    table = Path(f"{workdir}.csv")
    discs.write_table(table, rows)
    return table


# ---- what it makes -----------------------------------------------------------------------------

OFTEN = [
    ("classes", "frozen", "linear"),
    ("number", "lora", "mlp"),
    ("grades", "adapter", "attentive"),
]
SLOW = [
    ("grades", "frozen", "linear"), ("number", "frozen", "linear"), ("classes", "frozen", "mlp"),
    ("grades", "frozen", "mlp"), ("number", "frozen", "attentive"), ("classes", "full", "mlp"),
]  # fmt: skip
MODES = [*OFTEN, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]


@pytest.mark.parametrize(("task", "mode", "head"), MODES)
def test_easy_clips_are_learned(folder, tmp_path, capsys, task, mode, head):
    epochs = 60 if mode == "frozen" else 8
    rate = 0.03 if mode == "frozen" else 0.01
    more = (f"--config.mode={mode}", f"--config.head={head}", f"--config.epochs={epochs}", *FAST,
            f"--config.lr={rate}")  # fmt: skip
    (found,) = run(capsys, folder, tmp_path / "w", *TASKS[task], *more)["runs"]
    assert found["clips"] == {"train": 12, "val": 6, "test": 6}
    assert found["patients"] == {"train": 6, "val": 3, "test": 3}
    assert (found["weights"], found["simulated"]) == ("pretrained", False)
    assert len(found["epochs"]) == (0 if (mode, head) == ("frozen", "linear") else epochs)
    name, chance = ("mae", 8) if task == "number" else ("balanced_accuracy", 0.5)
    value = found["scores"][name]["value"]
    assert found["scores"][name]["low"] <= value <= found["scores"][name]["high"]
    if task == "number":
        assert value < 3 < found["chance"]["mae"] < chance
    else:
        assert value > (0.6 if task == "grades" else 0.8) > chance >= found["chance"][name]

    made = tmp_path / "w" / "pretrained"
    rows = discs.read_table(made / "predictions.csv")
    target = found["target"]
    assert [row["file"] for row in rows] == [f"anna{i // 2}/berta-{i}.npy" for i in range(18, 24)]
    truth = {
        r["file"]: r[target] for r in discs.read_table(folder / "clips" / "labels.csv")
    }  # fmt: skip
    model = EchoFMHead.from_pretrained(made / "head")
    told = model.predict([folder / "clips" / row["file"] for row in rows], precropped=True)
    for row, answer in zip(rows, told, strict=True):
        if task == "number":
            assert float(row[target]) == float(truth[row["file"]])
            assert float(row["answer"]) == pytest.approx(answer["answer"], abs=0.01)
        else:
            assert row[target] == truth[row["file"]] and row["answer"] == answer["answer"]
            written = [float(row[f"p_{name}"]) for name in model.config.outputs]
            assert written == pytest.approx(list(answer["probabilities"].values()), abs=1e-3)
    assert stat.S_IMODE((made / "predictions.csv").stat().st_mode) == 0o600
    assert json.loads((made / "metrics.json").read_text()).items() <= found.items()
    assert not (made / "state.pt").exists()
    pictures = {"number": {"answers", "bland_altman"}}.get(task, {"confusion", "roc"})
    pictures |= {"learning"} if found["epochs"] else set()
    assert {p.name for p in (made / "figures").iterdir()} == {
        f"{name}{dark}.png" for name in pictures for dark in ("", "-dark")
    }
    head, c = sum(p.numel() for p in model.head.parameters()), model.encoder.config
    own = {"frozen": 0, "lora": 4 * 8 * c.width * c.depth}
    if mode == "adapter":
        own["adapter"] = c.depth * (2 * 64 * c.width + 64 + c.width)
    if mode in own:
        assert found["trained_parameters"] == head + own[mode]
    state, before = model.encoder.state_dict(), load_file(folder / "model" / "model.safetensors")
    moved = {
        name for name in before if name in state and not torch.equal(state[name], before[name])
    }
    assert bool(moved) == (mode in ("full", "lora"))


def test_nobody_is_named_in_what_is_passed_on(folder):
    """Only predictions.csv names files; the head tells what it is, and how it was measured."""
    made = folder / "first" / "pretrained"
    for path in [
        *(made / "head").rglob("*"),
        *(made / "figures").rglob("*"),
        made / "metrics.json",
        made / "run.json",
        folder / "first" / "metrics.json",
    ]:
        data = path.read_bytes() if path.is_file() else b""
        assert not any(name in data for name in PRIVATE), path
    assert {p.name for p in (made / "head").iterdir()} == {
        "config.json", "model.safetensors", "README.md", "modeling_echofm.py", "trained_echofm.py",
        "temporal_decoder.py",
        "head_echofm.py",
    }  # fmt: skip
    card = (made / "head" / "README.md").read_text()
    for told in ("EchoFMHead.from_pretrained(", "12 clips of 6 patients", "| balanced accuracy |",
                 "bright, dark", "not a medical device"):  # fmt: skip
        assert told in card, told
    assert b"anna" in (made / "predictions.csv").read_bytes()


def test_the_same_again_is_nothing_to_do_and_other_settings_are_refused(folder, tmp_path, capsys):
    work = tmp_path / "w"
    first = run(capsys, folder, work, *KIND)
    before = {p: p.stat().st_mtime_ns for p in (work / "pretrained").rglob("*")}
    assert run(capsys, folder, work, *KIND) == first
    assert {p: p.stat().st_mtime_ns for p in (work / "pretrained").rglob("*")} == before
    other = clips(folder, work, patient=lambda i: f"other{i // 2}")
    for more, replaced in [
        (("--config.class_weights=none",), {}), (("--seed=1",), {}), ((), {"labels": other}),
    ]:  # fmt: skip
        line = refusal(capsys, folder, work, *KIND, *more, **replaced)
        assert "pretrained holds a run of other labels, weights or settings" in line
        assert "give another --workdir" in line
    shutil.copytree(folder / "model", tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    save_file(state | {"norm.bias": state["norm.bias"] + 1}, tmp_path / "model/model.safetensors")
    line = refusal(capsys, folder, work, *KIND, model=tmp_path / "model")
    assert "holds a run of other labels, weights or settings" in line
    (work / "pretrained" / "metrics.json").unlink()  # as after a kill
    again = run(capsys, folder, work, *KIND)
    for summary in (first, again):
        summary["runs"][0].pop("peak_memory")  # is measured
    assert again == first


def test_shares_folds_seeds_and_random_weights_in_one_command(folder, tmp_path, capsys):
    work = tmp_path / "w"
    more = ("--shares", "0.3", "1", "--folds=2", "--seeds=2", "--compare_random")
    summary = run(capsys, folder, work, *KIND, *more)
    names = {
        f"{weights}-share={share}-fold={fold}-seed={seed}"
        for weights in ("pretrained", "random") for share in ("0.3", "1")
        for fold in (0, 1) for seed in (0, 1)
    }  # fmt: skip
    runs = {found["run"]: found for found in summary["runs"]}
    assert set(runs) == names == {p.name for p in work.iterdir() if "seed" in p.name}
    assert json.loads((work / "metrics.json").read_text()) == summary
    assert (work / "learning_curve.png").exists() and (work / "learning_curve-dark.png").exists()
    for seed in (0, 1):
        tested = [
            [r["file"] for r in discs.read_table(work / name / "predictions.csv")]
            for name in (f"pretrained-share=1-fold={fold}-seed={seed}" for fold in (0, 1))
        ]
        assert len(tested[0] + tested[1]) == len(set(tested[0] + tested[1])) == 24
        owners = [{name.split("/")[0] for name in part} for part in tested]
        assert not owners[0] & owners[1]
    for name, found in runs.items():
        small = runs[name.replace("share=1", "share=0.3")]["patients"]
        assert small["train"] <= found["patients"]["train"] and small["test"] == 6
        assert found["weights"] == name.split("-")[0] and found["seed"] == int(name[-1])
    assert runs["pretrained-share=0.3-fold=0-seed=0"]["patients"]["train"] == 2  # one a class
    same = [json.loads((work / n / "run.json").read_text())["key"] for n in names]
    assert len(set(same)) == len(names)
    # Each clip was encoded once by the exported weights, once by those of each seed.
    assert len(list((work / "cache").glob("*.npy"))) == 3


def test_modes_and_numbers_of_examinations_in_one_command(folder, tmp_path, capsys):
    work = tmp_path / "w"
    more = ("--modes", "frozen", "prompt", "lora", "--studies", "1", "5", "--config.epochs=2")
    summary = run(capsys, folder, work, *KIND, *more, *FAST)
    runs = {found["run"]: found for found in summary["runs"]}
    assert set(runs) == {
        f"pretrained-studies={count}-{mode}"
        for count in (1, 5) for mode in ("frozen", "prompt", "lora")
    }  # fmt: skip
    for name, found in runs.items():
        assert name.endswith(found["recipe"]["mode"])
        assert found["patients"] == {"train": int(name[19]), "val": 3, "test": 3}
        assert found["peak_memory"]["bytes"] >= 0
        assert len(found["epochs"]) == (0 if found["recipe"]["mode"] == "frozen" else 2)
    table = discs.read_table(work / "table.csv")
    assert [row["run"] for row in table] == list(runs)
    head = int(table[0]["trained_parameters"])
    learned = {row["mode"]: int(row["trained_parameters"]) - head for row in table}
    assert learned == {"frozen": 0, "prompt": 2 * 10 * 16, "lora": 4 * 8 * 16 * 2}
    assert (work / "learning_curve.png").exists()
    # What prompts make of a clip is kept apart from what the encoder alone does.
    assert len(list((work / "cache").glob("*.npy"))) == 2
    given = ("--modes", "full", "--config.epochs=1", "--config.batch=4", "--config.patience=0")
    (found,) = run(capsys, folder, tmp_path / "full", *KIND, *given)["runs"]
    assert found["recipe"]["lr"] == 1e-3 * 4 / 256  # a whole encoder learns at its own rate
    assert {one["recipe"]["lr"] for one in runs.values()} == {0.01}  # the user's, in FAST
    model = EchoFMHead.from_pretrained(work / "pretrained-studies=5-prompt" / "head")
    assert model.config.prompts == 10
    described = json.loads((work / "pretrained-studies=5-frozen/head/config.json").read_text())
    assert "prompts" not in described["head"]  # as it always was
    for wrong, told in {
        ("--studies", "0"): "--studies: how many to train on", ("--studies", "99"): "there are 6",
        ("--studies", "1", "--shares", "0.5"): "in place of --shares",
        ("--modes", "frozn"): "mode='frozn' is none of frozen, lora, adapter, prompt, full",
    }.items():  # fmt: skip
        assert told in refusal(capsys, folder, tmp_path / "no", *KIND, *wrong)


def test_a_temporal_head_learns_from_cached_steps(folder, tmp_path, capsys):
    more = ("--config.head=temporal", "--config.epochs=60", *FAST, "--config.lr=0.003")
    (found,) = run(capsys, folder, tmp_path / "w", *TASKS["number"], *more)["runs"]
    assert found["scores"]["mae"]["value"] < 4 < found["chance"]["mae"]
    made = tmp_path / "w" / "pretrained"
    model = EchoFMHead.from_pretrained(made / "head")
    for row in discs.read_table(made / "predictions.csv"):
        (told,) = model.predict([folder / "clips" / row["file"]], precropped=True)
        assert float(row["answer"]) == pytest.approx(told["answer"], abs=0.01)


def test_examinations_are_answered_for(folder, tmp_path, capsys):
    more = ("--config.study=True", "--config.epochs=3", "--config.clips_per_study=1")
    (found,) = run(capsys, folder, tmp_path / "w", *KIND, *more)["runs"]
    rows = discs.read_table(tmp_path / "w" / "pretrained" / "predictions.csv")
    # Every patient's only examination has the same name.
    assert [(r["patient"], r["study"]) for r in rows] == [
        (f"carla{i}", "dora") for i in (9, 10, 11)
    ]
    assert found["clips"]["test"] == 6 and len(found["epochs"]) == 3
    table = clips(folder, tmp_path / "torn", kind=lambda i: ("dark", "bright")[i % 2])
    line = refusal(capsys, folder, tmp_path / "torn", *KIND, *more, labels=table)
    assert "clips of one examination have different labels (anna" in line


def test_classes_may_be_numbers(folder, tmp_path, capsys):
    table = clips(folder, tmp_path / "w", kind=lambda i: (0, 1, 1)[i // 2 % 3])
    (found,) = run(capsys, folder, tmp_path / "w", *KIND, labels=table)["runs"]
    assert found["outputs"] == ["0", "1"] and found["scores"]["accuracy"]["value"] == 1
    table = clips(folder, tmp_path / "one", kind=lambda i: 2 if i < 2 else i // 2 % 2)
    line = refusal(capsys, folder, tmp_path / "one", *KIND, labels=table)
    assert "kind: only one patient has '2'" in line


def test_one_clip_to_train_on(folder, tmp_path, capsys):
    """A hundredth of the patients may be one; of a number nobody needs two."""
    table = clips(folder, tmp_path / "w", split=lambda i: "train" if i < 2 else "test" if i < 20
                  else "val", size=lambda i: float(i) if i else "")  # fmt: skip
    (found,) = run(capsys, folder, tmp_path / "w", *TASKS["number"], labels=table)["runs"]
    assert found["clips"]["train"] == 1 and found["scores"]["mae"]["value"] == 9.5


def test_half_precision_and_a_smaller_picture(folder, tmp_path, capsys):
    more = ("--config.mode=full", "--config.precision=float16", "--config.epochs=2",
            "--config.size=16", "--config.frames=2", *FAST)  # fmt: skip
    (found,) = run(capsys, folder, tmp_path / "w", *KIND, *more)["runs"]
    config = EchoFMHead.from_pretrained(tmp_path / "w" / "pretrained" / "head").encoder.config
    assert (config.size, config.frames) == (16, 2) and len(found["epochs"]) == 2


def test_killed_it_ends_with_the_same_head(folder, tmp_path, capsys):
    """SIGKILL in the second epoch of a full fine-tuning with dropout."""
    more = ("--config.mode=full", "--config.head=mlp", "--config.epochs=3", "--config.batch=3",
            "--config.hidden=16", "--config.patience=0")  # fmt: skip
    whole = run(capsys, folder, tmp_path / "whole", *KIND, *more)
    code = (
        "import os, signal, sys\n"
        "from echofm_jax import cli\n"
        "from echofm_jax.pytorch import fitting\n"
        "steps, adam = [], fitting.torch.optim.AdamW.step\n"
        "def step(self, *args, **kwargs):\n"
        "    steps.append(0)\n"
        "    return os.kill(os.getpid(), 9) if len(steps) == 6 else adam(self, *args, **kwargs)\n"
        "fitting.torch.optim.AdamW.step = step\n"
        "if __name__ == '__main__':\n    cli.main(sys.argv[1:])\n"
    )
    work = tmp_path / "w"
    arguments = command(folder, work, *KIND, *more)
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, cwd=REPO,
    )  # fmt: skip
    assert result.returncode == -9, result.stderr
    assert (work / "pretrained" / "state.pt").exists()
    resumed = run(capsys, folder, work, *KIND, *more)
    for summary in (resumed, whole):
        summary["runs"][0].pop("peak_memory")  # is measured
    assert resumed["runs"] == whole["runs"]
    files = [w / "pretrained/head/model.safetensors" for w in (work, tmp_path / "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_jax(folder, tmp_path):
    """From raw files to a head, neither the command nor its workers import it."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_JAX)
    code = (
        "import sys\nfrom echofm_jax import cli\n"
        "try:\n    import jax\nexcept ImportError:\n    print('no jax')\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    (tmp_path / "w" / "cache").mkdir(parents=True)  # nothing was read before
    arguments = command(folder, tmp_path / "w", *KIND, "--json")
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPO}"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "no jax"
    assert json.loads(lines[-1])["runs"][0]["scores"]["accuracy"]["value"] == 1


# ---- what is wrong with the input --------------------------------------------------------------


def of(values: dict):
    """A column where some rows have another value."""
    return lambda number: values.get(number, "dark" if number // 2 % 3 == 0 else "bright")


LABELS = {
    "missing": ({"file": lambda i: f"gone{i}.npy" if i > 21 else f"anna{i // 2}/berta-{i}.npy"},
                KIND, "2 of its files are not below", "gone22.npy, gone23.npy"),
    "one patient": ({"kind": of({0: "rare", 1: "rare"})}, KIND, "only one patient has 'rare'", ""),
    "nan": ({"size": lambda i: "nan" if i == 3 else i}, TASKS["number"], "line 5: size is no",
            ""),
    "no label": ({"kind": lambda _: ""}, KIND, "no clip has a value of kind; columns: grade, size",
                 ""),
    "column": ({}, ("--task=classes", "--target=kinf"), "no clip has a value of kinf; columns: ",
               "grade, kind, size"),
    "all one": ({"kind": lambda _: "dark"}, KIND, "all 24 clips have dark", "nothing to learn"),
    "words": ({}, ("--task=number", "--target=kind"), "is no number: use --task classes", "kind"),
    "grades": ({}, ("--task=grades", "--target=grade"), "name its grades in order: --grades", ""),
    "grade": ({}, ("--task=grades", "--target=grade", "--grades", "none", "mild"),
              "'severe' is none of --grades none mild", ""),
    "torn": ({"split": lambda i: ("train", "test")[i % 2]}, KIND, "clips in two splits", ""),
    "view": ({}, (*KIND, "--views", "A4C"), "no clip of view A4C", ""),
    "few": ({"split": lambda _: ""}, (*KIND, "--folds=13"), "13 folds of 12 patients", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", LABELS)
def test_wrong_labels(folder, tmp_path, capsys, name):
    columns, arguments, *told = LABELS[name]
    table = clips(folder, tmp_path / "w", **columns)
    line = refusal(capsys, folder, tmp_path / "w", *arguments, labels=table)
    assert all(text in line for text in told), line
    assert not (tmp_path / "w" / "pretrained").exists()


def test_no_labels_at_all(folder, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "clip.npy", discs.disc(1, 0))
    line = refusal(capsys, folder, tmp_path / "w", *KIND, source=tmp_path / "in", labels=None)
    assert "no folder of a class with files in it" in line and "or a table of labels" in line


def test_clips_that_tell_no_frame_rate(folder, tmp_path, capsys):
    model = discs.write_encoder(tmp_path / "model", window_seconds=0.2)
    table = clips(folder, tmp_path / "w", fps=lambda i: "" if i in (2, 5) else 20)
    line = refusal(capsys, folder, tmp_path / "w", *KIND, labels=table, model=model)
    assert "2 clips tell no frame rate, and this model's window is 0.2 s: give --fps" in line
    assert "(anna" in line and "berta-2.npy" in line and "berta-5.npy" in line


def test_files_that_are_no_clips_are_left_out(folder, tmp_path, capsys):
    source = tmp_path / "clips"
    shutil.copytree(folder / "clips", source)
    (source / "anna0" / "berta-1.npy").write_text("no clip")
    table = source / "labels.csv"
    summary = run(capsys, folder, tmp_path / "w", *KIND, source=source, labels=table)
    assert summary["refused"] == {"unreadable": 1} and summary["runs"][0]["clips"]["train"] == 11
    for path in source.rglob("*.npy"):
        path.write_text("no clip")
    line = refusal(capsys, folder, tmp_path / "x", *KIND, source=source, labels=table)
    assert "none of its 24 labelled clips can be used" in line


def described(model: Path, edit) -> None:
    path = model / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def renamed(model: Path, rename) -> None:
    path = model / "model.safetensors"
    state = {rename(key): value for key, value in load_file(path).items()}
    state.pop("", None)
    save_file(state, path)


MODELS = {
    "newer": (lambda m: described(m, lambda c: c["architecture"].update(registers=4)),
              "config.json: not a config of EchoFM (it has registers, which this version does not",
              "exported by a newer echofm_jax? Install that"),
    "prefix": (lambda m: renamed(m, lambda k: f"module.{k}"),
               "not the weights of its config: ", "Usually they were saved inside DataParallel",
               "unknown (module."),
    "fused": (lambda m: renamed(m, lambda k: k.replace(".q.", ".qkv.")), "fuses q, k and v",
              "unknown (blocks.0.attn.qkv.bias"),
    "encoder alone": (lambda m: renamed(m, lambda k: "" if k.startswith(("decoder", "prj", "mask"))
                                        else k), "an encoder's alone", "missing (decoder_"),
    "another": (lambda m: renamed(m, lambda k: k.replace("blocks.1.norm1", "blocks.1.ln")),
                "of two models", "2 unknown (blocks.1.ln.", "2 missing (blocks.1.norm1."),
    "sizes": (lambda m: described(m, lambda c: c["architecture"].update(size=64)),
              "the config is of another size", "pos_embed_spatial (1, 4, 16) for (1, 16, 16)"),
    "cut": (lambda m: (m / "model.safetensors").write_bytes(b"1234567890"), "truncated or damaged",
            "copy it again"),
    "no weights": (lambda m: (m / "model.safetensors").unlink(), "model.safetensors: no such file",
                   "export it again"),
    "no config": (lambda m: (m / "config.json").unlink(), "no folder of `echofm export`", ""),
    "changed": (lambda m: described(m, lambda c: c.update(sha256={"model.safetensors": "0"})),
                "changed since its export", "copy the folder again"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_none(folder, tmp_path, capsys, name):
    spoil, *told = MODELS[name]
    model = tmp_path / "model"
    shutil.copytree(folder / "model", model)
    spoil(model)
    line = refusal(capsys, folder, tmp_path / "w", *KIND, model=model)
    assert all(text in line for text in (*told, str(model))), line


ARGUMENTS = {
    ("--target=kind", "--task=classes", "--config.mood=1"): "unknown config field 'mood'",
    (*KIND, "--config.mode=deep"): "mode='deep' is none of frozen, lora, adapter, prompt, full",
    (*KIND, "--config.frames=3"): "clips of 3 frames of 32x32 pixels: this model takes multiples",
    (*KIND, "--shares", "0", "1"): "--shares: of the training patients, each above 0",
    (*KIND, "--folds=1"): "--folds 2 or more",
    (*KIND, "--device=tpu9"): "--device tpu9",
    (*KIND, "--dataset=echonet"): "unknown data set 'echonet': did you mean",
    ("--task=classes",): "--task classes: say with --target which column it learns",
    ("--task=view", "--target=kind"): "--task view learns view",
    (*KIND, f"--config={REPO / 'configs' / 'vit_s.py'}"): "recipe: it has no",
    (*KIND, "--config=none.py"): "no config file at none.py",
    (*KIND, "--wrokers=1"): "unknown argument --wrokers=1",
    (*KIND, "--source=none"): "no such folder",
}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_wrong_arguments(folder, tmp_path, capsys, arguments):
    line = refusal(capsys, folder, tmp_path / "w", *arguments)
    assert ARGUMENTS[arguments] in line, line


def test_a_workdir_that_is_a_file(folder, tmp_path, capsys):
    (tmp_path / "w").write_text("mine")
    line = refusal(capsys, folder, tmp_path / "w", *KIND)
    assert "is a file; name a folder" in line and (tmp_path / "w").read_text() == "mine"


def test_a_device_without_memory(folder, tmp_path, capsys, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", exhausted)
    line = refusal(capsys, folder, tmp_path / "w", *KIND)
    assert "cpu is out of memory: halve --config.batch" in line
    monkeypatch.undo()
    monkeypatch.setattr(scores, "DRAWS", 20)
    assert run(capsys, folder, tmp_path / "w", *KIND)["runs"]
