"""Options that several of the verbs have."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

__all__ = ["Address", "AsText", "Dimensions", "Index", "LongTexts", "Name", "To", "ToKind", "ToName", "WorkDir"]

Address: TypeAlias = Annotated[str, typer.Argument(metavar="STORE", help="The store's folder, or its file.")]
Name: TypeAlias = Annotated[
    str | None, typer.Option("--name", help="Which of its indexes or collections, where it has several.")
]
WorkDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--work-dir", help="Where runs are kept; left out: `.mlxi-migrate` beside the store."),
]
Dimensions: TypeAlias = Annotated[
    int | None, typer.Option(min=1, help="Coordinates to keep, for models that were trained for it.")
]
LongTexts: TypeAlias = Annotated[
    Literal["truncate", "mean", "error"] | None,
    typer.Option(
        help="Texts longer than the model reads: embed their beginning and count them, average their parts, or stop. "
        "Left out: truncate."
    ),
]
Index: TypeAlias = Annotated[
    str | None, typer.Option(help="The kind of index to build, such as `Flat` or `HNSW32`; left out: the one it has.")
]
To: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--to", metavar="PLACE", help="Make a new store at this place instead; the one that is read stays as it is."
    ),
]
ToKind: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--to-kind",
        metavar="KIND",
        help="Of the new store: chroma, langchain-faiss, langchain-in-memory, llama-index-simple. Left out: told from "
        "the place, where it can be.",
    ),
]
ToName: TypeAlias = Annotated[
    str | None, typer.Option("--to-name", help="Of the new store's index or collection, where it has several.")
]
AsText: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--as-json",
        metavar="NAME",
        help="Metadata whose values become text for the new store, which could not hold them otherwise; can be given "
        "several times.",
    ),
]
