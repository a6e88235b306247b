"""EchoFM for transformers' Auto classes; copied into exported folders beside modeling_echofm.py.

    processor = AutoImageProcessor.from_pretrained("FOLDER", trust_remote_code=True)
    model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True).eval()
    output = model(**processor(frames, fps=50))  # frames: uint8 [T, H, W]
    output.last_hidden_state, output.frame_embeds  # [B, t*L, D], [B, t, D]

AutoVideoProcessor gives the same processor, where torchvision is installed.

SPDX-License-Identifier: Apache-2.0
"""

import dataclasses
from pathlib import Path
from typing import TypedDict

from torch import Tensor, nn
from transformers import BatchFeature, PreTrainedConfig, PreTrainedModel
from transformers.image_processing_base import ImageProcessingMixin
from transformers.utils import ModelOutput

from .modeling_echofm import EchoFM, EchoFMConfig, preprocess, refuse_changed


class EchoFMHFConfig(PreTrainedConfig):
    """`config.json` of an exported folder; `architecture` as EchoFMConfig has it."""

    model_type = "echofm"
    has_no_defaults_at_init = True

    def __init__(self, architecture: dict | None = None, preprocessing: dict | None = None, **rest):
        self.architecture = architecture or {}
        self.preprocessing = preprocessing or {"window_seconds": 0.0}
        rest.pop("sha256", None)  # of the folder's files; what is saved later is another
        super().__init__(**rest)

    def of_model(self) -> EchoFMConfig:
        """The same, as EchoFM takes it."""
        window = self.preprocessing["window_seconds"]
        return EchoFMConfig(**self.architecture, window_seconds=window)


@dataclasses.dataclass
class EchoFMOutput(ModelOutput):
    """What `EchoFMModel` returns: `Features` under transformers' names."""

    last_hidden_state: Tensor | None = None  # [B, t*L, D] tokens, time-major
    pooler_output: Tensor | None = None  # [B, D] mean of the tokens
    frame_embeds: Tensor | None = None  # [B, t, D] phase embedding of each time step


class EchoFMModel(PreTrainedModel):
    """EchoFM as a PreTrainedModel: `echofm` is the model itself, decoder included."""

    config_class = EchoFMHFConfig
    base_model_prefix = "echofm"  # the folder's weights have no prefix
    main_input_name = "pixel_values_videos"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ("Block",)

    def __init__(self, config: EchoFMHFConfig):
        super().__init__(config)
        self.echofm = EchoFM(config.of_model())
        self.post_init()

    @classmethod
    def from_pretrained(cls, folder: str | Path, *args: object, **kwargs: object) -> "EchoFMModel":
        """As PreTrainedModel's, but weights that were changed since the export are refused."""
        for file in Path(folder).glob("model*.safetensors"):
            refuse_changed(file)
        return super().from_pretrained(folder, *args, **kwargs)

    def resize(self, frames: int | None = None, size: int | None = None) -> "EchoFMModel":
        """As `EchoFM.resize`; the config follows, so that what is saved loads again."""
        c = self.echofm.resize(frames, size).config
        shape = {"frames": c.frames, "size": c.size}
        self.config.architecture |= {**shape, "pred_frames": c.pred_frames}
        self.config.preprocessing |= shape
        return self

    def _init_weights(self, module: nn.Module) -> None:
        """EchoFM initialises itself; a folder holds every parameter."""

    def forward(self, pixel_values_videos: Tensor, **_: object) -> EchoFMOutput:
        """Clips [B, 3, T, H, W] in [0, 1], as EchoFMVideoProcessor makes them."""
        tokens, frames, video = self.echofm.encode(pixel_values_videos)
        return EchoFMOutput(last_hidden_state=tokens, pooler_output=video, frame_embeds=frames)


class ClipKwargs(TypedDict, total=False):
    """What `from_pretrained` of a processor may be given, for a model that was resized."""

    frames: int
    size: int
    window_seconds: float


class EchoFMVideoProcessor(ImageProcessingMixin):
    """Frames as decoded to clips, by the same code as `EchoFM.preprocess`."""

    model_input_names = ("pixel_values_videos",)
    valid_kwargs = ClipKwargs

    def __init__(self, frames: int = 32, size: int = 224, window_seconds: float = 0.0, **rest):
        super().__init__(**rest)
        self.frames, self.size, self.window_seconds = frames, size, window_seconds

    def __call__(
        self, videos: Tensor, fps: float | None = None, return_tensors: str = "pt"
    ) -> BatchFeature:
        """uint8 [T, H, W], [B, T, H, W], or with a last axis of 3; `fps` frames a second."""
        if return_tensors != "pt":
            raise ValueError(f"return_tensors={return_tensors!r}: this processor makes 'pt' only")
        config = EchoFMConfig(
            frames=self.frames, size=self.size, window_seconds=self.window_seconds
        )
        return BatchFeature({"pixel_values_videos": preprocess(videos, config, fps)})
