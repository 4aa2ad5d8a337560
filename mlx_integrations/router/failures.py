"""What can go wrong with a candidate, and what follows from it: ask it again, ask another one, leave it alone.

kind              again            another   from then on left alone
missing_model     no               yes       until it is there
slow_load         no               yes       no; it goes on loading
no_memory         no               yes       no
out_of_memory     no               yes       at once, for a window
broken            no               yes       at once, for a window
context_overflow  no               yes       no
unsupported       no               yes       no
busy              no               yes       no
timeout           no               yes       counts one
stall             no               yes       counts one
cut               no               yes       counts one
failed            no               yes       counts one
unavailable       once if remote   yes       counts one; as long as it asks to, if it does
rate_limit        no               yes       as long as it asks to
bad_tool_call     once if local    yes       no
bad_output        once             yes       no
authentication    no               yes       long
invalid_request   no               no        no
content_policy    no               if asked  no
privacy           no               no        no
control           no               no        no
"""

import json
from dataclasses import dataclass
from typing import Literal

from mlx_integrations import errors

__all__ = ["REACTIONS", "Failure", "FailureKind", "Reaction", "classify"]

FailureKind = Literal[
    "missing_model",
    "slow_load",
    "no_memory",
    "out_of_memory",
    "broken",
    "context_overflow",
    "unsupported",
    "busy",
    "timeout",
    "stall",
    "cut",
    "failed",
    "unavailable",
    "rate_limit",
    "bad_tool_call",
    "bad_output",
    "authentication",
    "invalid_request",
    "content_policy",
    "privacy",
    "control",
]

_RATE_LIMIT_SECONDS = 10.0
"""How long a candidate is left alone that says it is asked too often, but not for how long."""
_AUTHENTICATION_SECONDS = 600.0
"""A key does not become valid by itself; still, somebody may add credit or a right while the process runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong.

    Attributes:
        kind: Which row of the table.
        retry_after_seconds: How long the candidate asks to be left alone, if it does.
        status: What it answered in HTTP, if it did.
    """

    kind: FailureKind
    retry_after_seconds: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What follows from a failure.

    Attributes:
        description: What happened, in words for a person.
        asks_another: Whether the next candidate is asked.
        local_retries: How often a candidate on this machine is asked again first.
        remote_retries: How often one elsewhere is.
        weight: What it adds to the candidate's count; a breaker opens at its threshold.
        opens: The candidate is left alone at once.
        open_seconds: For how long, where that is not the breaker's own window. A candidate that asks for a time gets
            it.
        until_present: It is left alone until its model is there.
    """

    description: str
    asks_another: bool = True
    local_retries: int = 0
    remote_retries: int = 0
    weight: float = 0.0
    opens: bool = False
    open_seconds: float | None = None
    until_present: bool = False


REACTIONS: dict[FailureKind, Reaction] = {
    "missing_model": Reaction(description="its model is not there", opens=True, until_present=True),
    "slow_load": Reaction(description="its model is still loading"),
    "no_memory": Reaction(description="its model does not fit into memory"),
    "out_of_memory": Reaction(description="out of memory", opens=True),
    "broken": Reaction(description="it cannot run", opens=True),
    "context_overflow": Reaction(description="the prompt is longer than its window"),
    "unsupported": Reaction(description="it cannot do what was asked"),
    "busy": Reaction(description="too many requests are waiting"),
    "timeout": Reaction(description="no answer in time", weight=1.0),
    "stall": Reaction(description="it stopped in the middle of its answer", weight=1.0),
    "cut": Reaction(description="its answer was cut off", weight=1.0),
    "failed": Reaction(description="it failed", weight=1.0),
    "unavailable": Reaction(description="it cannot be reached, or is overloaded", remote_retries=1, weight=1.0),
    "rate_limit": Reaction(description="asked too often", opens=True, open_seconds=_RATE_LIMIT_SECONDS),
    "bad_tool_call": Reaction(description="it wrote a tool call that cannot be accepted", local_retries=1),
    "bad_output": Reaction(description="it wrote what was not asked for", local_retries=1, remote_retries=1),
    "authentication": Reaction(description="it refuses the key", opens=True, open_seconds=_AUTHENTICATION_SECONDS),
    "invalid_request": Reaction(description="it refuses the request as written", asks_another=False),
    "content_policy": Reaction(description="its rules forbid it", asks_another=False),
    "privacy": Reaction(description="the request must stay on this machine", asks_another=False),
    "control": Reaction(description="interrupted", asks_another=False),
}

# The first class that fits decides, so the narrower ones come first. `ValueError` is what callers cause, but several
# errors that no caller causes are `ValueError`s, too.
_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], FailureKind], ...] = (
    (errors.PrivacyError, "privacy"),
    (errors.ContextOverflowError, "context_overflow"),
    ((errors.UnsupportedContentError, errors.UnsupportedSchemaError, NotImplementedError), "unsupported"),
    (errors.RequestError, "invalid_request"),
    (errors.RemoteAuthenticationError, "authentication"),
    (errors.RemoteRateLimitError, "rate_limit"),
    ((errors.RemoteTimeoutError, TimeoutError), "timeout"),
    (errors.RemoteStreamError, "cut"),
    ((errors.RemoteModelNotFoundError, errors.ModelNotFoundError, errors.HubError), "missing_model"),
    (errors.RemoteRequestError, "invalid_request"),
    (errors.RemoteContentPolicyError, "content_policy"),
    ((errors.RemoteError, errors.RouterError), "unavailable"),
    (errors.PartialResponseError, "cut"),
    (errors.InsufficientMemoryError, "no_memory"),
    ((errors.QueueFullError, errors.ModelInUseError), "busy"),
    ((errors.ModelLoadError, errors.MLXUnavailableError, errors.RuntimeClosedError), "broken"),
    (errors.ConfigurationError, "broken"),
    (errors.OutputError, "bad_output"),
    (errors.LocalBackendError, "failed"),
    (MemoryError, "out_of_memory"),
    (FileNotFoundError, "missing_model"),
    (OSError, "unavailable"),
    ((json.JSONDecodeError, UnicodeError), "cut"),
    ((ValueError, TypeError), "invalid_request"),
)

# MLX raises plain RuntimeErrors, so that their texts are all there is to tell them by:
# https://github.com/ml-explore/mlx/blob/main/mlx/backend/metal/device.cpp and allocator.cpp.
_METAL_TEXTS = ("[METAL]", "[metal::", "maximum allowed buffer size", "[malloc]", "Out of memory", "out of memory")


def classify(error: Exception) -> Failure:
    """Which failure an error of this package, of Python or of MLX is."""
    if _is_out_of_memory(error):
        return Failure(kind="out_of_memory")
    kind: FailureKind = next((kind for classes, kind in _KINDS if isinstance(error, classes)), "failed")
    return Failure(
        kind=kind,
        retry_after_seconds=getattr(error, "retry_after_seconds", None),
        status=error.status if isinstance(error, errors.RemoteError) else None,
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, however often the error was translated since."""
    for _ in range(8):  # chains of causes are short, and may be circles
        if error is None:
            return False
        if isinstance(error, MemoryError):
            return True
        if type(error) is RuntimeError and any(text in str(error) for text in _METAL_TEXTS):
            return True
        error = error.__cause__
    return False
