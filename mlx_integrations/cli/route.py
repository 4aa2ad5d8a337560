"""`mlxi route`: who would answer, and why. Nobody is asked."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlx_integrations.cli.console import print_json, print_table, say
from mlx_integrations.cli.exit_codes import ExitCode
from mlx_integrations.cli.frame import add, group
from mlx_integrations.cli.options import AsJson, MaxTokens, Offline, System
from mlx_integrations.cli.parts import Invocation
from mlx_integrations.cli.text import Column
from mlx_integrations.types import Attachment, ChatMessage, ChatRequest, JsonObjectFormat, SamplingParams, ToolSpec

if TYPE_CHECKING:
    from mlx_integrations.router.candidates import Candidate
    from mlx_integrations.router.plan import Plan

__all__ = ["app"]

app = group("See who would answer: models on this machine, or endpoints.", no_args_is_help=True)


def explain(
    context: typer.Context,
    text: Annotated[str | None, typer.Argument(help="What is asked; left out: stdin.", show_default=False)] = None,
    task: Annotated[str | None, typer.Option(help="What it is for, such as code or summarize.")] = None,
    language: Annotated[str | None, typer.Option(help="The language it needs, such as de.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the call; may be given several times.")] = None,
    private: Annotated[
        bool | None,
        typer.Option("--private/--not-private", help="It must stay here; or what is found in it counts for nothing."),
    ] = None,
    image: Annotated[bool, typer.Option("--image", help="As if an image came with it.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="As if tools were offered.")] = False,
    structured: Annotated[bool, typer.Option("--structured", help="As if the answer had to be JSON.")] = False,
    system: System = None,
    max_tokens: MaxTokens = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Print who would be asked, in which order, and why everybody else would not.

    Candidates are `models.default`, each endpoint of the settings that has a model, and whoever `router.order` and
    `router.tasks` name. Nobody is asked, and no model is loaded. Ends with 1 if nobody may be asked.
    """
    from mlx_integrations.router.configured import policy_from
    from mlx_integrations.router.decide import decide
    from mlx_integrations.router.read import RequestReader

    invocation: Invocation = context.obj
    if offline:
        invocation.overrides["offline"] = True
    settings = invocation.settings
    found = invocation.parts.route_candidates()
    policy = policy_from(settings, tuple(found))
    asked = text if text is not None else sys.stdin.read()
    request = _request(asked, system, image=image, tools=tools, structured=structured, max_tokens=max_tokens)
    facts = RequestReader(policy).read_chat(request, task=task, language=language, tags=tag or (), private=private)
    candidates = [candidate for candidate, _ in found.values()]
    plan = decide(facts, candidates, {name: state for name, (_, state) in found.items()}, policy)
    if as_json:
        print_json(_record(plan, {candidate.name: candidate for candidate in candidates}))
    else:
        _show(plan, policy.mode, allow_cloud=policy.allow_cloud)
    if not plan.order:
        raise typer.Exit(ExitCode.FAILED)


def _request(
    text: str, system: str | None, *, image: bool, tools: bool, structured: bool, max_tokens: int | None
) -> ChatRequest:
    """What stands for the request: as much as decides who answers it."""
    pictures = (Attachment(kind="image", data=b""),) if image else ()
    messages = [ChatMessage(role="user", content=text, attachments=pictures)]
    if system:
        messages.insert(0, ChatMessage(role="system", content=system))
    return ChatRequest(
        messages=tuple(messages),
        tools=(ToolSpec(name="tool"),) if tools else (),
        output=JsonObjectFormat() if structured else None,
        sampling=SamplingParams(max_tokens=max_tokens),
    )


def _show(plan: "Plan", mode: str, *, allow_cloud: bool) -> None:
    say(f"mode {mode}, the cloud is {'allowed' if allow_cloud else 'not allowed'}")
    if plan.private_because:
        say(f"must stay on this machine: {', '.join(plan.private_because)}")
    places = {name: str(place) for place, name in enumerate(plan.order, 1)}
    rows = [(places.get(item.name, "-"), item.name, item.reason) for item in plan.considered]
    print_table([Column(title="order"), Column(title="candidate"), Column(title="why")], rows)
    if not plan.order:
        say("Nobody may be asked.", style="red")


def _record(plan: "Plan", candidates: "dict[str, Candidate]") -> dict[str, Any]:
    return {
        "order": list(plan.order),
        "private_because": list(plan.private_because),
        "candidates": [
            {
                "name": item.name,
                "location": candidates[item.name].location,
                "is_taken": item.is_taken,
                "reason": item.reason,
                "is_privacy": item.is_privacy,
            }
            for item in plan.considered
        ],
    }


add(app, explain)
