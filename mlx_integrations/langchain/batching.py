"""How many inputs of `batch` run at once.

langchain-core runs a batch in a thread pool of the number of CPUs plus four; the runtime decodes all rows of its batch
in one step, so a row more costs little. An explicit `max_concurrency` is kept.
"""

from collections.abc import Sequence

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list

__all__ = ["MAX_CONCURRENCY", "shared_configs"]

MAX_CONCURRENCY = 32
"""Inputs at once when the caller does not say: as many rows as a batch usefully has on one device."""


def shared_configs(config: RunnableConfig | Sequence[RunnableConfig] | None, inputs: int) -> list[RunnableConfig]:
    """One config for each input; the first, which langchain-core asks for the concurrency, has one."""
    configs = get_config_list(config, inputs)
    if configs and configs[0].get("max_concurrency") is None:
        configs[0] = {**configs[0], "max_concurrency": MAX_CONCURRENCY}
    return configs
