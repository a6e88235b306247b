"""Segmentation: windows that hold the labelled frame, a decoder that learns, the classes."""

import dataclasses

import numpy as np
import pytest
import torch

from data_pipelines.labelled import Pixels
from data_pipelines.records import LANDMARKS
from echofm_jax.errors import InputError
from echofm_jax.pytorch import (
    EchoApex,
    EchoApexConfig,
    EchoFM,
    EchoFMConfig,
    EchoFMHypertrophy,
    EchoFMInteractive,
    hypertrophy,
    hypertrophy_samples,
    interactive,
    segmentation,
    segmentation_windows,
)
from echofm_jax.pytorch.hypertrophy_head import HypertrophyConfig
from echofm_jax.pytorch.interactive_head import InteractiveConfig
from echofm_jax.pytorch.segmentation_head import (
    EchoFMSegmenter,
    SegmentationConfig,
    SegmentationDecoder,
    spread,
)
from echofm_jax.pytorch.segmentation_samples import Sample, sample

TINY = EchoFMConfig(
    frames=8, size=32, tubelet=2, patch=16, width=24, depth=3, heads=3,
    decoder_width=16, decoder_depth=1, decoder_heads=2, pred_frames=4, window_seconds=1.0,
)  # fmt: skip
TWO = SegmentationConfig(structures=("background", "LV"), channels=8)
RATES = (0.0, 5.0, 7.3, 8.0, 30.0, 100.0)


def numbered(total: int, fps: float = 8.0) -> Pixels:
    """A recording whose pixels are the numbers of their frames; the last but one is labelled."""
    frames = np.broadcast_to(np.arange(total, dtype=np.uint8)[:, None, None], (total, 32, 32))
    labels = np.zeros((32, 32), np.uint8)
    labels[8:16, 4:20] = 1
    return Pixels(
        frames=np.ascontiguousarray(frames),
        sector=np.ones((32, 32), bool),
        fps=fps,
        spacing=np.full(2, np.nan, np.float32),
        masks={max(total - 2, 0): labels},
    )


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("total", [1, 3, 8, 9, 47])
def test_a_window_holds_the_labelled_frame_wherever_it_is_put(total: int, fps: float):
    """As evenly as in training, and within the recording wherever that can be."""
    stride = fps / 8 if fps else 1.0
    for frame in range(total):
        fit = [k for k in range(8) if frame - stride * k >= -0.5]
        fit = [k for k in fit if frame + stride * (7 - k) < total - 0.5]
        allowed = segmentation_windows.positions(TINY, total, frame, fps)
        assert list(allowed) == (fit or list(range(8)))
        for position in allowed:
            frames = segmentation_windows.window(TINY, total, frame, fps, position)
            assert frames[position] == frame
            if fit:
                expected = frame + stride * (np.arange(8) - position)
                assert np.abs(frames - expected).max() <= 0.5 + 1e-9
            assert frames.min() >= 0
            assert frames.max() < total
        centre = segmentation_windows.centre(TINY, total, frame, fps)
        assert abs(centre - 4) == min(abs(k - 4) for k in allowed)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("total", [1, 8, 20, 47])
def test_windows_side_by_side_hold_every_frame_once(total: int, fps: float):
    found = []
    for frames, places in segmentation_windows.side_by_side(TINY, total, fps):
        assert len(frames) == TINY.frames
        found += frames[places].tolist()
    assert sorted(found) == list(range(total))


def test_a_sample_is_the_labelled_frame_in_its_window():
    """In the middle to be measured, anywhere to be trained on; its position is told."""
    frames = np.full((20, 32, 32), 50, np.uint8)
    frames[10] = 200
    pixels = dataclasses.replace(numbered(20), frames=frames, masks={10: np.eye(32, dtype="u1")})
    evaluated = sample(pixels, 10, TINY, None)
    assert evaluated.position == 4
    assert (evaluated.clip[4] == 200).all()
    np.testing.assert_array_equal(evaluated.labels, np.eye(32))
    rng = np.random.default_rng(0)
    trained = [sample(pixels, 10, TINY, rng) for _ in range(60)]
    assert {s.position for s in trained} == set(range(8))
    assert all(s.clip.max(axis=(1, 2)).argmax() == s.position for s in trained)


def test_augmentation_moves_frames_and_labels_together_and_never_mirrors_them():
    """The label is drawn into the frames: after every change it lies where they are bright."""
    labels = np.zeros((64, 64), np.uint8)
    labels[12:30, 14:30], labels[34:44, 36:52] = 1, 2
    level = np.array([0, 120, 220], np.uint8)
    sector = np.zeros((64, 64), bool)
    sector[4:60, 4:60] = True
    pixels = Pixels(
        frames=np.repeat(level[labels][None], 8, 0), sector=sector, fps=8.0,
        spacing=np.ones(2, np.float32), masks={k: labels for k in range(8)},
    )  # fmt: skip
    rng = np.random.default_rng(0)
    places = set()
    for _ in range(20):
        s = sample(pixels, 4, TINY, rng)
        frame = s.clip[s.position].astype(int)
        brightest = frame.max()
        found = np.digitize(frame, [0.25 * brightest, 0.75 * brightest])
        assert (found == s.labels).mean() > 0.93
        one, two = (np.argwhere(s.labels == k) for k in (1, 2))
        assert (one.mean(0) < two.mean(0)).all()  # it stays above and to the left
        places.add(tuple(one.mean(0).round()))
        assert 0.7 < len(one) / (18 * 16) < 1.35
    assert len(places) > 5


def test_levels_are_those_of_the_blocks_one_after_another():
    torch.manual_seed(0)
    model = EchoFM(TINY).eval()
    torch.nn.init.normal_(model.norm.weight)
    clips = torch.rand(2, 3, 8, 32, 32)
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    last, first = model.levels(clips, (2, 0))
    torch.testing.assert_close(first, model.norm(seen[0])[:, 1:])
    torch.testing.assert_close(last, model.encode_tokens(clips))
    assert first.shape == (2, 4 * 4, 24)
    seen.clear()
    model.levels(clips, (1,))
    assert len(seen) == 2  # the third is not run
    model.gradient_checkpointing = True
    again = model.levels(clips, (2, 0))
    torch.testing.assert_close(again[0], last)
    again[1].square().sum().backward()
    assert model.blocks[0].mlp.fc1.weight.grad.abs().sum() > 0
    assert model.blocks[1].mlp.fc1.weight.grad is None


def test_levels_compile_without_a_break():
    torch.manual_seed(0)
    model = EchoFM(TINY).eval()
    clips = torch.rand(1, 3, 8, 32, 32)
    compiled = torch.compile(lambda x: model.levels(x, (0, 2)), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(clips), model.levels(clips, (0, 2)))


def test_levels_are_spread_evenly_to_the_last_block():
    assert spread(24) == (5, 11, 17, 23)
    assert spread(12) == (2, 5, 8, 11)
    assert spread(4) == (0, 1, 2, 3)
    assert spread(2) == (0, 1)


@pytest.mark.parametrize(("patch", "size"), [(16, 48), (14, 70), (8, 40)])
def test_a_decoder_takes_any_size_of_whole_patches(patch: int, size: int):
    decoder = SegmentationDecoder(width=12, patch=patch, classes=3, levels=2, channels=8)
    tokens = [torch.rand(2, (size // patch) ** 2, 12) for _ in range(2)]
    assert decoder(tokens, torch.rand(2, 3, size, size)).shape == (2, 3, size, size)


def disc(centre: tuple[int, int], bright: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy frame with a disc [32, 32] and its label map."""
    rows, columns = np.mgrid[:32, :32]
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 49
    noise = np.random.default_rng(bright).integers(0, 40, (32, 32))
    return (noise + bright * inside).astype(np.uint8), inside.astype(np.uint8)


def moving(total: int) -> Pixels:
    """A recording of a disc that moves down, all frames of it labelled."""
    frames, maps = zip(*(disc((10 + k, 12), 120) for k in range(total)), strict=True)
    return Pixels(
        frames=np.stack(frames), sector=np.ones((32, 32), bool), fps=8.0,
        spacing=np.ones(2, np.float32), masks=dict(enumerate(maps)),
    )  # fmt: skip


def test_a_decoder_learns_the_disc_of_its_own_frame():
    """Of the frame at the position, not of the tubelet's other one; and in every frame."""
    torch.manual_seed(0)
    model = EchoFMSegmenter(EchoFM(TINY).requires_grad_(False), TWO)
    pixels = moving(12)
    samples = [sample(pixels, frame, TINY, None) for frame in range(12)]
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        value = segmentation.loss(model, samples[::2])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0] / 3
    maps = segmentation.label_frames(model, pixels.frames, pixels.fps)
    truth = np.stack([pixels.masks[frame] for frame in range(12)])
    assert maps.shape == truth.shape
    overlap = 2 * (maps & truth).sum((1, 2)) / (maps.sum((1, 2)) + truth.sum((1, 2)))
    assert overlap.min() > 0.9
    np.testing.assert_array_equal(segmentation.label(model, samples[3:4])[0].shape, (32, 32))


def test_the_token_of_the_frame_s_own_time_step_is_read():
    torch.manual_seed(0)
    model = EchoFMSegmenter(EchoFM(TINY), TWO).eval()
    clips = torch.rand(2, 3, 8, 32, 32)
    which, positions = torch.tensor([1, 0, 1]), torch.tensor([5, 0, 4])
    found = model(clips, which, positions)
    levels = model.encoder.levels(clips, model.blocks)
    for i, (clip, place) in enumerate(zip(which, positions, strict=True)):
        step = slice(4 * (place // 2), 4 * (place // 2) + 4)  # 4 tokens a time step
        own = [level[clip : clip + 1, step] for level in levels]
        expected = model.decoder(own, clips[clip : clip + 1, :, place])
        torch.testing.assert_close(found[i : i + 1], expected)


@pytest.mark.parametrize("head", ["segmentation", "hypertrophy", "interactive"])
def test_an_image_model_encodes_the_frames_that_are_asked_for_alone(head: str):
    """In training and on recordings, to what encoding whole windows gives."""
    torch.manual_seed(0)
    eyes = EchoApex(EchoApexConfig(frames=8, size=28, width=24, depth=3, heads=3))
    model = {
        "segmentation": lambda: EchoFMSegmenter(eyes, dataclasses.replace(TWO, prompts=2)),
        "hypertrophy": lambda: EchoFMHypertrophy(
            eyes, HypertrophyConfig(landmarks=LANDMARKS, channels=8, prompts=2)
        ),
        "interactive": lambda: EchoFMInteractive(
            eyes, InteractiveConfig(structures=("LV",), prompts=2)
        ),
    }[head]().eval()
    encoded = []
    eyes.patch_embed.register_forward_hook(lambda _module, _inputs, out: encoded.append(len(out)))
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (12, 28, 28), dtype=np.uint8)
    labels = np.ones((28, 28), np.uint8)
    points = rng.uniform(4, 20, (4, 2)).astype(np.float32)
    clips = [np.roll(frames, -3 * i, 0)[:8] for i in range(3)]
    if head == "segmentation":
        segmentation.loss(model, [Sample(c, i, labels) for i, c in enumerate(clips)])
        segmentation.label_frames(model, frames, 8.0)
        assert encoded[0] == 3 and sum(encoded[1:]) == 12
    elif head == "hypertrophy":
        samples = [hypertrophy_samples.Sample(c, i, points) for i, c in enumerate(clips)]
        hypertrophy.loss(model, samples)
        hypertrophy.landmarks_of_frames(model, frames, 8.0)
        assert encoded[0] == 3 and sum(encoded[1:]) == 12
    else:
        batch = interactive.Batch([Sample(c, i, labels) for i, c in enumerate(clips)],
                                  np.ones((3, 28, 28), bool), 0)  # fmt: skip
        interactive.loss(model, batch)
        model.session(clips[0], 4).click(3, 3)
        assert encoded == [3, 1]
    with torch.no_grad():
        x = eyes.preprocess(np.stack(clips))  # [3, 3, 8, 28, 28]
        which, positions = torch.tensor([2, 0]), torch.tensor([7, 1])
        found, pixels = model.seen(x, which, positions)
        whole = eyes.levels(x, model.blocks)  # [3, 8*4, 24] each
    torch.testing.assert_close(pixels, torch.stack([x[2, :, 7], x[0, :, 1]]))
    for level, every in zip(found, whole, strict=True):
        torch.testing.assert_close(level, torch.stack([every[2, 28:], every[0, 4:8]]))


def test_structures_that_nobody_labelled_are_no_classes():
    structures = ("background", "LV", "myocardium", "LA")
    counts = np.zeros((256, 2, 2), np.int32)
    counts[[0, 1, 3], 0, 0] = 2, 1, 1
    classes = segmentation.labelled_structures(counts, structures, "train")
    assert classes == ("background", "LV", "LA")
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    assert segmentation.renumber(labels, structures, classes).tolist() == [[0, 1, 0, 2]]
    counts[4, 0, 0] = 1
    with pytest.raises(InputError, match="a pixel is 4, of 4 structures: name 5"):
        segmentation.labelled_structures(counts, structures, "train")
    counts[1:] = 0
    with pytest.raises(InputError, match="no pixel of the train clips is labelled"):
        segmentation.labelled_structures(counts, structures, "train")


def test_a_structure_that_no_frame_of_a_batch_shows_has_no_dice():
    """The gradient is that of cross-entropy and of the other structure's Dice, by hand."""
    torch.manual_seed(0)
    labels = torch.zeros(2, 1, 8, 8).long()
    labels[:, :, 2:6, 2:6] = 1
    labels[1, :, 6] = 1
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    (found,) = torch.autograd.grad(segmentation.dice_and_cross_entropy(x, labels), x)
    p, y = x.softmax(1)[:, 1], labels[:, 0]
    dice = 2 * (p * y).sum() / (p.sum() + y.sum())
    by_hand = torch.nn.functional.cross_entropy(x, y) + (1 - dice) / 2  # of two structures
    (expected,) = torch.autograd.grad(by_hand, x)
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-4)


def test_a_still_is_repeated():
    config = dataclasses.replace(TINY, window_seconds=0.0)
    for c in (TINY, config):
        found = sample(numbered(1, fps=0.0), 0, c, np.random.default_rng(0))
        assert found.clip.shape == (8, 32, 32)
