"""Tiny embedding models, put together once for all tests."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runtime.embedding.sentence_models import assemble

SentenceFolder = Callable[[str], Path]


@pytest.fixture(scope="session")
def sentence_folder(tmp_path_factory: pytest.TempPathFactory) -> SentenceFolder:
    """`sentence_folder("bert-max")` gives the whole folder of that model."""
    root = tmp_path_factory.mktemp("sentence-models")

    def get(name: str) -> Path:
        folder = root / name
        return folder if folder.exists() else assemble(name, folder)

    return get
