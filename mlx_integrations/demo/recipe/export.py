"""Writes a trained checkpoint as a model folder that mlx-lm loads."""

from __future__ import annotations

import json
from pathlib import Path

import torch  # type: ignore[import-not-found, unused-ignore]
from safetensors.torch import save_file

from mlx_integrations.demo.recipe.render import MODEL_FOLDER
from mlx_integrations.demo.recipe.shape import SHAPE


def export(checkpoint: Path, folder: Path = MODEL_FOLDER) -> None:
    """Writes the averaged weights, config.json and generation_config.json into `folder`.

    Args:
        checkpoint: What training saved.
        folder: A folder that already holds the tokenizer and the chat template.
    """
    weights = torch.load(checkpoint, weights_only=True)["average"]
    tensors = {name: tensor.float().contiguous() for name, tensor in weights.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "mlx"})
    (folder / "model.safetensors").chmod(0o644)
    config = SHAPE.config()
    generation = {
        "do_sample": False,
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "max_new_tokens": 256,
    }
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
