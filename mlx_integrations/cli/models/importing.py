"""`mlxi models import`: a model in another program's format, made into one that can be run here."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mlx_integrations.cli.console import print_json, say
from mlx_integrations.cli.options import AsJson
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.progress import ProgressDisplay
from mlx_integrations.cli.text import disk, duration

__all__ = ["import_"]


def import_(
    context: typer.Context,
    source: Annotated[
        Path, typer.Argument(help="A folder or a file: safetensors, PyTorch or GGUF.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it; left out: as the source is called.")
    ] = None,
    bits: Annotated[
        Literal["4", "8"] | None, typer.Option("--bits", help="Quantise the weights; left out: as they are.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--to", help="A folder that does not exist yet.")] = None,
    as_json: AsJson = False,
) -> None:
    """Convert a model from another format, once, so that it can be run here.

    Safetensors, PyTorch and GGUF are read; what a file is, is told by its content. CoreML and ONNX are recognised and
    answered with what to download instead. The source is not changed. The new model is found by its name afterwards;
    its folder is printed to stdout.
    """
    from mlx_integrations.manager.formats import detect_format
    from mlx_integrations.manager.imported import imported_model_path, imported_name
    from mlx_integrations.runtime.convert.conversion import convert_model

    invocation: Invocation = context.obj
    detected = detect_format(source, registry=invocation.registry)
    detected.check_convertible()
    for detail in detected.details:
        say(detail)
    if detected.name == "mlx" and bits is None:
        say(f"There is nothing to convert. {detected.advice}")
        typer.echo(str(source))
        return
    path = target or imported_model_path(name or imported_name(source))
    quantize_bits = int(bits) if bits else None
    with ProgressDisplay() as display:
        made = convert_model(source, path, quantize_bits=quantize_bits, on_progress=display.update)
    say(f"{made.format} to MLX in {duration(made.seconds)}: {disk(made.weight_bytes)} of weights, {made.kind} model.")
    if target is None:
        say(f"Try it: mlxi run {path.name}" if made.kind == "chat" else f"Try it: mlxi embed --model {path.name} hello")
    if as_json:
        record = {"name": path.name, "path": str(made.path), "format": made.format, "kind": made.kind}
        print_json({**record, "weight_bytes": made.weight_bytes, "seconds": round(made.seconds, 3)})
    else:
        typer.echo(str(made.path))
