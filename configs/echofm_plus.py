"""ViT-L with the objective that learns the cardiac phase where the public one collapses.

    echofm train --config=configs/echofm_plus.py --workdir=runs/plus --config.data.dir=DATA

The model, the recipe and the cost are those of vit_l.py. What differs:
- frame embeddings are compared without their mean over the clip (`objective.embedding_alpha`), as
  the pixel prior always was. Compared with it, embeddings that have become alike have no gradient
  that would part them again, and on simulated clips they stay so (docs/results.md).
- anchors weigh by how far the prior's similarity rises again in their clip (`cycle_gate`), and the
  step next to an anchor, alike by nature, is no positive (`min_positive_lag`).
- only tokens inside the ultrasound sector are visible (`objective.masking`): what is black anyway
  tells nothing of what is hidden.
- a window is a second, whatever the frame rate (`data.window_seconds`).
`:plus` gives the first two to any other config: configs/vit_b.py:plus. In docs/results.md the first
does the work, and small models told views a little less well; the third gives that back.
No full-corpus run of this config has been made yet, so there is no score to expect.
"""

from ml_collections import ConfigDict

from echofm_jax.config import default_config


def get_config(variant: str = "plus") -> ConfigDict:
    """`plus` (default), or `official` or `paper` on the same windows."""
    config = default_config("vit_l", variant)
    config.model.dtype = "bfloat16"
    config.data.window_seconds = 1.0
    if variant == "plus":
        config.objective.masking = "sector"
    return config
