"""Checks that do something: a few words from the demo model, and one vector."""

from mlx_integrations.cli.diagnosis.finding import Finding
from mlx_integrations.cli.diagnosis.surroundings import Surroundings
from mlx_integrations.cli.trial import TrialError

__all__ = ["check_chat", "check_embedding"]

_REINSTALL = "pip install --force-reinstall --no-deps mlx-integrations"


def check_chat(around: Surroundings) -> Finding:
    """The demo model answers."""
    try:
        told = around.trial.step("chat")
    except TrialError as error:
        return Finding(status="fail", text=f"the demo model cannot answer: {error}", repair=_REINSTALL)
    facts = {name: told[name] for name in ("completion_tokens", "tokens_per_second", "seconds", "text")}
    if not str(told["text"]).strip():
        return Finding(status="fail", text="the demo model answers nothing", repair=_REINSTALL, facts=facts)
    text = f"{told['completion_tokens']} tokens of the demo model, {told['tokens_per_second']:.0f} a second"
    return Finding(status="ok", text=f"{text}; {told['seconds']:.1f} s with loading", facts=facts)


def check_embedding(around: Surroundings) -> Finding:
    """A small embedding model makes a vector, if it is installed."""
    try:
        told = around.trial.step("embedding")
    except TrialError as error:
        return Finding(status="fail", text=f"no vector: {error}", repair=_REINSTALL)
    if "missing" in told:
        return Finding(status="skip", text=f"{told['missing']} is not installed", repair=str(told["install"]))
    facts = {name: told[name] for name in ("model", "dimensions", "seconds")}
    if abs(float(told["length"]) - 1.0) > 1e-3:
        return Finding(status="fail", text=f"{told['model']} makes a vector of no use", repair=_REINSTALL, facts=facts)
    text = f"{told['dimensions']} dimensions of {told['model']}; {told['seconds']:.1f} s with loading"
    return Finding(status="ok", text=text, facts=facts)
