"""Architectures served through mlx-embeddings: vectors, refusals, and an import that leaves the process alone.

The tests run on a stand-in with the same interface, made of mlx-lm's layers, and on mlx-embeddings where it is
installed: `pip install "mlx-integrations[mlx-embeddings]"`.
"""

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mlx_integrations.errors import ModelLoadError, UnsupportedArchitectureError
from mlx_integrations.runtime.embedding.model_files import read_sentence_model
from mlx_integrations.runtime.engine import Runtime
from mlx_integrations.runtime.folder import ModelFolder, read_folder
from mlx_integrations.settings import RuntimeSettings
from tests.runtime.embedding.sentence_models import edit, embed, on_worker, scaled

Array = NDArray[Any]

DATA = Path(__file__).parent / "data" / "optional_engine"
TYPES = ("lfm2", "llama_bidirec")
IS_INSTALLED = importlib.util.find_spec("mlx_embeddings") is not None
INSTALL = 'pip install "mlx-integrations[mlx-embeddings]"'

STAND_IN = {
    "__init__.py": """
import os, resource, warnings
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
warnings.filterwarnings("ignore")
""",
    "utils.py": """
import importlib
def _get_classes(config):
    module = importlib.import_module("mlx_embeddings.models." + config["model_type"])
    return module.Model, module.ModelArgs, None, None
""",
    "models/__init__.py": "",
    "models/lfm2.py": """
import mlx.nn as nn
from mlx_lm.models import lfm2
from mlx_lm.models.lfm2 import ModelArgs
class Model(lfm2.Model):
    def __init__(self, args):
        super().__init__(args)
        self.dense = [nn.Linear(args.block_dim, 8, bias=False)]
    def sanitize(self, weights):
        return super().sanitize({"model." + name: value for name, value in weights.items()})
""",
    "models/llama_bidirec.py": """
import inspect
import mlx.nn as nn
from mlx_lm.models import llama
class ModelArgs(llama.ModelArgs):
    @classmethod
    def from_dict(cls, config):
        return cls(**{key: config[key] for key in inspect.signature(cls).parameters if key in config})
class Layers(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab_size, args.hidden_size)
        self.layers = [llama.TransformerBlock(args) for _ in range(args.num_hidden_layers)]
        self.norm = nn.RMSNorm(args.hidden_size, args.rms_norm_eps)
    def __call__(self, inputs, mask=None):
        hidden = self.embed_tokens(inputs)
        for layer in self.layers:
            hidden = layer(hidden, mask, cache=None)
        return self.norm(hidden)
class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        self.model = Layers(args)
    def sanitize(self, weights):
        return {"model." + name: value for name, value in weights.items()}
""",
}


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, mlx-embeddings cannot be found."""
    monkeypatch.setitem(sys.modules, "mlx_embeddings", None)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that is found as `mlx_embeddings`, before one that is installed."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "mlx_embeddings"}
    for name in ours:
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "site" / "mlx_embeddings"
    (folder / "models").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlx_embeddings"]:
        del sys.modules[name]


@pytest.fixture
def stand_in(package: Path) -> Path:
    for name, text in STAND_IN.items():
        (package / name).write_text(text, encoding="utf-8")
    return package


@pytest.fixture(
    params=[
        "stand_in",
        pytest.param("installed", marks=pytest.mark.skipif(not IS_INSTALLED, reason=f"needs {INSTALL}")),
    ]
)
def engine(request: pytest.FixtureRequest) -> str:
    """What `mlx_embeddings` is."""
    if request.param == "stand_in":
        request.getfixturevalue("stand_in")
    return str(request.param)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: shutil.copytree(DATA / name, tmp_path / "model")


def stages(folder: ModelFolder, ids: Array, mask: Array) -> list[Array]:
    """Hidden states after every layer."""

    def compute() -> list[Array]:
        from mlx_integrations.runtime._mlx import mx
        from mlx_integrations.runtime.embedding.encoders import make_encoder
        from mlx_integrations.runtime.embedding.weights import load_encoder_weights

        encoder = make_encoder(folder.config, path=folder.path)
        load_encoder_weights(encoder, folder.weights, config=folder.config, cpu_float32=True)
        return [np.array(stage) for stage in encoder.stages(mx.array(ids), mx.array(mask))]

    return on_worker(compute)


def check(folder: Path, name: str, batch_size: int = 1, case: str = "plain") -> None:
    """Hold a folder's vectors against sentence-transformers'."""
    model = read_sentence_model(folder)
    texts = json.loads((DATA / name / "reference.json").read_text(encoding="utf-8"))["texts"]
    prompt = model.prompts["query"] if case == "query" else ""
    with np.load(DATA / name / "vectors.npz") as vectors:
        np.testing.assert_allclose(embed(model, texts, prompt, batch_size=batch_size), vectors[case], atol=2e-6)


def refusal(folder: Path) -> ModelLoadError:
    with pytest.raises(ModelLoadError) as caught:
        embed(read_sentence_model(folder), ["fox"])
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("name", TYPES)
def test_hidden_states_of_a_padded_batch_equal_transformers(name: str, engine: str) -> None:
    folder = read_folder(DATA / name)
    with np.load(DATA / name / "hidden.npz") as arrays:
        ids, mask, hidden = (arrays[key] for key in ("ids", "mask", "hidden"))

    found = stages(folder, ids, mask)

    assert [stage.shape for stage in found] == [hidden.shape] * (folder.config["num_hidden_layers"] + 1)
    np.testing.assert_allclose(np.where(mask[:, :, None], found[-1], 0), hidden, atol=1e-5)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize(("batch_size", "case"), [(1, "plain"), (4, "query"), (100, "plain")])
def test_vectors_equal_those_of_sentence_transformers(name: str, batch_size: int, case: str, engine: str) -> None:
    check(DATA / name, name, batch_size, case)


@pytest.mark.parametrize("name", TYPES)
def test_a_runtime_serves_it_like_any_other(name: str, engine: str) -> None:
    runtime = Runtime(RuntimeSettings())
    try:
        backend = runtime.embedding(DATA / name)
        chunks = list(backend.stream(["the fox", "", "the dog sleeps"]))
        assert [chunk.vectors.shape for chunk in chunks] == [(3, 32)]
        assert backend.capabilities.max_tokens == 24
        assert [model.kind for model in runtime.models()] == ["embedding"]
    finally:
        runtime.close()


@pytest.mark.parametrize("name", TYPES)
def test_rows_without_tokens_stay_finite(name: str, engine: str) -> None:
    mask = np.arange(12)[None] < np.array([[12], [3], [0]])
    found = stages(read_folder(DATA / name), np.ones((3, 12), np.int32), mask)
    assert all(np.isfinite(stage).all() for stage in found)


@pytest.mark.parametrize("prefix", ["model.", "0.auto_model."])
@pytest.mark.parametrize("name", TYPES)
def test_checkpoints_of_the_whole_writer_load(
    name: str, prefix: str, engine: str, copied: Callable[[str], Path]
) -> None:
    folder = copied(name)
    tensors = {f"{prefix}{key}": value for key, value in load_file(folder / "model.safetensors").items()}
    tensors["lm_head.weight"] = np.zeros((340, 32), np.float32)
    save_file(tensors, folder / "model.safetensors")
    check(folder, name, 100)


def test_convolutions_that_mlx_wrote_load(engine: str, copied: Callable[[str], Path]) -> None:
    folder = copied("lfm2")
    tensors = load_file(folder / "model.safetensors")
    for key, value in tensors.items():
        if key.endswith("conv.conv.weight"):
            tensors[key] = np.ascontiguousarray(value.transpose(0, 2, 1))
    save_file(tensors, folder / "model.safetensors")
    check(folder, "lfm2", 100)


OLDER = {
    "lfm2": {
        "block_dim": 32,
        "block_ff_dim": 40,
        "conv_dim": 32,
        "full_attn_idxs": [1, 3],
        "intermediate_size": 77,
        "rope_theta": 700.0,
    },
    "llama_bidirec": {
        "rope_theta": 500.0,
        "rope_scaling": {
            "type": "llama3",
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}


@pytest.mark.parametrize("name", TYPES)
def test_older_configurations_give_the_same_vectors(name: str, engine: str, copied: Callable[[str], Path]) -> None:
    folder = copied(name)
    edit(folder / "config.json", "rope_parameters", "layer_types", **OLDER[name])
    check(folder, name, 100)


def test_of_two_lists_of_layers_the_newer_one_counts(engine: str, copied: Callable[[str], Path]) -> None:
    folder = copied("lfm2")
    edit(folder / "config.json", full_attn_idxs=[0, 2])
    check(folder, "lfm2", 100)


@pytest.mark.parametrize(
    ("name", "removed", "changed"),
    [
        ("lfm2", ("rope_parameters",), {}),
        ("llama_bidirec", ("rope_parameters",), {}),
        ("llama_bidirec", ("rms_norm_eps",), {}),
    ],
)
def test_what_the_configuration_says_is_not_left_to_a_default(
    name: str, removed: tuple[str, ...], changed: dict[str, Any], engine: str, copied: Callable[[str], Path]
) -> None:
    folder = copied(name)
    edit(folder / "config.json", *removed, **changed)
    with pytest.raises(AssertionError):
        check(folder, name, 100)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("cpu_float32", [True, False])
def test_quantised_checkpoints_load_and_say_the_same(
    name: str, cpu_float32: bool, engine: str, copied: Callable[[str], Path]
) -> None:
    folder = copied(name)

    def quantise() -> None:
        from mlx_integrations.runtime._mlx import mx

        tensors: Any = mx.load(str(folder / "model.safetensors"))
        written: dict[str, Any] = {}
        for key, tensor in tensors.items():
            if tensor.ndim == 2 and tensor.shape[1] % 32 == 0:
                parts = mx.quantize(tensor, group_size=32, bits=8)
                named = [f"model.{key.removesuffix('.weight')}.{part}" for part in ("weight", "scales", "biases")]
                written |= dict(zip(named, parts, strict=True))
            else:
                written[f"model.{key}"] = tensor
        mx.save_safetensors(str(folder / "model.safetensors"), written)

    on_worker(quantise)
    edit(folder / "config.json", quantization={"group_size": 32, "bits": 8})
    runtime = Runtime(RuntimeSettings(cpu_float32=cpu_float32))
    try:
        texts = json.loads((DATA / name / "reference.json").read_text(encoding="utf-8"))["texts"]
        (chunk,) = runtime.embedding(folder).stream(texts)
    finally:
        runtime.close()

    with np.load(DATA / name / "vectors.npz") as vectors:
        assert (scaled(chunk.vectors) * vectors["plain"]).sum(axis=1).min() > 0.99


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("layers.0.conv.conv.weight"), "layers.0.conv.conv.weight"),
        (lambda t: t.update({"layers.9.ffn_norm.weight": np.zeros(32, np.float32)}), "layers.9.ffn_norm.weight"),
        (lambda t: t.update({"dense.0.weight": np.zeros((8, 32), np.float32)}), "dense.0.weight"),
        (lambda t: t.update({"embedding_norm.weight": np.zeros(31, np.float32)}), "embedding_norm.weight"),
        (lambda t: t["layers.1.operator_norm.weight"].__setitem__(0, np.nan), "layers.1.operator_norm.weight"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Array]], Any], named: str, engine: str, copied: Callable[[str], Path]
) -> None:
    folder = copied("lfm2")
    tensors = {key: value.copy() for key, value in load_file(folder / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    error = refusal(folder)
    assert f"`{named}`" in str(error)


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("lfm2", {"is_causal": False}, "`is_causal` = `False`"),
        ("lfm2", {"head_dim": 16}, "`head_dim` = `16`"),
        ("lfm2", {"block_use_swiglu": False}, "`block_use_swiglu` = `False`"),
        ("lfm2", {"block_dim": 64}, "`block_dim` = `64`"),
        ("lfm2", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "`rope_type` = `linear`"),
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv", "mamba"]}, "`layer_types`"),
        ("lfm2", {"layer_types": ["conv"] * 4}, "`layer_types`"),
        ("lfm2", {"layer_types": None, "full_attn_idxs": [4]}, "`full_attn_idxs` = `[4]`"),
        ("llama_bidirec", {"is_causal": True}, "`is_causal` = `True`"),
        ("llama_bidirec", {"hidden_act": "gelu"}, "`hidden_act` = `gelu`"),
        ("llama_bidirec", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "`rope_type` = `yarn`"),
    ],
)
def test_what_its_layers_cannot_do_is_refused_by_name(
    name: str, changed: dict[str, Any], named: str, stand_in: Path, copied: Callable[[str], Path]
) -> None:
    folder = copied(name)
    edit(folder / "config.json", **changed)
    error = refusal(folder)
    assert isinstance(error, UnsupportedArchitectureError) and named in str(error)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
@pytest.mark.parametrize("name", TYPES)
def test_a_configuration_that_lacks_something_is_refused(
    name: str, key: str, stand_in: Path, copied: Callable[[str], Path]
) -> None:
    folder = copied(name)
    edit(folder / "config.json", key)
    error = refusal(folder)
    assert key in str(error) and "config.json" in str(error)


@pytest.mark.usefixtures("no_engine")
@pytest.mark.parametrize("name", TYPES)
def test_without_the_extra_the_error_says_how_to_install_it_and_its_licence(name: str) -> None:
    error = refusal(DATA / name)
    assert isinstance(error, UnsupportedArchitectureError) and error.model_type == name
    assert INSTALL in error.hint and "GPL-3.0" in error.hint


def test_an_installed_package_that_lacks_the_type_is_named(package: Path) -> None:
    (package / "__init__.py").write_text("raise SystemExit", encoding="utf-8")
    error = refusal(DATA / "lfm2")
    assert "the installed one has no code for it" in error.message and INSTALL in error.hint


def test_a_package_that_cannot_be_imported_is_an_error_with_a_hint(stand_in: Path) -> None:
    (stand_in / "utils.py").write_text("import a_module_that_does_not_exist", encoding="utf-8")
    error = refusal(DATA / "lfm2")
    assert isinstance(error, UnsupportedArchitectureError)
    assert "a_module_that_does_not_exist" in error.message and INSTALL in error.hint


def test_finding_out_what_is_installed_imports_nothing(package: Path) -> None:
    (package / "__init__.py").write_text("raise SystemExit", encoding="utf-8")
    (package / "models" / "new_kind.py").write_text("raise SystemExit", encoding="utf-8")
    (package / "models" / "vision_kind").mkdir()
    (package / "models" / "vision_kind" / "__init__.py").write_text("raise SystemExit", encoding="utf-8")

    def look() -> dict[str, bool]:
        from mlx_integrations.runtime._mlx import has_optional_architecture

        names = ("new_kind", "new-kind", "vision_kind", "other", "../models", "")
        return {name: has_optional_architecture(name) for name in names}

    assert on_worker(look) == {
        "new_kind": True,
        "new-kind": True,
        "vision_kind": True,
        "other": False,
        "../models": False,
        "": False,
    }
    assert "mlx_embeddings" not in sys.modules


@pytest.mark.parametrize("has_engine", [True, False])
@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "siglip"},
        {"model_type": "qwen3_vl"},
        {"model_type": "colqwen2_5"},
        {"model_type": "colidefics3"},
        {"model_type": "llama_nemotron_vl"},
        {"model_type": "some_new_vl", "vision_config": {"hidden_size": 8}},
    ],
    ids=lambda config: config["model_type"],
)
def test_models_that_read_images_are_refused_by_name(
    config: dict[str, Any], has_engine: bool, request: pytest.FixtureRequest, copied: Callable[[str], Path]
) -> None:
    request.getfixturevalue("stand_in" if has_engine else "no_engine")
    folder = copied("lfm2")
    edit(folder / "config.json", **config)
    error = refusal(folder)
    assert isinstance(error, UnsupportedArchitectureError) and error.model_type == config["model_type"]
    assert "reads images" in error.message and "`bert`" in error.hint


def test_a_type_that_was_not_compared_is_refused_even_if_there_is_code_for_it(
    stand_in: Path, copied: Callable[[str], Path]
) -> None:
    (stand_in / "models" / "new_kind.py").write_text(STAND_IN["models/lfm2.py"], encoding="utf-8")
    folder = copied("lfm2")
    edit(folder / "config.json", model_type="new_kind")
    error = refusal(folder)
    assert isinstance(error, UnsupportedArchitectureError) and "`new_kind`" in error.message
    assert "not compared" in error.hint


@pytest.mark.usefixtures("stand_in")
def test_the_import_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def process() -> dict[str, Any]:
        return {
            "environment": dict(os.environ),
            "open files": resource.getrlimit(resource.RLIMIT_NOFILE),
            "filters": list(warnings.filters),
        }

    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    on_worker(lambda: None)
    before = process()
    check(DATA / "lfm2", "lfm2", 100)
    assert "mlx_embeddings.models.lfm2" in sys.modules
    assert process() == before


@pytest.mark.skipif(not IS_INSTALLED, reason=f"needs {INSTALL}")
def test_mlx_embeddings_is_called_as_it_expects() -> None:
    code = """
import inspect
from mlx_integrations.runtime._mlx import new_optional_model
shared = {"vocab_size": 8, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
          "num_key_value_heads": 2, "max_position_embeddings": 8}
lfm2 = {"norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "block_dim": 16, "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0, "block_auto_adjust_ff_dim": True, "block_ff_dim": 16, "full_attn_idxs": [0]}
for own in ({"model_type": "lfm2", **lfm2}, {"model_type": "llama_bidirec", "intermediate_size": 16}):
    model = new_optional_model({**shared, **own})
    assert all(hasattr(model.model, part) for part in ("embed_tokens", "layers"))
    print(*inspect.signature(model.model.__call__).parameters, *inspect.signature(model.sanitize).parameters)
"""
    assert _in_a_new_interpreter(code).splitlines() == [
        "inputs cache input_embeddings weights",
        "inputs mask input_embeddings weights",
    ]


@pytest.mark.skipif(not IS_INSTALLED, reason=f"needs {INSTALL}")
def test_importing_mlx_embeddings_leaves_the_process_as_it_was() -> None:
    """`TORCHINDUCTOR_CACHE_DIR` is torch's own, which transformers imports where it is installed."""
    code = """
import logging, os, resource, signal, sys, warnings
from mlx_integrations.runtime import _mlx
def process():
    environment = {name: value for name, value in os.environ.items() if name != "TORCHINDUCTOR_CACHE_DIR"}
    return (environment, resource.getrlimit(resource.RLIMIT_NOFILE), list(warnings.filters), os.getcwd(),
            signal.getsignal(signal.SIGINT), logging.root.level, list(logging.root.handlers),
            logging.getLogger("transformers").level)
before = process()
try:
    _mlx.new_optional_model({"model_type": "lfm2"})
except TypeError as error:
    print("mlx_embeddings" in sys.modules, process() == before, "required" in str(error))
"""
    assert _in_a_new_interpreter(code) == "True True True"


@pytest.mark.skipif(not IS_INSTALLED, reason=f"needs {INSTALL}")
def test_a_process_that_used_it_ends_in_mid_embedding_as_it_should() -> None:
    """mlx-vlm clears MLX's streams at exit too, before the worker has stopped."""
    code = f"""
from pathlib import Path
from mlx_integrations.runtime.engine import Runtime
backend = Runtime().embedding(Path({str(DATA / "lfm2")!r}))
stream = backend.stream(f"the fox {{n}}" for n in range(100_000))
print(next(stream).vectors.shape)
"""
    assert _in_a_new_interpreter(code) == "(1024, 32)"


def _in_a_new_interpreter(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr)
    return done.stdout.strip()
