"""Batches of crops, as DINOv2 learns from: frames of records, cut inside the sector, with masks.

`clip_batch` is the other kind; the loader asks either for the same three things. Records of one
frame are welcome here.
"""

import cv2
import numpy as np

from data_pipelines import records, shards
from data_pipelines.augment import NONE
from data_pipelines.clip_labels import clip_labels
from data_pipelines.clip_source import Record
from data_pipelines.crop_looks import change, draw_looks
from data_pipelines.crop_masks import image_masks
from data_pipelines.crops import Crops, cut, draw_rectangles
from data_pipelines.decode import decode_frames
from data_pipelines.loader_config import Batch, LoaderConfig
from echofm_jax.errors import InputError


def check(cfg: LoaderConfig, info: shards.DatasetInfo) -> None:
    """Refuse, as InputError, crops that make no sense or that the data set has no pixels for."""
    problems = cfg.crops.problems()
    if cfg.augment != NONE:
        problems.append("augment: crops have a gain and gamma of their own: leave it off")
    for name, size in (("global", cfg.crops.global_size), ("local", cfg.crops.local_size)):
        if size > info.size:
            problems.append(
                f"{name} crops of {size} pixels: {cfg.data_dir} stores frames of {info.size} "
                f"pixels: choose at most {info.size}, or ingest again with a larger size"
            )
    if problems:
        raise InputError("; ".join(problems))


def empty(cfg: LoaderConfig, count: int, colour: bool) -> Batch:
    """Room for the pixels of `count` records, [count, k, …] uint8: `global` and `local`."""
    crops, first = cfg.crops, (count, cfg.windows_per_record)
    shapes = {
        "global": (2, crops.global_size, crops.global_size),
        "local": (crops.local_crops, crops.local_size, crops.local_size),
    }
    channels = (3,) * colour
    return {name: np.empty(first + shape + channels, np.uint8) for name, shape in shapes.items()}


def read(record: Record, rng: np.random.Generator, cfg: LoaderConfig, out: Batch) -> list[Batch]:
    """The crops of k of a record's frames put into `out`, its place in `empty`; the rest of each.

    Keys and shapes are `make_loader`'s without b. Only those frames are decoded. Raises BadRecord
    if one cannot be.
    """
    crops, k = cfg.crops, cfg.windows_per_record
    frame_index = choose(len(record.bytes_list("frames")), k, crops, rng if cfg.shuffle else None)
    frames = decode_frames(record, frame_index.ravel(), record.info.size)  # [k·views, S, S(, 3)]
    frames = frames.reshape(*frame_index.shape, *frames.shape[1:])  # [k, views, S, S(, 3)]
    packed = record.bytes_list("sector")[0]
    size = (record.info.size,) * 2
    inside = np.ones(size, np.uint8)
    if packed:
        inside = records.unpack_sector(packed, record.info.size).view(np.uint8)
    images = []
    for i in range(k):
        image = {name: pixels[i] for name, pixels in out.items()}
        fill(image, frames[i], inside, crops, rng)
        rest = {
            "mask": image_masks(crops.grid, crops.mask_ratio, rng),
            "seed": rng.integers(2**32, dtype=np.uint32),
            "index": np.int64(record.index),
        }
        labels = clip_labels(record, frame_index[i]) if cfg.labels else {}
        images.append(rest | labels)
    return images


def choose(
    num_frames: int, images: int, crops: Crops, rng: np.random.Generator | None
) -> np.ndarray:
    """Which frames of a record the images show, [images, 1 or 2] int32, all different if it can be.

    Without `rng` from the middle of the record on.
    """
    views = 2 if crops.other_frame else 1
    middle = np.roll(np.arange(num_frames), -(num_frames // 2))
    order = middle if rng is None else rng.permutation(num_frames)
    return np.resize(order, (images, views)).astype(np.int32)


def fill(
    image: Batch, frames: np.ndarray, inside: np.ndarray, crops: Crops, rng: np.random.Generator
) -> None:
    """Cut an image's crops of its frames [1 or 2, S, S(, 3)] into `global` and `local` [n, …].

    The first global crop and the first half of the local ones are of the first frame, the others
    of the last. What is outside the sector, `inside` [S, S] uint8, becomes black.
    """
    looks, rectangles = draw_looks(crops, rng), draw_rectangles(inside, crops, rng)
    second = [False, True, *(2 * i >= crops.local_crops for i in range(crops.local_crops))]
    sector = 255 * inside
    for i, crop in enumerate([*image["global"], *image["local"]]):
        cut(frames[-second[i]], rectangles[i], crop)
        change(crop, looks, i, crops, rng)
        x, y, w, h = rectangles[i].tolist()
        shown = cv2.resize(
            sector[y : y + h, x : x + w], crop.shape[:2], interpolation=cv2.INTER_NEAREST_EXACT
        )
        np.bitwise_and(crop, shown if crop.ndim == 2 else cv2.merge([shown] * 3), out=crop)
