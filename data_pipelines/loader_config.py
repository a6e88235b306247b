"""What the loader is asked for."""

import dataclasses

import numpy as np

from data_pipelines.augment import NONE, Augment
from data_pipelines.crops import Crops

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """What to load. `batch_size` is global: each of the hosts yields its share of it."""

    data_dir: str  # of a data set, or a mixture's file (`mixture`)
    batch_size: int  # clips, or images with `crops`
    split: str = "train"
    frames: int = 32
    size: int = 224
    tubelet: int = 4
    patch: int = 16
    window_seconds: float = 0.0  # 0 = consecutive frames, as the paper
    assumed_fps: float = 30.0  # for clips whose frame rate is not known
    windows_per_record: int = 1  # clips, or images with `crops`, from each reading of a record
    augment: Augment = NONE
    masking: str = "consistent"  # one of echofm_jax.masking.KINDS
    crops: Crops | None = None  # crops of frames instead of clips; no field of a clip then counts
    seed: int = 0
    shuffle: bool = True  # False: the split's order, one central window a record, not augmented
    num_epochs: int | None = None  # None = for ever
    labels: bool = False  # adds those of `clip_labels`
    max_bad_records: float = 0.0  # share of an epoch; 0: the first one is an error
    cache_dir: str = ""  # for copies of the shards
    workers: int = 0  # decoding threads; 0 = one a core, at most 8
