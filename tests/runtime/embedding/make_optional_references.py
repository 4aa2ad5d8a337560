"""Writes tiny random models of the types that mlx-embeddings serves, with what transformers makes of them.

    pip install "sentence-transformers==6.2.0" "transformers==5.23.0" torch
    PYTHONPATH=. python tests/runtime/embedding/make_optional_references.py

Each folder under data/optional_engine is a whole model, and has besides

    hidden.npz       ids, mask: a batch padded at the end; hidden (B, T, 32): its last hidden states, zeros where padded
    vectors.npz      what sentence-transformers makes of `texts`, one by one: plain, and with the query's prompt
    reference.json   the texts

transformers has no `llama_bidirec`: its Llama without the causal mask is the reference.
"""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import AutoModel, Lfm2Config, LlamaConfig

from tests.runtime.embedding.make_sentence_references import (
    TEXTS,
    byte_level,
    pooled,
    small,
    transformer,
    write_json,
)

ROOT = Path(__file__).parent / "data" / "optional_engine"
LENGTHS = (24, 17, 5, 1)
QUERY = "query: "


def main() -> None:
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    lfm2 = {
        "head_dim": None,
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
        "block_multiple_of": 8,
        "rope_theta": 700.0,
    }
    _make("lfm2", _without_nulls(small(Lfm2Config, **lfm2)), [pooled("lasttoken"), modules.Normalize()])
    llama3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0}
    llama3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    llama = small(LlamaConfig, rope_parameters=llama3, rms_norm_eps=1e-3, is_causal=False)
    _make("llama_bidirec", llama, [pooled("mean", include_prompt=False), modules.Normalize()])


def _without_nulls(config: Any) -> Any:
    """transformers reads `head_dim` off the configuration object, where `None` would count."""
    del config.head_dim
    return config


def _make(model_type: str, config: Any, parts: list[Any]) -> None:
    target = ROOT / model_type
    with tempfile.TemporaryDirectory() as folder:
        transformer(config, byte_level("llama"), Path(folder))
        first = modules.Transformer(folder)
        whole = SentenceTransformer(modules=[first, *parts], device="cpu", prompts={"query": QUERY})
        whole.save(str(target), create_model_card=False)
        np.savez_compressed(target / "hidden.npz", **_hidden(Path(folder), config.vocab_size))
    model = SentenceTransformer(str(target), device="cpu")
    vectors: dict[str, Any] = {
        case: np.concatenate([model.encode([text], prompt=prompt) for text in TEXTS])
        for case, prompt in {"plain": "", "query": QUERY}.items()
    }
    np.savez_compressed(target / "vectors.npz", **vectors)
    write_json(target / "reference.json", {"texts": TEXTS})
    (target / "README.md").unlink(missing_ok=True)
    values = json.loads((target / "config.json").read_text(encoding="utf-8"))
    values.pop("is_causal", None)
    write_json(target / "config.json", {**values, "model_type": model_type})


def _hidden(folder: Path, vocabulary_size: int) -> dict[str, Any]:
    """The last hidden states of a batch, and that no row of it depends on its padding."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    torch.manual_seed(1)
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(6, vocabulary_size, mask.shape) * mask
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask.int()).last_hidden_state * mask[:, :, None]
        for row, length in enumerate(LENGTHS):
            alone = model(input_ids=ids[row : row + 1, :length]).last_hidden_state
            assert torch.allclose(alone[0], hidden[row, :length], atol=1e-5), (folder, row)
        changed = ids.clone()
        changed[0, -1] = 6 if changed[0, -1] != 6 else 7
        first = model(input_ids=changed, attention_mask=mask.int()).last_hidden_state[0, 0]
        sees_the_last = not torch.allclose(first, hidden[0, 0], atol=1e-5)
        assert sees_the_last != getattr(model.config, "is_causal", True), "the mask is not the one that was asked for"
    return {"ids": ids.numpy().astype(np.int32), "mask": mask.numpy(), "hidden": hidden.numpy()}


if __name__ == "__main__":
    main()
