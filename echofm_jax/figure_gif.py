"""GIFs that play at a clip's own pace, one for a light page and one for a dark one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy.spatial import distance

from data_pipelines.inspect_gif import ASSUMED_FPS, playable
from echofm_jax.figure_theme import THEMES, Theme

SIDE = 224  # pixels that a frame is enlarged to, about
LINE = 19  # pixels of a line of text
GAP = 8
LAST = 500  # milliseconds that the last frame stays on, so that the eye sees where it begins anew


def save_gif(
    path: Path, draw: Callable[[Theme, list[int]], list[Image.Image]], times: np.ndarray
) -> None:
    """Write NAME.gif and NAME-dark.gif, whole files or none; they play for ever.

    Args:
      path: of the light one.
      draw: (theme, which of the frames) → a picture of each, RGB.
      times: [n] of the frames, in seconds. Above 50 frames a second some are left out.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept, durations = playable(times - times[0])
    durations[-1] += LAST
    for theme in THEMES:
        images = one_palette(draw(theme, kept), theme)
        target = theme.path(path)
        half = target.with_name(f".{target.name}.writing")
        images[0].save(
            half, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
        )
        half.replace(target)


def one_palette(images: list[Image.Image], theme: Theme) -> list[Image.Image]:
    """RGB pictures in one palette, so that nothing flickers but what moves.

    Half of it are greys, two levels apart, and the theme's own; the rest stand for all others.
    Pillow's own way to a palette is some levels off.
    """
    seen = np.zeros(1 << 24, bool)
    for image in images:
        seen[packed(image)] = True
    codes = np.flatnonzero(seen)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(np.uint8)  # [n, 3]
    others = colours[np.ptp(colours, axis=1) > 0]
    own = [ImageColor.getrgb(colour) for colour in (theme.page, theme.ink, theme.hidden)]
    palette = [np.rint(np.linspace(0, 255, 125))[:, None].repeat(3, 1), own]
    if len(others):
        palette.append(
            np.reshape(Image.fromarray(others[None]).quantize(128).getpalette(), (-1, 3))
        )
    palette = np.concatenate(palette)  # [at most 256, 3]
    nearest = np.zeros(1 << 24, np.uint8)
    nearest[codes] = distance.cdist(colours, palette).argmin(axis=1)
    result = [Image.fromarray(nearest[packed(image)]) for image in images]
    for image in result:
        image.putpalette(palette.astype(np.uint8).ravel().tolist())
    return result


def packed(image: Image.Image) -> np.ndarray:
    """[H, W], each pixel's red, green and blue in one number."""
    rgb = np.asarray(image).astype(np.int32)
    return rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def pace(index: np.ndarray, seconds: float) -> np.ndarray:
    """Places of frames in a clip [n] → [n] when to show them.

    `seconds` lie between frames; where they are not known (nan), 1/30.
    """
    return index * (seconds if np.isfinite(seconds) else 1 / ASSUMED_FPS)


def enlarge(frame: np.ndarray) -> Image.Image:
    """[H, W(, 3)] uint8 → a picture whose longer side is about SIDE, each pixel a square."""
    scale = max(1, round(SIDE / max(frame.shape)))
    return Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1)).convert("RGB")


def board(theme: Theme, heading: str, columns: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """A page with the heading, and below it pictures side by side, each under its caption."""
    lines = [caption.count("\n") + bool(caption) for caption, _ in columns]
    heights = [LINE * n + picture.height for n, (_, picture) in zip(lines, columns, strict=True)]
    width = sum(picture.width + GAP for _, picture in columns) + GAP
    top = GAP + LINE
    image = Image.new("RGB", (width, top + max(heights) + GAP), theme.page)
    pen = ImageDraw.Draw(image)
    pen.text((width / 2, GAP), heading, theme.ink, font(15), "ma")
    left = GAP
    for (caption, picture), height in zip(columns, heights, strict=True):
        under = top + (max(heights) + height) // 2 - picture.height
        middle = left + picture.width / 2
        pen.text((middle, under - 4), caption, theme.ink, font(12.5), "md", align="center")
        image.paste(picture, (left, under))
        left += picture.width + GAP
    return image


def font(size: float) -> ImageFont.FreeTypeFont:
    """The figures' own, of matplotlib."""
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
