from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from data_pipelines import readers, video
from data_pipelines.clip import MAX_FRAMES_READ, Rejected

LIMITED, FULL = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
RAMP = np.tile(np.arange(256, dtype=np.uint8), (8, 64, 1))  # [T, H, W], every grey level
MILLISECOND = Fraction(1, 1000)


def coloured():
    clip = np.stack([RAMP] * 3, -1)
    clip[:, 16:48, 64:128] = (200, 40, 40)
    return clip


def textured(frames=30):
    noise = np.random.default_rng(0).integers(0, 40, (frames, 64, 64))
    return (noise + 5 * np.arange(frames)[:, None, None]).astype(np.uint8)


def write(path, frames, codec, pixels, colour_range=None, stamps=None, tick=MILLISECOND):
    """Encode frames at 25 a second, or at the time `stamps`, in ticks."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.bit_rate = 20_000_000
        if colour_range:
            stream.codec_context.color_range = colour_range
        if stamps is not None:
            stream.codec_context.time_base = tick
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, "gray" if image.ndim == 2 else "rgb24")
            frame = frame.reformat(format=pixels, dst_color_range=colour_range)
            if stamps is not None:
                frame.pts, frame.time_base = stamps[index], tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_gif(path, frames, durations):
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0)
    return path


def rejection(path):
    with pytest.raises(Rejected) as caught:
        readers.read(path)
    assert path.name not in str(caught.value) and str(path.parent) not in str(caught.value)
    return caught.value.reason


FORMATS = [
    ("clip.avi", "mjpeg", "yuvj420p", FULL),
    ("clip.avi", "ffv1", "gray", None),
    ("clip.mp4", "mpeg4", "yuv420p", LIMITED),
    ("clip.mp4", "libx264", "yuv420p", LIMITED),
    ("clip.mov", "libx264", "yuv420p", FULL),
    ("clip.mkv", "libx264", "yuv420p", LIMITED),
    ("clip.wmv", "wmv2", "yuv420p", LIMITED),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "colour_range"), FORMATS)
def test_grey_levels_cover_the_full_range(tmp_path, name, codec, pixels, colour_range):
    clip = readers.read(write(tmp_path / name, RAMP, codec, pixels, colour_range))
    assert clip.frames.shape == RAMP.shape and clip.frames.dtype == np.uint8
    np.testing.assert_allclose(clip.frames.astype(int), RAMP.astype(int), atol=3)
    np.testing.assert_allclose(clip.times, np.arange(8) / 25, atol=0.001)
    assert clip.fps_source == "container"


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4"])
def test_colour_is_kept(tmp_path, name):
    frames = readers.read(write(tmp_path / name, coloured(), "mpeg4", "yuv420p", LIMITED)).frames
    assert frames.shape == coloured().shape
    np.testing.assert_allclose(frames[:, 32, 96], np.tile([200, 40, 40], (8, 1)), atol=6)


def test_colour_in_the_last_frame_alone_is_kept(tmp_path):
    frames = np.stack([RAMP] * 3, -1)
    frames[-1] = coloured()[-1]
    clip = readers.read(write(tmp_path / "clip.mp4", frames, "mpeg4", "yuv420p", LIMITED))
    assert clip.frames.ndim == 4


def test_varying_frame_times_are_kept(tmp_path):
    stamps = [100, 130, 180, 213, 260, 300, 350, 401]
    path = write(tmp_path / "clip.mkv", RAMP, "libx264", "yuv420p", LIMITED, stamps)
    clip = readers.read(path)
    np.testing.assert_allclose(clip.times, (np.array(stamps) - 100) / 1000, atol=0.001)


def test_frames_that_an_avi_repeats_are_no_missing_frames(tmp_path):
    """AVI has no time stamps: a gap is a run of empty chunks, counted as frames."""
    stamps, tick = [0, 1, 2, 6, 7, 8, 12, 13], Fraction(1, 25)
    path = write(tmp_path / "clip.avi", RAMP, "mjpeg", "yuvj420p", FULL, stamps, tick)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames > len(RAMP) + 1
    clip = readers.read(path)
    assert len(clip.frames) == len(RAMP)
    np.testing.assert_allclose(clip.times, np.array(stamps) / 25)


def test_frames_hidden_by_an_edit_list_are_read(tmp_path):
    stamps = [-160, -120, -80, -40, 0, 40, 80, 120]
    path = write(tmp_path / "clip.mp4", RAMP, "mpeg4", "yuv420p", LIMITED, stamps)
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) < len(RAMP) - 1
    assert len(readers.read(path).frames) == len(RAMP)


def test_broken_time_stamps_give_way_to_the_mean_rate():
    tick = Fraction(1, 50)
    np.testing.assert_allclose(video._times([0, None, 4], tick, Fraction(25)), [0, 0.04, 0.08])
    np.testing.assert_allclose(video._times([0, 3, 3], tick, Fraction(25)), [0, 0.04, 0.08])
    np.testing.assert_allclose(video._times([5, 6, 9], tick, Fraction(25)), [0, 0.02, 0.08])
    assert video._times([0, 0], tick, None) is None
    assert video._times([0, 0], tick, Fraction(90000)) is None


@pytest.mark.parametrize(("name", "codec", "pixels", "colour_range"), FORMATS)
def test_cut_files_are_whole_or_rejected(tmp_path, capfd, name, codec, pixels, colour_range):
    frames = textured()
    data = write(tmp_path / name, frames, codec, pixels, colour_range).read_bytes()
    cut = tmp_path / f"cut{name[-4:]}"
    kept = []
    for share in (0.999, 0.97, 0.9, 0.75, 0.5, 0.2, 0.03, 0.001):
        cut.write_bytes(data[: int(len(data) * share)])
        try:
            kept.append(len(readers.read(cut).frames))
        except Rejected as rejected:
            assert rejected.reason in ("unreadable", "truncated", "empty", "single_frame")
    assert len(kept) <= 3 and all(count >= len(frames) - 1 for count in kept)
    assert capfd.readouterr() == ("", "")


def test_mp4_with_its_index_first_cut_in_the_middle(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in textured():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
        container.mux(stream.encode())
    assert len(readers.read(path).frames) == 30
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert rejection(path) == "truncated"


def test_still_and_too_many_frames(tmp_path):
    assert rejection(write(tmp_path / "a.mp4", RAMP[:1], "mpeg4", "yuv420p")) == "single_frame"
    frames = np.zeros((MAX_FRAMES_READ + 1, 16, 16), np.uint8)
    for name in ("b.avi", "b.mkv"):  # MKV does not announce how many frames it has
        assert rejection(write(tmp_path / name, frames, "ffv1", "gray")) == "too_long"


def test_audio_alone(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        samples.sample_rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    assert rejection(path) == "not_video"


def test_text_and_zero_bytes(tmp_path):
    for name in ("a.mp4", "a.avi", "a.mov", "a.gif"):
        path = tmp_path / name
        path.write_text("JANE DOE, 1941-01-01\n" * 40)
        assert rejection(path) == "unreadable"
        path.write_bytes(b"")
        assert rejection(path) == "empty"


def test_gif_keeps_its_durations(tmp_path):
    durations = [40, 30, 50, 40, 40, 60, 40, 40]
    frames = np.stack([np.roll(RAMP[0], 9 * i, axis=1) for i in range(8)])
    clip = readers.read(write_gif(tmp_path / "clip.gif", frames, durations))
    np.testing.assert_array_equal(clip.frames, frames)
    np.testing.assert_allclose(np.diff(clip.times), np.array(durations[:-1]) / 1000)
    assert clip.fps_source == "container"


@pytest.mark.parametrize("duration", [0, 10])
def test_gif_without_believable_durations(tmp_path, duration):
    frames = np.stack([np.roll(RAMP[0], 9 * i, axis=1) for i in range(8)])
    clip = readers.read(write_gif(tmp_path / "clip.gif", frames, duration))
    assert len(clip.frames) == 8 and clip.times is None and clip.fps_source == "unknown"


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_gif_disposal(tmp_path, disposal):
    """A patch drawn on the second frame stays (1) or goes again (2, 3) on the third."""
    base = Image.new("RGBA", (64, 48), (90, 90, 90, 255))
    images = [base]
    for x in (4, 40):
        image = Image.new("RGBA", base.size, (0, 0, 0, 0))
        image.paste((200, 30, 30, 255), (x, 8, x + 16, 24))
        images.append(image)
    path = tmp_path / "clip.gif"
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=40, disposal=[1, disposal, 1]
    )
    frames = readers.read(path).frames
    assert frames.shape == (3, 48, 64, 3)
    stays = np.abs(frames[2, 16, 12].astype(int) - [200, 30, 30]).max() < 8
    assert stays == (disposal == 1)


def test_cut_gif(tmp_path):
    path = write_gif(tmp_path / "clip.gif", textured(12), 40)
    data = path.read_bytes()
    assert len(readers.read(path).frames) == 12
    for share in (0.9, 0.5, 0.1):
        path.write_bytes(data[: int(len(data) * share)])
        assert rejection(path) in ("truncated", "unreadable", "single_frame")
