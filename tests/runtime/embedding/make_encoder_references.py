"""Write tiny random checkpoints with the hidden states that transformers computes for them, as test data.

Run by hand, with torch and transformers 5 installed: `python tests/runtime/embedding/make_encoder_references.py`.
Each folder under data/encoders gets config.json, model.safetensors and reference.npz:

    ids, mask          a batch of rows of different lengths, padded at the end
    stages             (layers + 1, B, T, hidden): after the embeddings and after every layer; zeros where padded
    <name>_ids, <name>_hidden   one more row, unpadded, and its last hidden states
    act_<activation>   the last hidden states of the batch with another activation
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

DATA = Path(__file__).parent / "data" / "encoders"
LENGTHS = (24, 17, 5, 2)
VOCABULARY_SIZE = 200
FIRST_WORD = 6  # ids below are special tokens

COMMON = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
ROBERTA = {**COMMON, "max_position_embeddings": 40, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1}
MODERN = {
    **COMMON,
    "global_attn_every_n_layers": 2,
    "local_attention": 8,
    "max_position_embeddings": 512,
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 700.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 60.0},
    },
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "cls_token_id": 2,
    "sep_token_id": 3,
}
NOMIC = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,  # the smallest width that Nomic's own code can have
    "max_position_embeddings": 32,
}


def main() -> None:
    torch.set_num_threads(1)
    bert = transformers.BertConfig(**COMMON, max_position_embeddings=40, layer_norm_eps=1e-12)
    _write("bert", transformers.BertModel(bert), activations=("gelu_new", "relu", "silu", "quick_gelu"))
    for name, kind in (("roberta", "Roberta"), ("xlm_roberta", "XLMRoberta"), ("camembert", "Camembert")):
        config = getattr(transformers, f"{kind}Config")(**ROBERTA)
        _write(name, getattr(transformers, f"{kind}Model")(config), padding_id=1, has_inner_padding=True)
    mpnet = transformers.MPNetConfig(**COMMON, max_position_embeddings=190)
    _write("mpnet", transformers.MPNetModel(mpnet), padding_id=1, further={"long": 180})
    distilbert = transformers.DistilBertConfig(
        vocab_size=VOCABULARY_SIZE, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40
    )
    _write("distilbert", transformers.DistilBertModel(distilbert))
    _write("modernbert", transformers.ModernBertModel(transformers.ModernBertConfig(**MODERN)), further={"long": 300})
    biased = {**MODERN, "vocab_size": 64, "hidden_activation": "silu"}
    biased |= {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
    _write("modernbert_biased", transformers.ModernBertModel(transformers.ModernBertConfig(**biased)))
    _write("nomic", transformers.NomicBertModel(transformers.NomicBertConfig(**NOMIC)), further={"long": 60})
    stretched = {"rope_theta": 1000.0, "rope_type": "dynamic", "factor": 2.0}
    nomic = transformers.NomicBertConfig(**{**NOMIC, "num_hidden_layers": 1, "rope_parameters": stretched})
    _write("nomic_stretched", transformers.NomicBertModel(nomic), further={"long": 60, "longer": 90})
    _write_plain_nomic()


def _write(
    name: str,
    model: Any,
    *,
    padding_id: int = 0,
    has_inner_padding: bool = False,
    further: dict[str, int] | None = None,
    activations: tuple[str, ...] = (),
) -> None:
    """Save a model with random weights and what it computes."""
    _randomize(model)
    folder = _emptied(DATA / name)
    model.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    reference = _reference(model, padding_id, has_inner_padding, further or {})
    for activation in activations:
        config = copy.deepcopy(model.config)
        config.hidden_act = activation
        other = type(model)(config)
        other.load_state_dict(model.state_dict())
        reference[f"act_{activation}"] = _stages(other.eval(), reference["ids"], reference["mask"])[-1]
    np.savez_compressed(folder / "reference.npz", **reference)


def _reference(model: Any, padding_id: int, has_inner_padding: bool, further: dict[str, int]) -> dict[str, Any]:
    generator = np.random.default_rng(1)
    words = model.config.vocab_size
    mask = np.arange(max(LENGTHS))[None] < np.array(LENGTHS)[:, None]
    ids = np.where(mask, generator.integers(FIRST_WORD, words, mask.shape), padding_id)
    if has_inner_padding:
        ids[1, 7] = padding_id  # a text may contain the padding token's name
    reference = {"ids": ids.astype(np.int32), "mask": mask, "stages": _stages(model, ids, mask)}
    for name, tokens in further.items():
        row = generator.integers(FIRST_WORD, words, (1, tokens))
        reference[f"{name}_ids"] = row.astype(np.int32)
        reference[f"{name}_hidden"] = _stages(model, row, np.ones_like(row, dtype=bool))[-1]
    return reference


def _stages(model: Any, ids: Any, mask: Any) -> Any:
    with torch.no_grad():
        output = model.eval()(
            input_ids=torch.from_numpy(ids.astype(np.int64)),
            attention_mask=torch.from_numpy(mask.astype(np.int64)),
            output_hidden_states=True,
        )
    # What comes last has gone through the final norm, if there is one.
    stages = torch.stack([*output.hidden_states[:-1], output.last_hidden_state]).numpy()
    return np.where(mask[None, :, :, None], stages, 0.0).astype(np.float32)


def _randomize(model: Any) -> None:
    """Wide weights, so that attention prefers some tokens and activations leave their linear range."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            tensor.data.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
        else:
            is_table = "embeddings" in name or "relative" in name
            tensor.data.copy_(noise * (1.0 if is_table else 1.0 * tensor.shape[-1] ** -0.5))


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


class _PlainFeedForward(torch.nn.Module):  # type: ignore[misc]
    """The part that Nomic's own code has in a model whose `activation_function` is no gate."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(hidden_size, inner_size)
        self.fc2 = torch.nn.Linear(inner_size, hidden_size)

    def forward(self, x: Any) -> Any:
        return self.fc2(torch.nn.functional.gelu(self.fc1(x)))


def _write_plain_nomic() -> None:
    """A model that only Nomic's own code can configure: no gate, and biases; made from transformers' parts."""
    hidden_size, inner_size, layers, heads = 16, 40, 2, 2
    config = transformers.NomicBertConfig(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )
    model = transformers.NomicBertModel(config)
    for layer in model.layers:
        layer.mlp = _PlainFeedForward(hidden_size, inner_size)
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(layer.self_attn, part, torch.nn.Linear(hidden_size, hidden_size))
    _randomize(model)
    folder = _emptied(DATA / "nomic_plain")
    weights = model.state_dict()
    tensors = {name: value for name, value in weights.items() if name.startswith("embeddings.") and "Norm" not in name}
    renamed = {"embeddings.LayerNorm": "emb_ln"}
    for number in range(layers):
        ours, theirs = f"layers.{number}", f"encoder.layers.{number}"
        for kind in ("weight", "bias"):
            parts = [weights[f"{ours}.self_attn.{part}_proj.{kind}"] for part in "qkv"]
            tensors[f"{theirs}.attn.Wqkv.{kind}"] = torch.cat(parts)
        renamed |= {
            f"{ours}.self_attn.o_proj": f"{theirs}.attn.out_proj",
            f"{ours}.mlp.fc1": f"{theirs}.mlp.fc1",
            f"{ours}.mlp.fc2": f"{theirs}.mlp.fc2",
            f"{ours}.post_attention_layernorm": f"{theirs}.norm1",
            f"{ours}.post_mlp_layernorm": f"{theirs}.norm2",
        }
    tensors |= {
        f"{new}.{kind}": weights[f"{old}.{kind}"] for old, new in renamed.items() for kind in ("weight", "bias")
    }
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    nomics = {
        "model_type": "nomic_bert",
        "activation_function": "gelu",
        "n_embd": hidden_size,
        "n_head": heads,
        "n_inner": inner_size,
        "n_layer": layers,
        "n_positions": 2048,
        "rotary_emb_fraction": 1.0,
        "type_vocab_size": 1,
        "vocab_size": VOCABULARY_SIZE,
    }
    (folder / "config.json").write_text(json.dumps(nomics, indent=2) + "\n", encoding="utf-8")
    np.savez_compressed(folder / "reference.npz", **_reference(model, 0, False, {}))


if __name__ == "__main__":
    main()
