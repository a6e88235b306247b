"""Steps of recordings in their order: padded, told apart in time, learned from order alone."""

import math

import discs
import numpy as np
import pytest
import torch

from data_pipelines.labelled import LabelledClip, Pixels
from echofm_jax.pytorch import EchoFMHead, clip_training
from echofm_jax.pytorch.clip_training import part, raw, train_clips
from echofm_jax.pytorch.head_echofm import HeadConfig
from echofm_jax.pytorch.linear_head import FLAT, standardise
from echofm_jax.pytorch.maps import recording_maps
from echofm_jax.pytorch.recipe import Recipe
from echofm_jax.pytorch.temporal_decoder import (
    STEPS,
    TemporalDecoder,
    end_to_end,
    most_steps,
    present,
)


def decoder(every: float = 0.1) -> TemporalDecoder:
    torch.manual_seed(0)
    return TemporalDecoder(6, 16, every, 0.0).eval()


def made(**changes) -> EchoFMHead:
    given = {"task": "number", "target": "size", "outputs": ("%",), "kind": "temporal"}
    torch.manual_seed(1)
    model = EchoFMHead(discs.tiny(), HeadConfig(hidden=16, **given | changes)).eval()
    torch.nn.init.normal_(model.head.out.weight)
    return model


@torch.no_grad()
def test_absent_steps_change_nothing_and_order_does():
    x = torch.randn(2, 5, 6)
    there = torch.ones(2, 5, dtype=torch.bool)
    found = decoder()(x, there)
    longer = torch.cat([x, 100 * torch.ones(2, 3, 6)], 1)
    more = torch.cat([there, torch.zeros(2, 3, dtype=torch.bool)], 1)
    torch.testing.assert_close(decoder()(longer, more), found)
    assert not torch.allclose(decoder()(x.flip(1), there), found, atol=1e-3)
    assert not torch.allclose(decoder(0.2)(x, there), found, atol=1e-3)


def test_waves_tell_seconds():
    """Steps twice as far apart tell the same moments as every other one."""
    close, far = decoder(0.1).waves(9, 16, None), decoder(0.2).waves(5, 16, None)
    torch.testing.assert_close(close[::2], far)
    assert close.shape == (9, 16)
    distances = (close[:, None] - close[None]).square().sum(-1) + torch.eye(9)
    assert distances.min() > 1e-3  # no two moments look alike
    slowest = close[:, 0]
    torch.testing.assert_close(slowest, (2 * math.pi * 0.1 * torch.arange(9) / 8).sin())


def test_windows_are_laid_end_to_end():
    assert most_steps(2) == STEPS and most_steps(24) == 48 and most_steps(100) == 100
    windows = torch.arange(1, 4 * 24 + 1).view(4, 24, 1).float()
    found = end_to_end(windows, torch.tensor([0, 1, 1, 1]))
    assert found.shape == (2, 48, 1)
    assert found[0, :24].equal(windows[0]) and not found[0, 24:].any()
    assert found[1].equal(windows[1:3].flatten(0, 1))  # of three the first two: the middle
    assert present(found).sum(1).tolist() == [24, 48]
    assert end_to_end(windows, None) is windows
    windows.requires_grad_(True)
    end_to_end(windows, torch.tensor([0, 1, 2, 3])).sum().backward()
    assert windows.grad.eq(1).all()


@torch.no_grad()
def test_a_step_is_its_embedding_and_its_tokens_mean():
    model = made()
    clips = torch.rand(3, 3, 4, 32, 32)
    found = model.window_maps(clips)
    features = model.encoder.encode(clips)
    assert found.shape == (3, 2, 80) and model.map_shape == (STEPS, 80)
    torch.testing.assert_close(found[..., :16], features.frames)
    torch.testing.assert_close(found[:, 1, 16:], features.tokens[:, 4:].flatten(1))
    large = EchoFMHead(discs.tiny(size=96), model.config)  # 6 x 6 tokens, in 3 x 3 places
    wide = torch.rand(1, 3, 4, 96, 96)
    tokens = large.encoder.encode_tokens(wide)[0, :36].view(6, 6, 16)
    found = large.window_maps(wide)[0, 0, 16:].view(3, 3, 16)
    torch.testing.assert_close(found[1, 2], tokens[2:4, 4:].mean((0, 1)))
    whole = model(clips, torch.tensor([0, 1, 1]))
    assert whole.shape == (2, 1)
    torch.testing.assert_close(model(clips[:1]), whole[:1])
    assert model.head.decoder.every == pytest.approx(2 / 30)  # its window is in frames
    timed = EchoFMHead(discs.tiny(window_seconds=1.0), model.config)
    assert timed.head.decoder.every == 0.5


@torch.no_grad()
def test_examinations_are_answered_for_by_what_is_there():
    model = made(study=True)
    torch.nn.init.normal_(model.head.look.weight)
    torch.nn.init.normal_(model.head.weigh.weight)
    model.head.mean += 1  # what is absent must not look like something below it
    maps = end_to_end(torch.randn(3, 2, 80), torch.tensor([0, 1, 2]))
    found = model.head(maps, torch.tensor([0, 0, 1]))
    assert found.shape == (2, 1)
    torch.testing.assert_close(model.head(maps[:, :2], torch.tensor([0, 0, 1])), found)


@torch.no_grad()
def test_answers_do_not_depend_on_how_many_are_asked_at_once(monkeypatch):
    model = made(study=True)
    torch.nn.init.normal_(model.head.look.weight)
    torch.nn.init.normal_(model.head.weigh.weight)
    maps = end_to_end(torch.randn(7, 2, 80), torch.arange(7)).half()
    for studies in (None, torch.tensor([0, 0, 1, 2, 2, 3, 4])):
        monkeypatch.setattr(clip_training, "TOGETHER", 256)
        whole = raw(model, maps, studies)
        assert len(whole) == (7 if studies is None else 5)
        monkeypatch.setattr(clip_training, "TOGETHER", 2)
        torch.testing.assert_close(raw(model, maps, studies), whole)


def test_mean_and_spread_leave_absent_steps_out():
    model = made()
    steps = 5 + 3 * torch.randn(40, 2, 80)
    standardise(model.head, end_to_end(steps, torch.arange(40)))
    torch.testing.assert_close(model.head.mean[0], steps.flatten(0, 1).mean(0))
    spread = steps.flatten(0, 1).std(0, unbiased=False)
    expected = (spread.square() + (FLAT**2) * spread.square().mean()).sqrt()
    torch.testing.assert_close(model.head.scale[0], expected, rtol=1e-4, atol=0)
    half = made()
    standardise(half.head, end_to_end(steps, torch.arange(40)).half())  # as they are kept
    torch.testing.assert_close(half.head.mean, model.head.mean, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.head.scale.mean(), torch.tensor(3.0), atol=0.2, rtol=0)


def test_what_only_order_tells_is_learned(tmp_path):
    """The same steps, rising or falling: nothing but their order is different."""
    rng = np.random.default_rng(0)

    def some(count: int, first: int):
        rises = np.arange(count) % 2
        ramp = np.linspace(-1, 1, 8)[None, :, None] * np.where(rises, 1, -1)[:, None, None]
        noise = 0.3 * rng.standard_normal((count, 8, 80))
        maps = torch.from_numpy((ramp + noise).astype(np.float32))
        clips = [
            LabelledClip(name=f"{i}", patient=f"p{i}", targets={}, read=None)
            for i in range(first, first + count)
        ]
        return part(clips, 40.0 + 20 * rises, maps, False), rises

    model = made(dropout=0.0)
    recipe = Recipe(head="temporal", hidden=16, epochs=12, lr=5e-3, dropout=0.0, patience=0)
    train, val = some(32, 0)[0], some(16, 100)[0]
    train_clips(model, train, val, recipe, seed=0, colour=False,
                state_file=tmp_path / "state.pt", key="k")  # fmt: skip
    test, rises = some(20, 200)
    with torch.no_grad():
        told = model.head.answers(model.head(test.maps))[:, 0].numpy()
    assert np.abs(told - (40 + 20 * rises)).mean() < 4


def test_a_tuned_encoder_is_shown_as_many_windows_as_it_is_asked_about(tmp_path):
    """Else later moments would be new to the decoder when it answers."""
    frames = np.random.default_rng(0).integers(0, 255, (8, 14, 32, 32), np.uint8)

    def read(number: int):
        sector, spacing = np.ones((32, 32), bool), np.full(2, np.nan, np.float32)
        return lambda *_: Pixels(
            frames=frames[number], sector=sector, fps=20.0, spacing=spacing, masks={}
        )

    clips = [LabelledClip(name=f"{i}", patient=f"p{i}", targets={}, read=read(i)) for i in range(8)]
    model = made(dropout=0.0, prompts=2)
    maps = recording_maps(model, clips, batch=4, colour=False)
    assert maps.dtype == torch.float16
    own = part(clips, np.arange(8.0), maps, False)
    steps = []
    model.head.decoder.register_forward_pre_hook(
        lambda decoder, given: steps.append((decoder.training, given[1].sum(1).tolist()))
    )
    recipe = Recipe(mode="prompt", head="temporal", hidden=16, epochs=1, dropout=0.1, batch=4)
    train_clips(model, own, own, recipe, seed=0, colour=False,
                state_file=tmp_path / "state.pt", key="k")  # fmt: skip
    assert {tuple(there) for training, there in steps if training} == {(6,) * 4}  # 3 windows of 2
    assert {n for training, there in steps if not training for n in there} == {6}
