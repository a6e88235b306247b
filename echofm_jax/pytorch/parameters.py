"""Which parameters learn, and how fast: all with layer decay, LoRA, adapters, prompts, or none."""

from torch import nn

from echofm_jax.pytorch.head_echofm import EchoFMHead
from echofm_jax.pytorch.recipe import Recipe

# Decoder and projector: no head reads them but a temporal one, for which the latter stays as it is.
UNUSED = ("decoder", "mask_token", "prj_norm")


def choose(model: EchoFMHead, recipe: Recipe) -> list[dict]:
    """Say of each parameter whether it learns; groups of those that do, as torch.optim takes them.

    LoRA (arXiv 2106.09685) is put on the queries and values of every block; see `merge`.
    """
    encoder = model.encoder
    encoder.requires_grad_(recipe.mode == "full")
    if recipe.mode == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        names = r"blocks\.\d+\.attn\.[qv]"  # the whole name: neither decoder's nor projector's
        config = LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, target_modules=names)
        inject_adapter_in_model(config, encoder)  # its parameters learn, no others
    elif recipe.mode == "adapter":
        for block in encoder.blocks:
            block.mlp.down.requires_grad_(True)
            block.mlp.up.requires_grad_(True)
    elif recipe.mode == "prompt":
        for block in encoder.blocks:
            block.prompts.requires_grad_(True)
    for name, parameter in encoder.named_parameters():
        if name.startswith(UNUSED):
            parameter.requires_grad_(False)
    groups = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kernel = parameter.ndim > 1 and name.endswith("weight")  # no bias, no learned token
            decay = recipe.weight_decay if kernel else 0.0
            lr = recipe.lr * scale(name, len(encoder.blocks), recipe)
            group = groups.setdefault((lr, decay), {"params": [], "lr": lr, "weight_decay": decay})
            group["params"].append(parameter)
    return list(groups.values())


def scale(name: str, depth: int, recipe: Recipe) -> float:
    """Of the learning rate: smaller the further from the head (arXiv 2106.08254), in mode full."""
    if recipe.mode != "full" or not name.startswith("encoder."):
        return 1.0
    if name.startswith("encoder.blocks."):
        layer = int(name.split(".")[2]) + 1
    else:
        layer = depth + 1 if name.startswith("encoder.norm.") else 0
    return recipe.layer_decay ** (depth + 1 - layer)


def merge(model: nn.Module) -> None:
    """Put what LoRA learned into the weights themselves: the model is as it was built."""
    from peft.tuners.lora import LoraLayer

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.base_layer)
