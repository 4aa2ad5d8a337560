"""`mlxi embed`: texts in, vectors out."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mlx_integrations.cli.console import say
from mlx_integrations.cli.options import Model, Offline
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.types import EmbeddingOptions, EmbeddingResult

if TYPE_CHECKING:
    from mlx_integrations.protocols import EmbeddingBackend

__all__ = ["embed"]


def embed(
    context: typer.Context,
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; left out: the lines of stdin.", show_default=False)
    ] = None,
    model: Model = None,
    side: Annotated[
        Literal["document", "query"], typer.Option(help="Whether the texts are to be found, or ask.")
    ] = "document",
    dimensions: Annotated[
        int | None, typer.Option(min=1, help="Coordinates to keep, for models that were trained for it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A .npy file for NumPy instead of JSON lines on stdout.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Turn texts into vectors.

    Prints one JSON object a line, with "text" and "embedding", in the order of the texts. The model is
    `embedding.default` of the settings unless you name one.
    """
    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    if output is not None and output.suffix != ".npy":
        raise typer.BadParameter("Vectors are written to a file that ends in .npy.", param_hint="--output")
    if not texts and sys.stdin.isatty():
        say("Type texts, one a line, then Ctrl-D:")
    lines = iter(texts) if texts else (line.rstrip("\n") for line in sys.stdin)
    known = invocation.settings.embedding
    named = model or invocation.model
    backend = invocation.embedding_backend(named or known.default)
    if named is None and dimensions is None:
        dimensions = known.dimensions
    options = EmbeddingOptions(side=side, dimensions=dimensions)
    if output is None:
        truncated = _print_lines(backend, lines, options)
    else:
        truncated = _write_array(backend, lines, options, output)
    if truncated:
        say(f"mlxi: {truncated} texts were longer than {backend.capabilities.max_tokens} tokens and were cut.")


def _print_lines(backend: "EmbeddingBackend", texts: Iterable[str], options: EmbeddingOptions) -> int:
    """Write vectors as they come; returns how many texts were cut."""
    waiting: list[str] = []

    def remembered() -> Iterator[str]:
        for text in texts:
            waiting.append(text)
            yield text

    truncated = 0
    for chunk in backend.stream(remembered(), options):
        truncated += len(chunk.truncated)
        for vector in chunk.vectors:
            record = {"text": waiting.pop(0), "embedding": [float(value) for value in vector]}
            typer.echo(json.dumps(record, ensure_ascii=False))
    return truncated


def _write_array(backend: "EmbeddingBackend", texts: Iterable[str], options: EmbeddingOptions, output: Path) -> int:
    """Write all vectors as one array (texts, dimensions) float32; returns how many texts were cut."""
    import numpy as np

    result = EmbeddingResult.join(backend.stream(texts, options))
    with output.open("wb") as stream:
        np.save(stream, result.vectors)
    say(f"{len(result.vectors)} vectors of {result.vectors.shape[1]} dimensions in {output}")
    return len(result.truncated)
