"""Leave the network alone: one call that switches it off for every library in this process that would use it.

What this package does itself, downloads and looks for newer model lists, asks `Settings.offline`. Other libraries have
switches of their own, most of them variables that are read once, when the library is imported.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from types import ModuleType
from typing import Final

__all__ = ["VARIABLES", "switch_off_network"]

VARIABLES: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # LangSmith asks four names, and the first one that is set counts.
    "LANGSMITH_TRACING_V2": "false",
    "LANGCHAIN_TRACING_V2": "false",
    "LANGSMITH_TRACING": "false",
    "LANGCHAIN_TRACING": "false",
    "ANONYMIZED_TELEMETRY": "False",  # Chroma
    "DO_NOT_TRACK": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}
"""What other libraries read: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables,
https://docs.smith.langchain.com/observability/how_to_guides/trace_with_langchain,
https://docs.trychroma.com/docs/overview/telemetry, https://consoledonottrack.com."""


def switch_off_network(
    environ: MutableMapping[str, str] = os.environ, modules: Mapping[str, ModuleType] = sys.modules
) -> None:
    """Switch off downloads, traces and telemetry of the libraries that this package works with, until the process ends.

    Connections to this machine itself still work. Nothing is imported: a library that was imported before is told, one
    that comes later reads its variable.

    Args:
        environ: Where the variables are set.
        modules: The modules that were imported so far.
    """
    environ.update(VARIABLES)
    if (constants := modules.get("huggingface_hub.constants")) is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
    # Chroma reads its variable for each client, and refuses a second one of a folder that has other settings.
    if (chroma := modules.get("chromadb.api.shared_system_client")) is not None:
        for system in list(getattr(chroma.SharedSystemClient, "_identifier_to_system", {}).values()):
            if "anonymized_telemetry" not in system.settings.model_fields_set:
                system.settings.anonymized_telemetry = False
    # LangSmith remembers what its variables were when it was first asked.
    if (langsmith := modules.get("langsmith")) is not None:
        langsmith.configure(enabled=False)
