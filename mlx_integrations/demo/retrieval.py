"""Questions about a folder of text: its passages, the nearest ones to a question, and an answer from them.

    Markdown -> passages -> MLXEmbeddings -> FAISS -> the passages nearest to a question -> ChatMLX -> an answer

The folder is this project's documentation. A wheel has a copy of it beside this file; a checkout has the original.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.vectorstores import VectorStore

from mlx_integrations.errors import MissingExtraError

__all__ = ["answer_from", "docs_folder", "index_passages", "read_passages", "split_markdown"]

MAX_CHARACTERS = 400
"""Of a passage: about 100 tokens, so that several fit into the window of a small model."""

_IN_A_WHEEL = Path(__file__).parent / "docs"
_NO_PROSE = frozenset({"reference", "adr", "benchmarks.md"})
_IN_A_CHECKOUT = Path(__file__).parents[2] / "docs"
_NOT_PROSE = re.compile(r"^```.*?^```$|<!--.*?-->|^\|[^\n]*$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=[.!?:;]) ")


def docs_folder() -> Path:
    """Where this project's documentation lies."""
    return _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else _IN_A_CHECKOUT


def read_passages(folder: Path) -> list[Document]:
    """The prose of all Markdown files in a folder, each passage with its file (`source`) and its `heading`.

    Left out are pages of reference and figures, which are tables, and records of decisions, which nobody asks about.
    """
    return [
        Document(passage, metadata={"source": file.relative_to(folder).as_posix(), "heading": heading})
        for file in sorted(folder.rglob("*.md"))
        if _NO_PROSE.isdisjoint(file.relative_to(folder).parts)
        for heading, passage in split_markdown(file.read_text(encoding="utf-8"))
    ]


def split_markdown(text: str, max_characters: int = MAX_CHARACTERS) -> Iterator[tuple[str, str]]:
    """The prose of a page in short passages, each with the heading that it stands under.

    Code, tables and comments are left out. Sentences stay whole, also one that is longer than a passage may be.
    """
    parts = ["", *_HEADING.split(_plain(_NOT_PROSE.sub("", text)))]
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        passage = ""
        for sentence in _SENTENCE_END.split(" ".join(body.split())):
            if passage and len(passage) + 1 + len(sentence) > max_characters:
                yield heading, passage
                passage = ""
            passage = f"{passage} {sentence}".strip()
        if passage:
            yield heading, passage


def index_passages(passages: Sequence[Document], embeddings: Embeddings) -> VectorStore:
    """Embed passages into a store that finds the nearest ones.

    Raises:
        MissingExtraError: FAISS is not installed.
        ModelNotFoundError: The embedding model is not.
    """
    try:
        import faiss  # noqa: F401  (the store below imports it later, and then fails with another kind of error)

        with warnings.catch_warnings():
            # The community package is at its end, says LangChain, but this store has no other home yet.
            warnings.simplefilter("ignore", DeprecationWarning)
            from langchain_community.vectorstores import FAISS
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"Retrieval needs `{error.name}`.", extra="faiss") from error
    return FAISS.from_documents(list(passages), embeddings)


def answer_from(model: BaseChatModel, question: str, passages: Sequence[Document]) -> str:
    """What a chat model makes of a question and the passages found for it."""
    context = "\n\n".join(passage.page_content for passage in passages)
    return str(model.invoke(f"Context:\n{context}\n\nQuestion: {question}").text)


def _plain(text: str) -> str:
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "")
