"""Of a repository with everything in it, a model's own files are taken, once."""

import fnmatch

from mlx_integrations.manager.needed_files import choose_files, is_weight_file

SENTENCE_TRANSFORMERS = """.gitattributes 1_Pooling/config.json 2_Dense/config.json 2_Dense/model.safetensors
2_Dense/pytorch_model.bin README.md config.json config_sentence_transformers.json data_config.json flax_model.msgpack
model.safetensors modules.json onnx/model.onnx onnx/model_O1.onnx openvino/openvino_model.bin
openvino/openvino_model.xml pytorch_model.bin rust_model.ot sentence_bert_config.json special_tokens_map.json
tf_model.h5 tokenizer.json tokenizer_config.json train_script.py vocab.txt""".split()

# Names of meta-llama's own repositories and of mistralai's, which keep the original beside the converted weights.
WITH_ORIGINALS = """.gitattributes LICENSE.txt README.md config.json consolidated.safetensors generation_config.json
model-00001-of-00002.safetensors model-00002-of-00002.safetensors model.safetensors.index.json params.json
original/consolidated.00.pth original/params.json original/tokenizer.model tokenizer.json tokenizer.model
tokenizer.model.v3 tokenizer_config.json chat_template.jinja images/plot.png""".split()


def test_an_embedding_model_comes_with_its_modules_and_without_its_copies() -> None:
    left = set(SENTENCE_TRANSFORMERS) - set(choose_files(SENTENCE_TRANSFORMERS))
    assert left == set(
        """.gitattributes 2_Dense/pytorch_model.bin flax_model.msgpack onnx/model.onnx onnx/model_O1.onnx
        openvino/openvino_model.bin openvino/openvino_model.xml pytorch_model.bin rust_model.ot tf_model.h5""".split()
    )


def test_weights_that_are_there_twice_come_once() -> None:
    left = set(WITH_ORIGINALS) - set(choose_files(WITH_ORIGINALS))
    assert left == set(
        """.gitattributes consolidated.safetensors original/consolidated.00.pth original/params.json
        original/tokenizer.model tokenizer.model.v3 images/plot.png""".split()
    )


def test_everything_that_mlx_lm_would_load_is_among_them() -> None:
    from mlx_integrations.runtime._mlx import mx  # noqa: F401  (first: it guards the import of mlx_lm)

    from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS  # isort: skip

    top = [path for path in SENTENCE_TRANSFORMERS + WITH_ORIGINALS if "/" not in path]
    wanted = {path for path in top if any(fnmatch.fnmatch(path, pattern) for pattern in DEFAULT_ALLOW_PATTERNS)}
    assert wanted <= {*choose_files(SENTENCE_TRANSFORMERS), *choose_files(WITH_ORIGINALS)}


def test_without_safetensors_the_files_that_can_be_converted_are_taken() -> None:
    paths = ["config.json", "pytorch_model.bin", "training_args.bin", "optimizer.pt", "onnx/model.onnx"]
    assert choose_files(paths) == ("config.json", "pytorch_model.bin")


def test_one_of_many_gguf_files_is_taken_when_it_is_named() -> None:
    paths = ["README.md", "model-Q4_0.gguf", "model-Q8_0.gguf"]
    assert choose_files(paths) == ("README.md",)
    assert choose_files(paths, include=["*Q4_0.gguf"]) == ("README.md", "model-Q4_0.gguf")
    assert choose_files(paths, all_files=True) == tuple(paths)


def test_weights_are_told_from_what_training_left() -> None:
    assert is_weight_file("2_Dense/model.safetensors") and is_weight_file("pytorch_model.bin")
    assert not any(is_weight_file(path) for path in ("training_args.bin", "config.json", "optimizer.pt"))
