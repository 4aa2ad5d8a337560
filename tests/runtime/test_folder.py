"""What a model folder says about itself."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.folder import read_folder


def write(folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, list[int], int]], **files: Any) -> Path:
    """A folder with a safetensors file whose tensors are all zero."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    offset = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    return folder


HALF = {"w": ("F16", [4, 8], 64)}


def test_sizes_are_read_from_the_headers(tmp_path: Path) -> None:
    folder = read_folder(write(tmp_path / "m", {"model_type": "llama"}, HALF))
    assert folder.weight_bytes(as_float32=False) == 64
    assert folder.weight_bytes(as_float32=True) == 128


def test_quantised_weights_grow_to_their_unpacked_size(tmp_path: Path) -> None:
    # 4 bits: a word of 32 bits holds eight weights. 16 x 64 weights, groups of 64.
    tensors = {
        "w.weight": ("U32", [16, 8], 512),
        "w.scales": ("F16", [16, 1], 32),
        "w.biases": ("BF16", [16, 1], 32),
    }
    config = {"model_type": "llama", "quantization": {"bits": 4, "group_size": 64}}
    folder = read_folder(write(tmp_path / "m", config, tensors))
    assert folder.weight_bytes(as_float32=False) == 576
    assert folder.weight_bytes(as_float32=True) == (16 * 64 + 16 + 16) * 4


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"max_position_embeddings": 2048}, 2048),
        ({"text_config": {"max_position_embeddings": 512}, "max_position_embeddings": 4}, 512),
        ({"max_seq_len": 100}, 100),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": 10**30}, 4096),
        ({}, 4096),
    ],
)
def test_the_window_is_found_under_its_many_names(tmp_path: Path, config: dict[str, Any], window: int) -> None:
    assert read_folder(write(tmp_path / "m", {"model_type": "x", **config}, HALF)).context_window == window


def test_end_tokens_are_gathered_from_both_files(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "m", {"model_type": "x", "eos_token_id": 2}, HALF, generation_config={"eos_token_id": [5, 2]}
    )
    assert read_folder(folder).end_ids() == (5, 2)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"model_type": 3}', "{}"])
def test_a_damaged_configuration_is_a_load_error(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "m", {"model_type": "x"}, HALF)
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelLoadError) as caught:
        read_folder(folder)
    assert caught.value.model_path == str(folder.resolve())
    assert caught.value.hint


@given(content=st.binary(max_size=200))
def test_no_content_of_a_weight_file_breaks_the_reader(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = write(tmp_path_factory.mktemp("m"), {"model_type": "x"}, HALF)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ModelLoadError, match="not a whole safetensors file"):
        read_folder(folder)


@given(
    header=st.recursive(st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_no_header_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, header: Any) -> None:
    folder = write(tmp_path_factory.mktemp("m"), {"model_type": "x"}, HALF)
    text = json.dumps({"w": header} if header is not None else header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(ModelLoadError, match="not a whole safetensors file"):
        read_folder(folder)
