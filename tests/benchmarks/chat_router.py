"""What `ChatRouter` adds to a LangChain chat model, beside `with_fallbacks` in the same run.

python -m tests.benchmarks.chat_router
"""

from collections.abc import Callable

from mlx_integrations.langchain import ChatRouter, ModelFacts
from mlx_integrations.router import Policy
from tests.benchmarks.common import machine
from tests.benchmarks.routing import ROUNDS, ScriptedChat, added, seconds_of, show

CHUNKS = 1000
LOCAL = ModelFacts(is_local=True)


def routed(*models: ScriptedChat) -> ChatRouter:
    names = {f"model-{index}": model for index, model in enumerate(models)}
    return ChatRouter(models=names, facts=dict.fromkeys(names, LOCAL), policy=Policy(detectors=()))


def per_call() -> None:
    print("added to a call of one word, microseconds")  # noqa: T201
    bare, router = ScriptedChat(), routed(ScriptedChat(), ScriptedChat())
    fallbacks = bare.with_fallbacks([ScriptedChat()])
    ask: Callable[[], object] = lambda: bare.invoke("hi")  # noqa: E731
    show(
        {
            "the model itself, invoke": seconds_of(ask, ROUNDS),
            "ChatRouter, invoke": added(lambda: router.invoke("hi"), ask, ROUNDS),
            "with_fallbacks, invoke": added(lambda: fallbacks.invoke("hi"), ask, ROUNDS),
            "ChatRouter, stream": added(lambda: list(router.stream("hi")), lambda: list(bare.stream("hi")), ROUNDS),
            "with_fallbacks, stream": added(
                lambda: list(fallbacks.stream("hi")), lambda: list(bare.stream("hi")), ROUNDS
            ),
        }
    )


def per_chunk() -> None:
    print("added to each of 1,000 chunks, microseconds")  # noqa: T201
    bare, router = ScriptedChat(words=CHUNKS), routed(ScriptedChat(words=CHUNKS), ScriptedChat())
    fallbacks = bare.with_fallbacks([ScriptedChat()])
    read: Callable[[], object] = lambda: list(bare.stream("hi"))  # noqa: E731
    show(
        {
            "ChatRouter": added(lambda: list(router.stream("hi")), read, 10) / CHUNKS,
            "with_fallbacks": added(lambda: list(fallbacks.stream("hi")), read, 10) / CHUNKS,
        }
    )


def fallback() -> None:
    print("a call whose first model raises at once, a new router each time, microseconds")  # noqa: T201
    bare, dead = ScriptedChat(), ScriptedChat(is_dead=True)
    fallbacks = dead.with_fallbacks([bare])

    def through_router() -> object:
        return routed(dead, bare).invoke("hi")

    show(
        {
            "ChatRouter, made and asked": seconds_of(through_router, 30),
            "with_fallbacks": seconds_of(lambda: fallbacks.invoke("hi"), 30),
        }
    )


def main() -> None:
    print(machine())  # noqa: T201
    per_call()
    per_chunk()
    fallback()


if __name__ == "__main__":
    main()
