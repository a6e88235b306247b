"""An interactive segmenter and its session: prompts in any order, what is refused, one encoding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from two_discs import TINY, Discs

from echofm_jax.pytorch import EchoFM, EchoFMInteractive
from echofm_jax.pytorch.interactive_head import InteractiveConfig
from echofm_jax.pytorch.prompt_encoder import NONE, Prompts

CONFIG = InteractiveConfig(structures=("LV", "LA"))


@pytest.fixture
def model() -> EchoFMInteractive:
    torch.manual_seed(0)
    return EchoFMInteractive(EchoFM(TINY), CONFIG).eval()


def seen(model: EchoFMInteractive, count: int = 2):
    clips = torch.rand(count, 3, 4, 32, 32)
    return model.look(clips, torch.arange(count) % 4)


def test_the_frame_at_the_position_is_looked_at(model):
    clips, positions = torch.rand(2, 3, 4, 32, 32), torch.tensor([3, 0])
    found = model.look(clips, positions)
    torch.testing.assert_close(found.frames, torch.stack([clips[0, :, 3], clips[1, :, 0]]))
    levels = model.encoder.levels(clips, model.blocks)
    for level, whole in zip(found.levels, levels, strict=True):
        torch.testing.assert_close(level[0], whole[0, 4:])  # the second of two time steps
        torch.testing.assert_close(level[1], whole[1, :4])
    again = found.rows(torch.tensor([1, 1]))
    torch.testing.assert_close(again.frames[0], clips[1, :, 0])


def test_the_order_of_prompts_does_not_matter_and_what_is_not_there_says_nothing(model):
    points = torch.tensor([[[3.0, 4.0], [20.0, 9.0], [11.0, 30.0]]]).expand(2, -1, -1)
    kinds = torch.tensor([[1, 0, 1], [0, 1, 1]])
    prompts = Prompts.none(2, 32)._replace(points=points, kinds=kinds)
    prompts.boxes[0] = torch.tensor([2.0, 3.0, 20.0, 21.0])
    order = [2, 0, 1]
    turned = prompts._replace(points=points[:, order], kinds=kinds[:, order])
    more = prompts.clicked(torch.tensor([[9.0, 9.0], [1.0, 2.0]]), torch.tensor([NONE, NONE]))
    frames = seen(model)
    with torch.no_grad():
        logits, quality = model(frames, prompts)
        for other in (turned, more):
            same, also = model(frames, other)
            torch.testing.assert_close(same, logits, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(also, quality)
        assert logits.shape == (2, 32, 32) and quality.shape == (2,)
        assert (quality > 0).all() and (quality < 1).all()


CHANGES = {
    "place": lambda p: p._replace(points=p.points + 6),
    "kind": lambda p: p._replace(kinds=1 - p.kinds),
    "box": lambda p: p._replace(boxes=torch.tensor([[2.0, 3.0, 20.0, 21.0]]).repeat(2, 1)),
    "mask": lambda p: p._replace(masks=p.masks + 0.5),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_prompt_is_heard_by_mask_and_quality(model, name):
    prompts = Prompts.none(2, 32).clicked(torch.full((2, 2), 9.0), torch.tensor([1, 0]))
    frames = seen(model)
    with torch.no_grad():
        before, after = model(frames, prompts), model(frames, CHANGES[name](prompts))
    for one, other in zip(before, after, strict=True):
        assert (one - other).abs().max() > 1e-4


def test_a_session_adds_prompts_up_and_encodes_once(model):
    calls = []
    model.encoder.patch_embed.register_forward_hook(lambda *_: calls.append(0))
    clip = Discs(0)(32, False).frames[:4]
    session = model.session(clip, 2)
    np.testing.assert_array_equal(session.frame, clip[2])
    mask, quality = session.click(8, 12)
    assert mask.shape == (32, 32) and mask.dtype == bool and 0 < quality < 1
    first = session.prompts.masks
    assert first.abs().max() > 0  # the answer is shown to the next
    session.click(20, 12, positive=False)
    assert session.prompts.kinds.tolist() == [[1, 0]]
    assert session.prompts.points.tolist() == [[[8, 12], [20, 12]]]
    session.box(1, 2, 14, 20)
    assert session.prompts.boxes.tolist() == [[1, 2, 14, 20]]
    session.restart()
    assert session.click(8, 12).quality == quality
    torch.testing.assert_close(session.prompts.masks, first)
    session.restart()
    session.mask(mask)
    assert calls == [0]
    with torch.no_grad():
        shown = torch.from_numpy(np.where(mask, 1, -1).astype(np.float32))[None]
        look = model.look(model.encoder.preprocess(clip), torch.tensor([2]))
        logits, _ = model(look, Prompts.none(1, 32)._replace(masks=shown))
    torch.testing.assert_close(session.prompts.masks, (logits / 2).tanh())


REFUSED = {
    "click": (lambda s: s.click(32, 4), r"x = 32, y = 4: outside the image of 32 x 32 pixels"),
    "corner": (lambda s: s.box(0, 0, 4, 40), r"x = 4, y = 40: outside the image"),
    "sides": (lambda s: s.box(9, 0, 4, 4), r"box 9, 0, 4, 4: give left, top, right, bottom"),
    "mask": (lambda s: s.mask(np.ones((8, 8))), r"mask: shape \(8, 8\); give \[32, 32\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_prompts_that_cannot_be(model, name):
    call, told = REFUSED[name]
    session = model.session(Discs(0)(32, False).frames[:4], 0)
    with pytest.raises(ValueError, match=told):
        call(session)
    assert session.prompts.kinds.shape == (1, 0) and session.prompts.boxes.isnan().all()


def test_a_frame_of_a_file(model, tmp_path: Path):
    frames = Discs(0)(32, False).frames
    np.save(tmp_path / "clip.npy", frames)
    session = model.open(tmp_path / "clip.npy", 5, precropped=True)
    np.testing.assert_array_equal(session.frame, frames[5])
    with pytest.raises(ValueError, match=r"clip.npy: it has no frame 6; give one of 0 to 5"):
        model.open(tmp_path / "clip.npy", 6, precropped=True)
    (tmp_path / "bad.npy").write_text("no clip")
    with pytest.raises(ValueError, match=r"bad.npy: unreadable"):
        model.open(tmp_path / "bad.npy", 0)
    with pytest.raises(ValueError, match="frame 4: the clip has frames 0 to 3"):
        model.session(frames[:4], 4)
