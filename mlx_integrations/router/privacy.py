"""What must stay on this machine: how it is recognised, marked, and kept from leaving.

A request is private because somebody said so (a flag, a tag, an embedding profile), because something was found in one
of its messages, or because one of them answers a private request. Answers to private requests are marked, so that the
rest of the conversation stays here as well, also when what made it private was cut off in the meantime.

The filter is applied twice: `decide` leaves candidates out before it orders them, and `check_dispatch` looks once more
when a request is about to leave.
"""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlx_integrations.errors import InvalidRequestError, PrivacyError
from mlx_integrations.router.candidates import Candidate, Location
from mlx_integrations.router.detectors import make_detectors
from mlx_integrations.router.facts import MessageFacts, RequestFacts
from mlx_integrations.router.policy import Policy

__all__ = ["LOCAL_ONLY", "PRIVACY_KEY", "PrivacyScanner", "check_dispatch", "is_marked", "said_private"]

PRIVACY_KEY: Final = "privacy"
"""Where frameworks keep the mark in a message's metadata."""
LOCAL_ONLY: Final = "local_only"
"""What stands there in an answer to a private request."""
_PLACES: Final = {
    "system": "in the system message",
    "user": "in a user's message",
    "assistant": "in an answer",
    "tool": "in a tool's result",
}
_KEPT: Final = 4096
"""Texts that are remembered, by what was found in them: some hundred long conversations."""


def is_marked(metadata: Mapping[str, Any]) -> bool:
    """Whether a message's metadata says that it must stay on this machine."""
    # Chunks of several answers are merged by putting their texts together.
    return str(metadata.get(PRIVACY_KEY)).startswith(LOCAL_ONLY)


def said_private(said: Any) -> bool | None:
    """Whether a call says of itself that it is private; `None` if it does not say.

    Args:
        said: The value of its option, or of its metadata.

    Raises:
        InvalidRequestError: It is neither yes nor no. A slip of the pen must not let anything leave.
    """
    if said is None or isinstance(said, bool):
        return said
    if said in (LOCAL_ONLY, "private"):
        return True
    raise InvalidRequestError(
        "What the call says of its privacy is neither yes nor no.",
        field=PRIVACY_KEY,
        hint='Give `privacy="local_only"` to keep it here, or `privacy=False` to ignore what is found in it.',
    )


def check_dispatch(
    candidate: Candidate,
    facts: RequestFacts,
    policy: Policy | None = None,
    *,
    location: Location | None = None,
) -> None:
    """Refuse to let a request go to a candidate that must not have it: the second filter, right before it leaves.

    Args:
        candidate: Who is about to be asked.
        facts: What is known of the request.
        policy: What the user wants; without one only what is known of the request counts.
        location: Where the candidate is as of now, if somebody has looked again.

    Raises:
        PrivacyError: It must not go there.
    """
    if candidate.location != "remote" and location != "remote":
        return
    forbidden = policy is not None and (policy.mode == "local_only" or not policy.allow_cloud)
    if facts.private_because or forbidden:
        moved = " any more" if candidate.location != "remote" else ""
        raise PrivacyError(
            f"The request must stay on this machine, and `{candidate.name}` is not on it{moved}.",
            because=facts.private_because,
            candidates=(candidate.name,),
        )


class PrivacyScanner:
    """Says what makes messages private. Safe from any thread.

    Remembers what it found in which text, under a keyed hash: neither texts nor anything that they could be guessed
    from stay in memory.

    Args:
        policy: Says what is looked for.
        kept: So many texts are remembered; the oldest ones are forgotten.

    Raises:
        ConfigurationError: A pattern of the policy is none.
    """

    def __init__(self, policy: Policy, *, kept: int = _KEPT) -> None:
        self._detectors = make_detectors(policy.detectors, policy.private_words, policy.private_patterns)
        self._kept = kept
        self._key = os.urandom(16)
        self._lock = threading.Lock()
        self._found: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._answers: OrderedDict[bytes, None] = OrderedDict()

    def reasons(self, messages: Sequence[MessageFacts], *, tools: bytes = b"", look: bool = True) -> tuple[str, ...]:
        """What makes messages private, each reason once: what kind of thing was found, and in whose message.

        Args:
            messages: All of them, results of tools included.
            tools: Descriptions of tools and the schema of the answer, in UTF-8.
            look: Whether to look into texts; marks count in any case.
        """
        reasons: dict[str, None] = {}
        for message in messages:
            if message.is_private or (message.role == "assistant" and self.is_private_answer(message.text)):
                reasons["an earlier answer must stay on this machine"] = None
            if look and message.text:
                for kind in self._kinds(message.text, message.text.encode("utf-8", "surrogatepass")):
                    reasons[f"{kind} {_PLACES[message.role]}"] = None
        if tools and look:
            for kind in self._kinds(tools.decode("utf-8", "replace"), tools):
                reasons[f"{kind} in the description of a tool or schema"] = None
        return tuple(reasons)

    def remember_answer(self, text: str) -> None:
        """Let every later request with this answer in it be private: for callers whose messages carry no marks.

        The latest few thousand answers are remembered, as long as this scanner lives.
        """
        if text := text.strip():  # frameworks take off what is around it
            with self._lock:
                self._keep(self._answers, self._key_of(text.encode("utf-8", "surrogatepass")), None)

    def is_private_answer(self, text: str) -> bool:
        """Whether a text was given to `remember_answer`."""
        if not self._answers or not (text := text.strip()):
            return False
        return self._key_of(text.encode("utf-8", "surrogatepass")) in self._answers

    def _kinds(self, text: str, encoded: bytes) -> tuple[str, ...]:
        if not self._detectors:
            return ()
        key = self._key_of(encoded)
        found = self._found.get(key)
        if found is None:
            found = tuple(kind for kind, is_in in self._detectors.items() if is_in(text))
            with self._lock:
                self._keep(self._found, key, found)
        return found

    def _key_of(self, encoded: bytes) -> bytes:
        return hashlib.blake2b(encoded, digest_size=16, key=self._key).digest()

    def _keep(self, memory: OrderedDict[bytes, Any], key: bytes, value: Any) -> None:
        memory[key] = value
        while len(memory) > self._kept:
            memory.popitem(last=False)
