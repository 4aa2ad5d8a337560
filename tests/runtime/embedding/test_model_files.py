"""What an embedding model's folder says is read as sentence-transformers reads it, or refused by name."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlx_integrations.errors import ModelLoadError
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.embedding.module_files import DenseSpec, LayerNormSpec, NormalizeSpec
from tests.runtime.embedding.sentence_models import NAMES, assemble, edit, reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """BERT, mean, Normalize."""
    return assemble("bert-mean-normalize", tmp_path / "model")


def refused(folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        read_sentence_model(folder)
    assert caught.value.hint and caught.value.model_path
    return str(caught.value)


def set_chain(folder: Path, *types: str) -> None:
    paths = ["", "1_Pooling", "2_Normalize", "3_More"]
    rows = [{"idx": i, "name": str(i), "path": paths[i], "type": kind} for i, kind in enumerate(types)]
    (folder / "modules.json").write_text(json.dumps(rows))


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_that_sentence_transformers_loads(name: str, tmp_path: Path) -> None:
    expected = reference(name).values

    model = read_sentence_model(assemble(name, tmp_path / "model"))

    assert model.max_tokens == expected["max_tokens"]
    assert model.dimensions == model.capabilities.dimensions == expected["dimensions"]
    assert dict(model.prompts) == expected["prompts"]
    assert model.default_prompt_name == expected["default_prompt_name"]
    assert model.similarity == model.capabilities.similarity == expected["similarity"]
    assert model.capabilities.query_prompt == expected["prompts"]["query"]
    assert model.capabilities.document_prompt == expected["prompts"]["document"]


def test_modules_after_pooling_are_read_in_order(tmp_path: Path) -> None:
    dense = read_sentence_model(assemble("bert-dense", tmp_path / "dense"))
    norm = read_sentence_model(assemble("bert-layernorm", tmp_path / "norm"))

    first, second, third = dense.modules
    assert isinstance(first, DenseSpec) and (first.activation, first.bias, first.residual) == ("Tanh", True, False)
    assert isinstance(second, DenseSpec) and (second.activation, second.bias, second.residual) == ("GELU", False, True)
    assert isinstance(third, DenseSpec) and (third.in_features, third.out_features) == (24, 16)
    assert not dense.normalize
    assert [type(module) for module in norm.modules] == [NormalizeSpec, LayerNormSpec]
    assert not norm.normalize  # LayerNorm comes after it


def test_flags_and_names_of_pooling_mean_the_same(tmp_path: Path) -> None:
    old = read_sentence_model(assemble("bert-concatenated", tmp_path / "old"))
    new = read_sentence_model(assemble("bert-without-prompt", tmp_path / "new"))

    assert old.pooling.modes == ("cls", "max", "mean") and old.pooling.dimensions == 96
    assert new.pooling.modes == ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    assert old.capabilities.pooling == "cls+max+mean"
    assert old.pooling.include_prompt and not new.pooling.include_prompt


def test_reading_takes_neither_mlx_nor_transformers(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from mlx_integrations.runtime.embedding.model_files import read_sentence_model\n"
        "from mlx_integrations.runtime.embedding.text import TextEncoder\n"
        "TextEncoder(read_sentence_model(Path(sys.argv[1]))).encode(['hello'])\n"
        "print([name for name in ('mlx.core', 'mlx_lm', 'transformers', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_transformer_may_lie_in_a_folder_of_its_own(folder: Path) -> None:
    inner = folder / "0_Transformer"
    inner.mkdir()
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
    ):
        (folder / name).rename(inner / name)
    rows = json.loads((folder / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(rows))

    model = read_sentence_model(folder)

    assert model.path == folder and model.folder.path == inner
    assert model.max_tokens == 24


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (
            {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False},
            ["`pooling_mode_cls_token`", "`pooling_mode_mean_tokens`", "off"],
        ),
        (
            {"embedding_dimension": 32, "pooling_mode": "mean", "pooling_mode_cls_token": True},
            ["`pooling_mode`", "`mean`", "`pooling_mode_cls_token`"],
        ),
        (
            {"embedding_dimension": 32, "pooling_mode": "cls", "pooling_mode_cls_token": False},
            ["`pooling_mode`", "`cls`", "no flag"],
        ),
        ({"word_embedding_dimension": 48, "pooling_mode": "mean"}, ["`word_embedding_dimension` = 48", "32"]),
        ({"embedding_dimension": 32, "word_embedding_dimension": 31}, ["`word_embedding_dimension` = 31"]),
        ({"embedding_dimension": 32, "pooling_mode": "median"}, ["`median`", "`weightedmean`"]),
        ({"embedding_dimension": 32, "pooling_mode": []}, ["`pooling_mode`"]),
        ({"embedding_dimension": 32, "pooling_mode_attention": True}, ["`pooling_mode_attention`"]),
        ({"embedding_dimension": 32, "pooling_mode_cls_token": "yes"}, ["`pooling_mode_cls_token` = `yes`"]),
        ({"embedding_dimension": True, "pooling_mode": "cls"}, ["`embedding_dimension` = `True`"]),
    ],
)
def test_contradictory_pooling_is_refused_with_file_and_flags(
    folder: Path, content: dict[str, Any], named: list[str]
) -> None:
    file = folder / "1_Pooling" / "config.json"
    file.write_text(json.dumps(content))

    message = refused(folder)

    assert str(file) in message
    assert all(part in message for part in named), message


def test_pooling_that_says_nothing_is_the_mean(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32}))
    assert read_sentence_model(folder).pooling.modes == ("mean",)


def test_flags_that_repeat_the_name_are_no_contradiction(folder: Path) -> None:
    edit(folder / "1_Pooling" / "config.json", pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    assert read_sentence_model(folder).pooling.modes == ("mean",)


TRANSFORMER = "sentence_transformers.models.Transformer"
POOLING = "sentence_transformers.models.Pooling"


@pytest.mark.parametrize(
    "kind",
    [
        *(
            f"sentence_transformers.models.{name}"
            for name in "Asym BoW CLIPModel CNN LSTM StaticEmbedding WeightedLayerPooling WordEmbeddings".split()
        ),
        "sentence_transformers.models.WordWeights.WordWeights",
        "sentence_transformers.base.modules.router.Router",
        "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
        "sentence_transformers.multi_vector_encoder.modules.token_pooling.Pooling",
        "modeling_custom.Pooling",
        "pylate.models.Dense.Dense",
        "Pooling",
        "",
    ],
)
def test_other_modules_are_refused_by_name(folder: Path, kind: str) -> None:
    set_chain(folder, TRANSFORMER, POOLING, kind)
    message = refused(folder)
    assert f"`{kind}`" in message and "modules.json" in message


@pytest.mark.parametrize(
    "types",
    [[], [TRANSFORMER], [POOLING, TRANSFORMER], [TRANSFORMER, TRANSFORMER], [TRANSFORMER, POOLING, POOLING]],
)
def test_another_order_of_modules_is_refused(folder: Path, types: list[str]) -> None:
    set_chain(folder, *types)
    message = refused(folder)
    assert "modules.json" in message and "begin with Transformer, Pooling" in message


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b", "..\\other", "C:\\models"])
def test_folders_outside_the_model_are_not_touched(folder: Path, path: str) -> None:
    rows = json.loads((folder / "modules.json").read_text())
    rows[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(rows))
    assert "outside the model" in refused(folder)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"activation_function": "torch.nn.modules.activation.Softsign"}, "`torch.nn.modules.activation.Softsign`"),
        ({"activation_function": "os.system"}, "`os.system`"),
        ({"in_features": 40}, "`in_features` = 40"),
        ({"out_features": 0}, "`out_features` = `0`"),
        ({"out_features": None}, "`out_features`"),
        ({"bias": 1}, "`bias` = `1`"),
        ({"module_input_name": "token_embeddings"}, "`token_embeddings`"),
    ],
)
def test_a_dense_layer_that_cannot_be_run_is_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    folder = assemble("bert-dense", tmp_path / "model")
    edit(folder / "2_Dense" / "config.json", **changed)
    message = refused(folder)
    assert named in message and str(folder / "2_Dense" / "config.json") in message


def test_a_dense_layer_without_a_named_activation_has_torchs_default(tmp_path: Path) -> None:
    folder = assemble("bert-dense", tmp_path / "model")
    edit(folder / "2_Dense" / "config.json", "activation_function")
    first = read_sentence_model(folder).modules[0]
    assert isinstance(first, DenseSpec) and first.activation == "Tanh"


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = assemble("bert-dense", tmp_path / "model")
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    message = refused(folder)
    assert "pytorch_model.bin" in message and "mlxi models import" in message


def test_a_module_whose_files_are_missing_is_refused(tmp_path: Path) -> None:
    folder = assemble("bert-layernorm", tmp_path / "model")
    (folder / "3_LayerNorm" / "model.safetensors").unlink()
    assert "has no model.safetensors" in refused(folder)
    (folder / "3_LayerNorm" / "config.json").unlink()
    assert str(folder / "3_LayerNorm" / "config.json") in refused(folder)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"surprise": 1}, "`surprise`"),
        ({"transformer_task": "fill-mask"}, "`fill-mask`"),
        ({"module_output_name": "sentence_embedding"}, "`sentence_embedding`"),
        ({"query_expansion": {"length": 32}}, "`query_expansion`"),
        ({"query_length": 32}, "`query_length` = `32`"),
        ({"tokenizer_name_or_path": "other/model"}, "`other/model`"),
        ({"modality_config": {"text": {}, "message": {}}}, "chat template"),
        (
            {"modality_config": {"text": {"method": "get_text_features", "method_output_name": None}}},
            "get_text_features",
        ),
        ({"model_args": {"quantization_config": {}}}, "`quantization_config`"),
        ({"tokenizer_args": {"add_prefix_space": True}}, "`add_prefix_space`"),
        ({"processing_kwargs": {"text": {"padding": "max_length"}}}, "`text.padding`"),
        ({"max_seq_length": "long"}, "`max_seq_length` = `long`"),
        ({"max_seq_length": -1}, "`max_seq_length` = `-1`"),
        ({"do_lower_case": "yes"}, "`do_lower_case` = `yes`"),
    ],
)
def test_settings_that_are_not_supported_are_refused_by_name(
    folder: Path, settings: dict[str, Any], named: str
) -> None:
    edit(folder / "sentence_bert_config.json", **settings)
    message = refused(folder)
    assert named in message and "sentence_bert_config.json" in message


@pytest.mark.parametrize(
    ("settings", "tokenizer", "config", "expected"),
    [
        ({"max_seq_length": 17}, {"model_max_length": 30}, {}, 17),
        ({"max_seq_length": 17.0}, {}, {}, 17),
        ({"max_seq_length": None}, {"model_max_length": 30}, {}, 30),
        ({}, {"model_max_length": 30}, {"max_position_embeddings": 20}, 20),
        ({}, {"model_max_length": 10**30}, {"max_position_embeddings": 40}, 40),
        ({}, {"model_max_length": 1e30}, {}, 40),
        ({}, {"model_max_length": None, "max_len": 12}, {}, 12),
        ({"max_seq_length": 17, "processor_kwargs": {"model_max_length": 9}}, {}, {}, 9),
        ({"max_seq_length": 17, "tokenizer_args": {"model_max_length": 9}}, {}, {}, 9),
        ({"processing_kwargs": {"text": {"max_length": 8}}}, {}, {}, 8),
        ({"max_seq_length": 1000}, {}, {}, 40),  # torch would fail on the 41st position
        ({}, {"model_max_length": 1000}, {"max_position_embeddings": None, "model_type": "modernbert"}, 1000),
        ({}, {"model_max_length": None}, {"model_type": "roberta", "max_position_embeddings": 514}, 513),
        ({}, {"model_max_length": 512}, {"model_type": "xlm-roberta", "pad_token_id": 1}, 38),
    ],
)
def test_texts_are_cut_where_sentence_transformers_cuts_them(
    folder: Path, settings: dict[str, Any], tokenizer: dict[str, Any], config: dict[str, Any], expected: int
) -> None:
    edit(folder / "sentence_bert_config.json", **settings)
    edit(folder / "tokenizer_config.json", **tokenizer)
    edit(folder / "config.json", **config)
    assert read_sentence_model(folder).max_tokens == expected


def test_older_names_of_the_settings_file_are_found(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    edit(folder / "sentence_roberta_config.json", max_seq_length=11, do_lower_case=True)
    model = read_sentence_model(folder)
    assert (model.max_tokens, model.do_lower_case) == (11, True)


def test_loading_options_are_no_obstacle_and_configuration_options_count(folder: Path) -> None:
    edit(
        folder / "sentence_bert_config.json",
        model_args={"attn_implementation": "eager", "torch_dtype": "float16"},
        config_args={"trust_remote_code": True, "is_causal": False},
        processing_kwargs={},
    )
    assert read_sentence_model(folder).folder.config["is_causal"] is False


def test_an_adapter_is_not_a_model(folder: Path) -> None:
    edit(folder / "adapter_config.json", base_model_name_or_path="x")
    assert "adapter_config.json" in refused(folder)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "SparseEncoder"}, "`SparseEncoder`"),
        ({"default_prompt_name": "topic"}, "`topic`"),
        ({"prompts": {"query": 3}}, "`query` = `3`"),
        ({"prompts": ["query"]}, "`prompts`"),
        ({"truncate_dim": 0}, "`truncate_dim` = `0`"),
    ],
)
def test_impossible_settings_of_the_model_are_refused(folder: Path, changed: dict[str, Any], named: str) -> None:
    edit(folder / "config_sentence_transformers.json", **changed)
    message = refused(folder)
    assert named in message and "config_sentence_transformers.json" in message


def test_a_prompt_that_encode_document_does_not_use_is_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = folder / "config_sentence_transformers.json"
    edit(file, prompts={"query": "query: ", "passage": "passage: ", "none": None})

    with caplog.at_level(logging.WARNING):
        model = read_sentence_model(folder)

    assert model.capabilities.query_prompt == "query: "
    assert model.capabilities.document_prompt == ""
    assert model.prompts["none"] == ""
    assert "`passage`" in caplog.text and str(file) in caplog.text


def test_a_model_may_ask_to_be_truncated(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", truncate_dim=8, similarity_fn_name="maxsim")
    model = read_sentence_model(folder)
    assert model.dimensions == 32
    assert model.capabilities.dimensions == 8
    assert model.similarity == "cosine"


def test_weights_of_further_modules_are_counted(tmp_path: Path) -> None:
    model = read_sentence_model(assemble("bert-layernorm", tmp_path / "model"))
    assert model.weight_bytes(as_float32=True) == model.folder.weight_bytes(as_float32=True) + 2 * 32 * 4


def test_a_plain_transformer_is_pooled_by_the_mean_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = assemble("bert-plain", tmp_path / "model")
    with caplog.at_level(logging.WARNING):
        model = read_sentence_model(folder)
    assert model.pooling.modes == ("mean",) and not model.modules
    assert "modules.json" in caplog.text and "`mean`" in caplog.text


@pytest.mark.parametrize(("is_causal", "mode"), [(True, "lasttoken"), (False, "mean")])
def test_a_plain_model_that_writes_is_pooled_at_its_last_token(tmp_path: Path, is_causal: bool, mode: str) -> None:
    folder = assemble("bert-plain", tmp_path / "model")
    edit(folder / "config.json", architectures=["Qwen3ForCausalLM"], is_causal=is_causal)
    assert read_sentence_model(folder).pooling.modes == (mode,)


def test_a_plain_chat_model_is_refused(tmp_path: Path) -> None:
    folder = assemble("bert-plain", tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert "chat template" in refused(folder)


def test_a_plain_transformer_of_unknown_size_is_refused(tmp_path: Path) -> None:
    folder = assemble("bert-plain", tmp_path / "model")
    edit(folder / "config.json", "hidden_size")
    assert "`hidden_size`" in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "modules.json",
        "config.json",
        "tokenizer_config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Normalize/config.json",
    ],
)
@pytest.mark.parametrize("content", [b"{", b"3", b"[1]", b'{"a": "\xff"}'])
def test_a_damaged_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert str(folder / name) in refused(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refused(tmp_path / "nothing")
