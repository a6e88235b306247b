"""What one record of a shard holds: an allow-list, and the only way data reaches a shard.

A record is a segment of one cleaned clip, `segment_frames` long. Frames are stored one encoded
image each, so that a window decodes only its own frames. Nothing here names a person, a
file, a place or a date: the ids are salted hashes and every text comes from a fixed vocabulary.
"""

import threading

import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
import zstandard

DATASET = "echo_clips"
VERSION = "1.0.0"
MAX_FRAMES = 512  # of any record
ENCODINGS = ("jpeg", "zstd")
MODES = ("b_mode", "colour_doppler", "contrast")
VIEWS = ("", "A4C", "A2C", "A3C", "PLAX", "PSAX_AV", "PSAX_MV", "PSAX_PM", "PSAX_AP", "SC", "SSN",
         "A5C", "PSAX", "other")  # fmt: skip
RHYTHMS = ("", "sinus", "sinus_arrhythmia", "atrial_fibrillation", "premature_beats", "bigeminy")
STRUCTURES = ("background", "LV", "myocardium", "LA", "RV", "RA")  # values of a mask's pixels
MEASUREMENTS = (  # ml for volumes, cm for thicknesses and diameters
    "end_diastolic_volume", "end_systolic_volume",
    "ivs_d", "lvid_d", "lvpw_d", "ivs_s", "lvid_s", "lvpw_s",
)  # fmt: skip
LANDMARKS = (  # of the parasternal long axis, from the right ventricle to the pericardium
    "septum_rv", "septum_lv", "wall_lv", "wall_outer",
)  # fmt: skip
GRADES = ("none", "early", "significant")  # of a valve's disease; -1 = unknown
FPS_SOURCES = (
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "ActualFrameDuration",
    "container",
    "labels",
    "option",
    "unknown",
)

_bytes = tfds.features.Tensor(shape=(), dtype=np.object_)
FEATURES = tfds.features.FeaturesDict({
    "frames": tfds.features.Sequence(_bytes),  # T encoded images, [H, W] or [H, W, 3] uint8
    "times": tfds.features.Tensor(shape=(None,), dtype=np.float32),  # [T] seconds, first is 0
    "fps": np.float32,  # mean frames per second, 0 = unknown (then `times` is empty)
    "fps_source": tfds.features.Text(),  # one of FPS_SOURCES
    "mode": tfds.features.Text(),  # one of MODES
    "sector": _bytes,  # packed bits of the [H, W] mask of pixels inside the ultrasound sector
    "clip_id": tfds.features.Text(),  # salted hash, 16 hexadecimal digits
    "patient_id": tfds.features.Text(),  # salted hash, 16 hexadecimal digits
    "segment": np.int32,  # which part of its clip, from 0
    "segments": np.int32,  # how many parts the clip has
    # Labels, where the source has them (`labels.jsonl`); empty or NaN otherwise.
    "view": tfds.features.Text(),  # one of VIEWS
    "rhythm": tfds.features.Text(),  # one of RHYTHMS
    "ejection_fraction": np.float32,  # percent
    "phase": tfds.features.Tensor(shape=(None,), dtype=np.float32),  # [T] in [0, 1), 0 = ED
    "end_diastole": tfds.features.Tensor(shape=(None,), dtype=np.int32),  # frame indices
    "end_systole": tfds.features.Tensor(shape=(None,), dtype=np.int32),
    "masks": tfds.features.Sequence(_bytes),  # n label maps [H, W] of STRUCTURES (`encode_mask`)
    "mask_frames": tfds.features.Tensor(shape=(None,), dtype=np.int32),  # [n] whose they are
    "measurements": tfds.features.Tensor(shape=(len(MEASUREMENTS),), dtype=np.float32),
    "aortic_stenosis": np.int32,  # index in GRADES, -1 unknown
    "aortic_regurgitation": np.int32,
    # What the file's header says beside its timing; NaN or empty otherwise.
    "spacing": tfds.features.Tensor(shape=(2,), dtype=np.float32),  # mm a pixel, rows and columns
    "heart_rate": np.float32,  # beats a minute
    "r_waves": tfds.features.Tensor(shape=(None,), dtype=np.float32),  # seconds from frame 0
})  # fmt: skip
UNKNOWN = {  # of what most sources do not tell
    "view": "",
    "rhythm": "",
    "ejection_fraction": np.float32(np.nan),
    "phase": np.zeros(0, np.float32),
    "end_diastole": np.zeros(0, np.int32),
    "end_systole": np.zeros(0, np.int32),
    "masks": [],
    "mask_frames": np.zeros(0, np.int32),
    "measurements": np.full(len(MEASUREMENTS), np.nan, np.float32),
    "aortic_stenosis": -1,
    "aortic_regurgitation": -1,
    "spacing": np.full(2, np.nan, np.float32),
    "heart_rate": np.float32(np.nan),
    "r_waves": np.zeros(0, np.float32),
}
LATER = ("rhythm",)  # texts that data sets written before they came lack: then they are unknown


_thread = threading.local()  # a decompressor serves one thread at a time


def encode_frame(frame: np.ndarray, encoding: str) -> bytes:
    """[H, W] or [H, W, 3] uint8 → bytes; `jpeg` is quality 95, `zstd` is lossless."""
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=3).compress(np.ascontiguousarray(frame).tobytes())
    if frame.ndim == 2:
        return simplejpeg.encode_jpeg(
            np.ascontiguousarray(frame[..., None]), quality=95, colorspace="GRAY"
        )
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(frame), quality=95, colorspace="RGB", colorsubsampling="444"
    )


def decode_frame(data: bytes, encoding: str, out: np.ndarray) -> None:
    """Decode one frame into `out`, a contiguous [H, W] or [H, W, 3] uint8 array.

    Raises what the codec raises, and ValueError for a frame of another size.
    """
    if encoding == "zstd":
        if not hasattr(_thread, "zstd"):
            _thread.zstd = zstandard.ZstdDecompressor()  # a new one costs a fifth of a frame
        out[...] = np.frombuffer(_thread.zstd.decompress(data), np.uint8).reshape(out.shape)
        return
    colorspace = "GRAY" if out.ndim == 2 else "RGB"
    found = simplejpeg.decode_jpeg(data, colorspace=colorspace, buffer=out).shape[:2]
    if found != out.shape[:2]:  # a smaller image would leave the rest of `out` as it was
        raise ValueError(f"frame of {found}, not {out.shape[:2]}")


def encode_mask(mask: np.ndarray) -> bytes:
    """[H, W] uint8 label map → bytes, lossless."""
    return zstandard.ZstdCompressor(level=3).compress(np.ascontiguousarray(mask).tobytes())


def decode_mask(data: bytes, size: int) -> np.ndarray:
    """Bytes → [size, size] uint8 label map."""
    pixels = zstandard.ZstdDecompressor().decompress(data)
    return np.frombuffer(pixels, np.uint8).reshape(size, size)


def pack_sector(mask: np.ndarray) -> bytes:
    """[H, W] bool → packed bits."""
    return np.packbits(mask).tobytes()


def unpack_sector(data: bytes, size: int) -> np.ndarray:
    """Packed bits → [size, size] bool."""
    return (
        np.unpackbits(np.frombuffer(data, np.uint8), count=size * size)
        .reshape(size, size)
        .astype(bool)
    )
