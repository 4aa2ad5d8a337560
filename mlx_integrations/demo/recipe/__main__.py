"""Command line of the recipe: tokenizer, train, export, evaluate, card, or all of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlx_integrations.demo.recipe.render import MODEL_FOLDER

_STEPS = ("tokenizer", "train", "export", "evaluate", "card")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _tokenizer(_: argparse.Namespace) -> None:
    from mlx_integrations.demo.recipe import tokenizer

    tokenizer.save(tokenizer.build())


def _train(arguments: argparse.Namespace) -> None:
    from mlx_integrations.demo.recipe import card, train

    if arguments.go_on:
        train.start_from_shipped(arguments.checkpoints)
    progress = train.train(arguments.checkpoints, workers=arguments.workers)
    card.write_training(progress)


def _export(arguments: argparse.Namespace) -> None:
    from mlx_integrations.demo.recipe import export
    from mlx_integrations.demo.recipe.phases import PHASES

    export.export(arguments.checkpoints / f"{PHASES[-1].name}.pt")


def _evaluate(arguments: argparse.Namespace) -> None:
    from mlx_integrations.demo.recipe import evaluate

    figures, misses = evaluate.evaluate(MODEL_FOLDER, arguments.cases)
    evaluate.write(figures)
    print(evaluate.table(figures))
    for miss in misses[: arguments.show]:
        print(
            f"\n--- {miss.turn.skill}\n{miss.turn.prompt}\nexpected:  {miss.turn.expected}\ngenerated: {miss.generated}"
        )


def _card(_: argparse.Namespace) -> None:
    from mlx_integrations.demo.recipe import card

    card.write()


_RUN = {"tokenizer": _tokenizer, "train": _train, "export": _export, "evaluate": _evaluate, "card": _card}


def main(argv: list[str] | None = None) -> int:
    """Runs the steps named on the command line.

    Args:
        argv: Arguments, without the program's name; those of the process when None.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m mlx_integrations.demo.recipe", description=__doc__)
    parser.add_argument(
        "steps", nargs="*", metavar="step", help=f"any of {', '.join(_STEPS)}; all of them when none is named"
    )
    parser.add_argument("--checkpoints", type=Path, default=Path("demo-checkpoints"), help="folder for checkpoints")
    parser.add_argument("--go-on", action="store_true", help="train the last phase only, from the shipped weights")
    parser.add_argument("--workers", type=int, default=2, help="processes for training")
    parser.add_argument("--cases", type=int, default=60, help="cases of each skill in the evaluation")
    parser.add_argument("--show", type=int, default=0, help="print that many wrong turns")
    arguments = parser.parse_args(argv)
    unknown = [step for step in arguments.steps if step not in _STEPS]
    if unknown:
        parser.error(f"unknown step: {', '.join(unknown)}")
    for step in _STEPS:
        if not arguments.steps or step in arguments.steps:
            _say(f"== {step}")
            _RUN[step](arguments)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
