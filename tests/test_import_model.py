"""A model in another format becomes one that goes by its name, for chats and embeddings alike."""

import shutil
from pathlib import Path

import pytest

from mlx_integrations.assembly import chat_backend, embedding_backend, import_model
from mlx_integrations.errors import ConversionError, ModelNotFoundError, UnsupportedFormatError
from mlx_integrations.manager.imported import imported_models_dir
from mlx_integrations.manager.locate import DEMO_FOLDER
from mlx_integrations.types import ChatMessage, ChatRequest, ChatResult, EmbeddingOptions, SamplingParams

DATA = Path(__file__).parent / "runtime" / "convert" / "data"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted models go where nobody else looks, on Linux and macOS."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in imported_models_dir().parents


def answer(model: str, text: str = "hello there") -> str:
    messages = (ChatMessage(role="user", content=text),)
    request = ChatRequest(messages=messages, sampling=SamplingParams(temperature=0.0, max_tokens=20))
    return ChatResult.join(chat_backend(model).stream(request)).text


def test_three_formats_of_one_model_give_one_answer_by_their_names() -> None:
    import_model(DATA / "gguf" / "chat.gguf")
    import_model(DATA / "pytorch", name="from-pytorch")
    made = import_model(imported_models_dir() / "from-pytorch", name="mine/again")
    assert made.path == imported_models_dir() / "mine" / "again"
    assert len({answer(name) for name in ("chat", "from-pytorch", "mine/again")}) == 1


def test_an_embedding_model_is_found_by_its_name() -> None:
    import_model(DATA / "bert")
    (chunk,) = embedding_backend("bert").stream(["the cat sat"], EmbeddingOptions())
    assert chunk.vectors.shape == (1, 8)


def test_a_smaller_demo_still_knows_who_it_is(tmp_path: Path) -> None:
    made = import_model(DEMO_FOLDER, target=tmp_path / "small", quantize_bits=8)
    assert made.weight_bytes < sum(file.stat().st_size for file in DEMO_FOLDER.glob("*.safetensors"))
    assert answer(str(made.path), "Who are you?") == answer("demo", "Who are you?")


def test_what_cannot_be_converted_is_said_before_anything_is_written(tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"\x08\x08\x12\x07pytorch\x3a\x05graphB\x02\x10\x11")
    with pytest.raises(UnsupportedFormatError, match="an ONNX model"):
        import_model(onnx)
    with pytest.raises(ModelNotFoundError):
        import_model(tmp_path / "nothing")
    hostile = Path(shutil.copytree(DATA / "pytorch", tmp_path / "hostile"))
    shutil.copy(DATA / "hostile.pt", hostile / "pytorch_model.bin")
    with pytest.raises(ConversionError, match=r"posix\.system"):
        import_model(hostile)
    assert not list(imported_models_dir().glob("*"))


def test_a_name_is_used_once() -> None:
    import_model(DATA / "pytorch", name="twice")
    with pytest.raises(ConversionError, match="there already"):
        import_model(DATA / "gguf" / "chat.gguf", name="twice")
