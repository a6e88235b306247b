"""A clip head: what it reads, what it answers, and the folder that it is kept in."""

import json
import shutil
import subprocess
import sys

import discs
import miniatures as mini
import numpy as np
import pytest
import torch
from pydicom.uid import ExplicitVRLittleEndian
from test_dicom import write as write_dicom

from echofm_jax.pytorch import EchoFM, EchoFMHead, head_folder
from echofm_jax.pytorch.finetune_run import CODE
from echofm_jax.pytorch.head_echofm import ClipHead, HeadConfig
from echofm_jax.pytorch.trained_echofm import FORMAT, Adapter

NAMES = ("none", "mild", "moderate", "severe")
CARD = dict.fromkeys(
    ("title", "answers", "encoder", "train", "patients", "loader", "name", "alone", "test",
     "test_patients", "measured", "training", "simulated"), "",
)  # fmt: skip


def made(task: str = "classes", encoder: EchoFM | None = None, **changes) -> EchoFMHead:
    """A head whose every parameter says something."""
    outputs = ("%",) if task == "number" else NAMES
    config = HeadConfig(task=task, target="x", outputs=outputs, **{"hidden": 8} | changes)
    model = EchoFMHead(encoder or discs.tiny(), config).eval()
    torch.manual_seed(1)
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter)
    model.head.mean.normal_()
    model.head.scale.uniform_(0.5, 2)
    model.head.offset.fill_(55.0)
    model.head.unit.fill_(8.0)
    return model


def windows(count: int, size: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, 4, size, size, generator=torch.Generator().manual_seed(2))


def write(folder, model: EchoFMHead):
    """What `finetune_run` writes of it."""
    c = vars(model.encoder.config) | {}
    described = {
        "head": vars(model.config),
        "preprocessing": {"window_seconds": c.pop("window_seconds")},
        "architecture": c,
    }
    head_folder.write_head(folder, model, described, CODE, CARD)
    return folder


# ---- maps --------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_map_is_mean_and_spread_over_time_of_every_place():
    model = made()
    clips = windows(3)
    tokens = model.encoder.encode_tokens(clips).numpy().reshape(3, 2, 4, 16)
    mean, spread = tokens.mean(1), np.sqrt(tokens.var(1) + 1e-8)  # [3, 4, 16]
    expected = np.concatenate([mean, np.sqrt(spread)], -1)
    np.testing.assert_allclose(model.maps(clips), expected, rtol=1e-4, atol=1e-6)
    of_recordings = model.maps(clips, torch.tensor([1, 0, 1]))
    root = np.sqrt(spread[[0, 2]].mean(0))
    both = np.stack([expected[1], np.concatenate([mean[[0, 2]].mean(0), root], -1)])
    np.testing.assert_allclose(of_recordings, both, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model(clips), model.head(model.maps(clips)))


@torch.no_grad()
def test_more_places_than_the_grid_are_averaged():
    model = made(encoder=discs.tiny(size=128))
    clips = windows(2, 128)
    tokens = model.encoder.encode_tokens(clips).numpy().reshape(2, 2, 8, 8, 16)
    spans = [(i * 8 // 7, -(-(i + 1) * 8 // 7)) for i in range(7)]
    pooled = np.stack(
        [tokens[:, :, a:b, c:d].mean((2, 3)) for a, b in spans for c, d in spans], 2
    )  # [B, t, 49, D]
    expected = np.concatenate([pooled.mean(1), np.sqrt(np.sqrt(pooled.var(1) + 1e-8))], -1)
    assert expected.shape == (2, 49, 32) == tuple(model.maps(clips).shape)
    np.testing.assert_allclose(model.maps(clips), expected, rtol=1e-4, atol=1e-6)


# ---- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classes", "grades", "number"])
@pytest.mark.parametrize("kind", ["linear", "mlp", "attentive"])
def test_untrained_it_answers_the_mean_whatever_it_reads(task, kind):
    outputs = ("%",) if task == "number" else NAMES
    config = HeadConfig(task=task, target="x", outputs=outputs, kind=kind, hidden=8)
    head = ClipHead(config, 4, 32).eval()
    y = head(torch.randn(5, 4, 32))
    assert y.shape == (5, 4 if task == "classes" else 1) and not y.any()
    moved = made(task, kind=kind).head(torch.randn(5, 4, 32))
    assert (moved != moved[0]).any()


def test_what_is_read_is_standardised():
    head = made().head
    x = torch.randn(3, 4, 32)
    flat = ((x - head.mean) / head.scale).flatten(1)
    torch.testing.assert_close(head(x), flat @ head.out.weight.T + head.out.bias)


@pytest.mark.parametrize("wrong", [{"task": "colours"}, {"kind": "quadratic"}])
def test_a_head_that_is_none(wrong):
    with pytest.raises(ValueError, match="is not known"):
        ClipHead(HeadConfig(**{"task": "classes", "target": "x", "outputs": NAMES} | wrong), 4, 32)


@torch.no_grad()
def test_examinations_are_not_mixed():
    head = made("number", study=True).head
    maps = torch.randn(5, 4, 32)
    studies = torch.tensor([0, 1, 0, 2, 1])
    found = head(maps, studies)
    x = (maps - head.mean) / head.scale
    each, weight = head.read(x), head.weigh(torch.tanh(head.look(x.mean(1))))
    for study in range(3):
        own = studies == study
        share = weight[own].exp() / weight[own].exp().sum()
        torch.testing.assert_close(found[study], (share * each[own]).sum(0))
    maps[studies == 1] = 9.0
    assert torch.equal(head(maps, studies)[[0, 2]], found[[0, 2]])


@torch.no_grad()
def test_probabilities_of_grades():
    head = made("grades").head
    head.thresholds.copy_(torch.tensor([1.5, -1.0, 0.25]))  # as they may come out of training
    y = torch.linspace(-6, 6, 9)[:, None]
    p = head.answers(y)
    assert p.shape == (9, 4) and (p >= 0).all()
    torch.testing.assert_close(p.sum(1), torch.ones(9))
    above = torch.sigmoid(y - torch.tensor([-1.0, 0.25, 1.5]))  # of mild, moderate, severe
    torch.testing.assert_close(p.flip(1).cumsum(1).flip(1)[:, 1:], above)
    assert p[0].argmax() == 0 and p[-1].argmax() == 3
    assert (p @ torch.arange(4.0)).diff().min() > 0


def test_a_number_is_in_its_unit_and_classes_sum_to_one():
    assert made("number").head.answers(torch.tensor([[1.5]])).tolist() == [[55 + 1.5 * 8]]
    p = made().head.answers(torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    torch.testing.assert_close(p[0, 1] / p[0, 0], torch.tensor(1.0).exp())


@torch.no_grad()
def test_adapters_add_nothing_at_first():
    encoder, clips = discs.tiny(), windows(2)
    before = encoder.encode_tokens(clips)
    model = EchoFMHead(encoder, HeadConfig(task="classes", target="x", outputs=NAMES, adapter=3))
    assert all(isinstance(block.mlp, Adapter) for block in model.encoder.blocks)
    assert torch.equal(model.encoder.encode_tokens(clips), before)
    torch.nn.init.normal_(model.encoder.blocks[0].mlp.up.weight)
    assert not torch.equal(model.encoder.encode_tokens(clips), before)


# ---- the folder --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{}, {"task": "grades", "kind": "mlp", "adapter": 3},
     {"task": "number", "kind": "attentive", "study": True},
     {"task": "number", "kind": "temporal", "hidden": 8, "prompts": 2}],
)  # fmt: skip
@torch.no_grad()
def test_what_is_written_is_read(tmp_path, changes):
    model = made(**changes)
    back = EchoFMHead.from_pretrained(write(tmp_path / "head", model))
    assert back.config == model.config and back.encoder.config == model.encoder.config
    assert not back.training
    state, found = model.state_dict(), back.state_dict()
    assert state.keys() == found.keys() and all(torch.equal(found[k], state[k]) for k in state)
    assert torch.equal(back(windows(2)), model(windows(2)))


def edited(folder, edit) -> None:
    path = folder / "config.json"
    described = json.loads(path.read_text())
    edit(described)
    path.write_text(json.dumps(described))


def flip(folder) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def cut(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


WRONG = {
    "newer": (lambda f: edited(f, lambda d: d.update(head_format=FORMAT + 1)),
              "config.json: of a newer echofm_jax than this one; install that"),
    "version": (lambda f: edited(f, lambda d: d.update(head_format="first")), "not that of a head"),
    "text": (lambda f: (f / "config.json").write_text("{"), "not that of a head"),
    "flipped": (flip, "model.safetensors: truncated, damaged or changed"),
    "cut": (cut, "model.safetensors: truncated, damaged or changed"),
    "undigested": (lambda f: edited(f, lambda d: d.pop("sha256")), "no SHA-256 of its weights"),
    "field": (lambda f: edited(f, lambda d: d["head"].update(mood="x")), "mood"),
    "task": (lambda f: edited(f, lambda d: d["head"].update(task="x")), "task 'x' of kind"),
    "shape": (lambda f: edited(f, lambda d: d["head"].update(outputs=["a"])), "head.out.weight"),
    "sizes": (lambda f: edited(f, lambda d: d["architecture"].update(heads=5)), "do not divide"),
    "half": (lambda f: edited(f, lambda d: d.pop("architecture")), "'architecture'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_folder_is_told(tmp_path, name):
    spoil, told = WRONG[name]
    folder = write(tmp_path / "head", made())
    spoil(folder)
    with pytest.raises(ValueError) as raised:
        EchoFMHead.from_pretrained(folder)
    message = str(raised.value)
    assert told in message and str(folder) in message and "\n" not in message


def test_folders_that_are_no_heads(tmp_path):
    with pytest.raises(ValueError, match="is it an encoder's"):
        EchoFMHead.from_pretrained(discs.write_encoder(tmp_path / "encoder"))
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        EchoFMHead.from_pretrained(tmp_path)


def test_the_folder_stands_alone(tmp_path):
    """Copied away from echofm_jax, it answers for windows."""
    model = made("number")
    shutil.copytree(write(tmp_path / "made", model), tmp_path / "away" / "head")
    code = (
        "import sys\n"
        "sys.modules['echofm_jax'] = sys.modules['data_pipelines'] = None\n"
        "import torch\n"
        "from head.head_echofm import EchoFMHead\n"
        "model = EchoFMHead.from_pretrained('head')\n"
        "clips = torch.linspace(0, 1, 3 * 4 * 32 * 32).view(1, 3, 4, 32, 32)\n"
        "print(model.head.answers(model(clips)).item())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "away", capture_output=True, text=True,
        env={"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    clips = torch.linspace(0, 1, 3 * 4 * 32 * 32).view(1, 3, 4, 32, 32)
    expected = model.head.answers(model(clips)).item()
    assert float(result.stdout) == pytest.approx(expected, rel=1e-4)


# ---- files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A long array, a video, a DICOM file, and something else."""
    folder = tmp_path_factory.mktemp("files")
    np.save(folder / "long.npy", discs.disc(0.7, 0, count=40))
    mini.write_avi(folder / "fan.avi", mini.video([18.0, 15.0, 12.0, 15.0, 18.0], 1))
    write_dicom(folder / "fan.dcm", mini.video([12.0, 16.0, 12.0, 16.0], 2), ExplicitVRLittleEndian)
    (folder / "letter.txt").write_text("Dear colleague")
    return [folder / name for name in ("long.npy", "letter.txt", "fan.avi", "fan.dcm")]


@torch.no_grad()
def test_files_of_any_format_are_answered_for(files):
    model = made()
    found = model.predict(files, precropped=True)
    assert found[1].keys() == {"refused"} and "not_video" in found[1]["refused"]
    for answer in (found[0], found[2], found[3]):
        p = answer["probabilities"]
        assert tuple(p) == NAMES and sum(p.values()) == pytest.approx(1)
        assert answer["answer"] == max(p, key=p.get)
    frames = torch.from_numpy(np.load(files[0])).view(10, 4, 32, 32)  # side by side
    whole = model.maps(model.encoder.preprocess(frames), torch.zeros(10, dtype=torch.long))
    expected = model.head.answers(model.head(whole))[0]
    np.testing.assert_allclose(list(found[0]["probabilities"].values()), expected, atol=1e-5)


@torch.no_grad()
def test_an_examination_has_one_answer(files):
    model = made("number", study=True)
    found = model.predict([files[0], files[1], files[2]], precropped=True)
    assert found[0] == found[2] and found[0]["unit"] == "%" and "refused" in found[1]
    alone = model.predict([files[0]], precropped=True)[0]["answer"]
    assert found[0]["answer"] != alone
    each = made("number").predict([files[0], files[2]], precropped=True)
    assert each[0]["answer"] != each[1]["answer"]


def test_nothing_that_can_be_used(files, tmp_path):
    found = made().predict([files[1], tmp_path / "none.avi"])
    assert all(answer.keys() == {"refused"} for answer in found)


def test_without_a_frame_rate(files):
    model = made(encoder=discs.tiny(window_seconds=0.2))
    assert "no_frame_rate" in model.predict(files[:1], precropped=True)[0]["refused"]
    assert "answer" in model.predict(files[:1], precropped=True, fps=20)[0]
