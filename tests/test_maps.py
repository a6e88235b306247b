"""Maps of clips by a frozen encoder: each once, whatever the batch, and kept for the next run."""

import dataclasses
import json

import discs
import numpy as np
import pytest
import torch

from data_pipelines.labelled_sources import labelled_set
from echofm_jax.errors import InputError
from echofm_jax.pytorch import EchoFMHead, maps
from echofm_jax.pytorch.head_echofm import HeadConfig


@pytest.fixture
def clips(tmp_path):
    folder = discs.write_clips(tmp_path / "clips", patients=3, size=lambda i: i)
    for number in (0, 3):  # of two windows and a half, and of less than one
        path = folder / f"anna{number // 2}" / f"berta-{number}.npy"
        np.save(path, discs.disc(0.5, number, count=(10, 0, 0, 3)[number]))
    return labelled_set(folder, labels=folder / "labels.csv", precropped=True).clips


def made(**changes) -> EchoFMHead:
    config = HeadConfig(task="number", target="size", outputs=("%",))
    return EchoFMHead(discs.tiny(**changes), config).eval()


def found(model, clips, **changes):
    return maps.recording_maps(model, clips, **{"batch": 2, "colour": False} | changes)


@torch.no_grad()
def test_a_map_is_the_mean_over_windows_side_by_side(clips):
    model = made()
    own = found(model, clips)
    assert own.shape == (6, 4, 32) and own.dtype == torch.float32
    frames = clips[0].read(32, False).frames
    windows = model.encoder.preprocess(frames[1:9].reshape(2, 4, 32, 32))  # in the middle
    whole = model.maps(windows, torch.zeros(2, dtype=torch.long))[0]  # see test_head_echofm
    torch.testing.assert_close(own[0], whole)
    assert not torch.allclose(own[0], model.maps(windows)[0])
    short = clips[3].read(32, False).frames[[0, 1, 2, 0]]  # starts anew
    torch.testing.assert_close(own[3], model.maps(model.encoder.preprocess(short[None]))[0])
    torch.testing.assert_close(found(model, clips, batch=1), own)


@dataclasses.dataclass(frozen=True)
class Counting:
    """Reads a clip, and tells that it did."""

    clip: object
    asked: list = dataclasses.field(default_factory=list, repr=False)

    def __call__(self, size, colour):
        self.asked.append(size)
        return self.clip.read(size, colour)


def test_each_clip_is_encoded_once(clips, tmp_path, monkeypatch):
    monkeypatch.setattr(maps, "KEEP", 2)
    counting = [dataclasses.replace(clip, read=Counting(clip)) for clip in clips]

    def asked() -> list[int]:
        return [len(clip.read.asked) for clip in counting]

    kept = {"folder": tmp_path / "kept", "weights": "a"}
    first = found(made(), counting, **kept)
    assert asked() == [1] * 6
    assert torch.equal(found(made(), counting, **kept), first) and asked() == [1] * 6
    (note,) = (tmp_path / "kept").glob("*.json")
    note.write_text(json.dumps({"done": 4}))  # as after a kill
    assert torch.equal(found(made(), counting, **kept), first)
    assert asked() == [1, 1, 1, 1, 2, 2]
    for other in (
        lambda: found(made(), counting, **kept | {"weights": "b"}),
        lambda: found(made(), counting, **kept, colour=True),
        lambda: found(made(frames=2), counting, **kept),
        lambda: found(made(), counting[::-1], **kept),
    ):
        before = asked()
        assert other().shape[0] == 6
        assert [b - a for a, b in zip(before, asked(), strict=True)] == [1] * 6
    assert torch.equal(found(made(), counting[::-1], **kept), first.flip(0))
    config = HeadConfig(task="number", target="size", outputs=("%",), kind="temporal", hidden=4)
    steps = found(EchoFMHead(discs.tiny(), config).eval(), counting, **kept)
    assert steps.shape == (6, 64, 80)  # other maps of the same clips by the same weights


def test_what_the_encoder_learned_is_seen(clips):
    model = made()
    before = found(model, clips)
    with torch.no_grad():
        model.encoder.norm.bias += 1
    torch.testing.assert_close(found(model, clips, quiet=True)[..., :16], before[..., :16] + 1)


def test_clips_of_unknown_rate_are_all_named(clips, tmp_path):
    def without(clip):
        return dataclasses.replace(
            clip, read=lambda *a: dataclasses.replace(clip.read(*a), fps=0.0)
        )

    mixed = [without(clip) if i in (1, 4) else clip for i, clip in enumerate(clips)]
    told = r"2 clips tell no frame rate, .* 0\.2 s: give --fps.*\(anna0/berta-1.*anna2/berta-4"
    with pytest.raises(InputError, match=told):
        found(made(window_seconds=0.2), mixed, folder=tmp_path / "kept")
    assert found(made(), mixed).shape == (6, 4, 32)  # consecutive frames need none


def test_out_of_memory(clips, monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", exhausted)
    with pytest.raises(InputError, match=r"cpu is out of memory: halve --config\.batch"):
        found(made(), clips)


def test_a_place_that_cannot_be_written(clips, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match=r"kept: cannot be written"):
        found(made(), clips, folder=tmp_path / "kept")
