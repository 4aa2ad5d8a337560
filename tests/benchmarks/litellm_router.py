"""LiteLLM's Router over providers in its own process: a script for a Python that has litellm, run by `routing.py`.

It imports nothing of this package, and prints one JSON object with seconds and counts.
"""

import json
import os
import statistics
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # type: ignore[import-not-found]
from litellm import CustomLLM, Router
from litellm.types.utils import Choices, Message, ModelResponse  # type: ignore[import-not-found]

ROUNDS = 200
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


class Provider(CustomLLM):  # type: ignore[misc]
    """Answers with one word, or is dead."""

    def __init__(self, *, is_dead: bool) -> None:
        super().__init__()
        self.is_dead = is_dead
        self.calls = 0

    def completion(self, *args: object, **kwargs: object) -> ModelResponse:
        self.calls += 1
        if self.is_dead:
            raise RuntimeError("dead")
        return ModelResponse(choices=[Choices(message=Message(content="word"))])


def median(call: object, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()  # type: ignore[operator]
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    alive, dead = Provider(is_dead=False), Provider(is_dead=True)
    litellm.custom_provider_map = [
        {"provider": "alive", "custom_handler": alive},
        {"provider": "dead", "custom_handler": dead},
    ]
    models = [
        {"model_name": "local", "litellm_params": {"model": "dead/x"}},
        {"model_name": "cloud", "litellm_params": {"model": "alive/x"}},
    ]
    plain = Router(model_list=models)
    plain.completion("cloud", MESSAGES)
    call = median(lambda: plain.completion("cloud", MESSAGES), ROUNDS)
    bare = median(lambda: litellm.completion("alive/x", MESSAGES), ROUNDS)
    with_fallbacks = Router(model_list=models, fallbacks=[{"local": ["cloud"]}])
    usual = median(lambda: with_fallbacks.completion("local", MESSAGES), 2)
    impatient = Router(model_list=models, fallbacks=[{"local": ["cloud"]}], num_retries=0)
    no_retries = median(lambda: impatient.completion("local", MESSAGES), 5)
    dead.calls = 0
    for _ in range(10):
        impatient.completion("local", MESSAGES)
    print(  # noqa: T201
        json.dumps(
            {"added": call - bare, "fallback": usual, "fallback, no retries": no_retries, "dead calls": dead.calls}
        )
    )


if __name__ == "__main__":
    main()
