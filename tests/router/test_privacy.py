"""What makes a request private, what is remembered of it, and the second look before it leaves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError, InvalidRequestError, PrivacyError
from mlx_integrations.router.candidates import Candidate, CandidateState
from mlx_integrations.router.decide import decide
from mlx_integrations.router.detectors import DESCRIPTIONS
from mlx_integrations.router.facts import MessageFacts, RequestFacts
from mlx_integrations.router.plan import explain
from mlx_integrations.router.policy import DETECTORS, Policy
from mlx_integrations.router.privacy import LOCAL_ONLY, PRIVACY_KEY, PrivacyScanner, check_dispatch, is_marked
from mlx_integrations.router.read import RequestReader, message_facts
from mlx_integrations.types import (
    Attachment,
    ChatMessage,
    ChatRequest,
    JsonSchemaFormat,
    SamplingParams,
    ToolCall,
    ToolChoice,
    ToolSpec,
)

ALL = Policy(detectors=DETECTORS)
CARD = "4111 1111 1111 1111"
KEY = "sk-proj-abcdefghijklmnopqrstuv"
HOME = Candidate(name="home", location="in-process")
SERVER = Candidate(name="server", location="loopback")
CLOUD = Candidate(name="cloud", location="remote")


def _chat(*messages: ChatMessage, **values: object) -> ChatRequest:
    return ChatRequest(messages=messages, **values)  # type: ignore[arg-type]


def _user(content: str) -> ChatMessage:
    return ChatMessage(role="user", content=content)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (ChatMessage(role="system", content=f"The card is {CARD}."), "in the system message"),
        (_user(f"My card is {CARD}."), "in a user's message"),
        (ChatMessage(role="assistant", content=f"It is {CARD}."), "in an answer"),
        (ChatMessage(role="assistant", reasoning=f"The card {CARD} ..."), "in an answer"),
        (
            ChatMessage(role="assistant", tool_calls=(ToolCall(id="1", name="pay", arguments={"card": CARD}),)),
            "in an answer",
        ),
        (ChatMessage(role="tool", content=f'{{"card": "{CARD}"}}', tool_call_id="1"), "in a tool's result"),
        (ChatMessage(role="user", name=CARD), "in a user's message"),
        (
            ChatMessage(
                role="user",
                attachments=(Attachment(kind="file", mime_type="text/csv", data=f"card\n{CARD}\n".encode()),),
            ),
            "in a user's message",
        ),
        (
            ChatMessage(role="user", attachments=(Attachment(kind="image", url=f"https://example.org/?c={CARD}"),)),
            "in a user's message",
        ),
    ],
)
def test_every_part_of_every_message_is_looked_at(message: ChatMessage, place: str) -> None:
    facts = RequestReader(ALL).read_chat(_chat(_user("Hello"), message))
    assert facts.private_because == (f"a credit card number {place}",)


@pytest.mark.parametrize(
    "request_",
    [
        _chat(_user("Hi"), tools=(ToolSpec(name="pay", description=f"Pays with {CARD}."),)),
        _chat(_user("Hi"), tools=(ToolSpec(name="pay", parameters={"properties": {"card": {"default": CARD}}}),)),
        _chat(_user("Hi"), output=JsonSchemaFormat(schema={"const": CARD})),
        _chat(_user("Hi"), sampling=SamplingParams(stop=(CARD,))),
        _chat(_user("Hi"), template_options={"persona": CARD}),
    ],
)
def test_what_is_sent_beside_the_messages_is_looked_at(request_: ChatRequest) -> None:
    facts = RequestReader(ALL).read_chat(request_)
    assert facts.private_because == ("a credit card number in the description of a tool or schema",)


def test_each_reason_is_told_once() -> None:
    facts = RequestReader(ALL).read_chat(_chat(_user(CARD), _user(f"again {CARD} and a@example.org")))
    assert facts.private_because == (
        "a credit card number in a user's message",
        "an email address in a user's message",
    )


def test_a_flag_a_tag_and_a_profile_make_a_request_private() -> None:
    reader = RequestReader(Policy(private_tags=frozenset({"private", "hr"}), private_profiles=frozenset({"people"})))
    hello = _chat(_user("Hello"))
    assert reader.read_chat(hello).private_because == ()
    assert reader.read_chat(hello, private=True).private_because == ("it was said to be private",)
    assert reader.read_chat(hello, tags=["hr", "x"]).private_because == ("it is tagged `hr`",)
    texts = [MessageFacts(role="user", text="Hello")]
    assert reader.read(texts, profile="people").private_because == (
        "texts of the profile `people` stay on this machine",
    )
    assert reader.read(texts, profile="projects").private_because == ()


def test_leave_given_for_one_request_waives_what_was_found_and_nothing_else() -> None:
    reader = RequestReader(ALL)
    assert reader.read_chat(_chat(_user(CARD)), private=False).private_because == ()
    assert reader.read_chat(_chat(_user(CARD)), private=False, tags=["private"]).is_private
    marked = [MessageFacts(role="assistant", text="x", is_private=True)]
    assert reader.read(marked, private=False).is_private


def test_an_answer_that_is_marked_keeps_the_conversation_here() -> None:
    assert is_marked({PRIVACY_KEY: LOCAL_ONLY}) and (PRIVACY_KEY, LOCAL_ONLY) == ("privacy", "local_only")
    assert not is_marked({}) and not is_marked({PRIVACY_KEY: "open"})
    answer = message_facts(ChatMessage(role="assistant", content="Noted."), is_private=True)
    facts = RequestReader(ALL).read([answer, MessageFacts(role="user", text="And now?")])
    assert facts.private_because == ("an earlier answer must stay on this machine",)


def test_an_answer_without_a_mark_is_known_again_by_what_it_says() -> None:
    reader = RequestReader(Policy(detectors=()))
    reader.scanner.remember_answer(" It is a private matter.\n")
    again = ChatMessage(role="assistant", content="It is a private matter.", reasoning="Let me think.")
    assert reader.read_chat(_chat(again, _user("And?"))).is_private
    assert not reader.read_chat(_chat(_user("It is a private matter."))).is_private, "a user may write the same"
    reader.scanner.remember_answer("")
    assert not reader.read_chat(_chat(ChatMessage(role="assistant"), _user("And?"))).is_private


def test_texts_are_looked_at_once_and_never_kept() -> None:
    looked: list[int] = []
    scanner = PrivacyScanner(Policy(detectors=(), private_words=("heron",)), kept=3)
    ((kind, find),) = scanner._detectors.items()

    def counting(text: str) -> bool:
        looked.append(len(text))
        return find(text)

    scanner._detectors[kind] = counting
    secret = "".join(["The heron", " lands at dawn 8151623"])
    messages = [MessageFacts(role="user", text=secret)]
    assert scanner.reasons(messages) == scanner.reasons(messages) == ("a word of your list in a user's message",)
    assert looked == [len(secret)]
    for number in range(3):
        scanner.reasons([MessageFacts(role="user", text=str(number))])
    assert len(scanner._found) == 3, "the oldest one is forgotten"
    scanner.reasons(messages)
    assert len(looked) == 5
    assert secret not in repr(scanner._found) and all(len(key) == 16 for key in scanner._found)


def test_two_scanners_know_a_text_by_different_hashes() -> None:
    first, second = PrivacyScanner(ALL), PrivacyScanner(ALL)
    for scanner in (first, second):
        scanner.reasons([MessageFacts(role="user", text="0173 1234567")])
    assert not set(first._found) & set(second._found), "nobody can look up a phone number by trying all of them"


@pytest.mark.parametrize("policy", [None, Policy(), Policy(allow_cloud=True), Policy(mode="local_only")])
def test_a_private_request_is_stopped_at_the_door(policy: Policy | None) -> None:
    private = RequestFacts(text_bytes=1, private_because=("it was said to be private",))
    for candidate in (HOME, SERVER):
        check_dispatch(candidate, private, policy)
        check_dispatch(candidate, private, policy, location=candidate.location)
    with pytest.raises(PrivacyError) as caught:
        check_dispatch(CLOUD, private, policy)
    assert caught.value.because == ("it was said to be private",)
    assert caught.value.candidates == ("cloud",)
    with pytest.raises(PrivacyError, match="not on it any more"):
        check_dispatch(SERVER, private, policy, location="remote")
    with pytest.raises(PrivacyError):
        check_dispatch(CLOUD, private, policy, location="loopback")


def test_the_policy_counts_at_the_door_as_well() -> None:
    harmless = RequestFacts(text_bytes=1)
    check_dispatch(CLOUD, harmless, Policy(allow_cloud=True))
    for policy in (Policy(), Policy(mode="local_only", allow_cloud=True)):
        with pytest.raises(PrivacyError):
            check_dispatch(CLOUD, harmless, policy)


def test_facts_of_a_request_are_its_sizes_and_needs() -> None:
    request = _chat(
        _user("Grüße"),
        tools=(ToolSpec(name="add"),),
        output=None,
        sampling=SamplingParams(max_tokens=50),
    )
    facts = RequestReader(ALL).read_chat(request, prompt_tokens=12, task="chat", language="de", tags=["a"])
    assert facts.text_bytes >= len("Grüße".encode())
    assert (facts.output_tokens, facts.prompt_tokens, facts.task, facts.language) == (50, 12, "chat", "de")
    assert facts.needs_tools and not facts.needs_structured_output and facts.tags == {"a"}
    forbidden = _chat(_user("Hi"), tools=request.tools, tool_choice=ToolChoice(mode="none"))
    assert not RequestReader(ALL).read_chat(forbidden).needs_tools
    image = ChatMessage(role="user", attachments=(Attachment(kind="image", data=b"\x89PNG"),))
    assert RequestReader(ALL).read_chat(_chat(image)).attachments == {"image"}
    schema = _chat(_user("Hi"), output=JsonSchemaFormat(schema={"type": "object"}))
    assert RequestReader(ALL).read_chat(schema).needs_structured_output


def test_a_task_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidRequestError, match="There is no task `sumarize`") as caught:
        RequestReader(ALL).read_chat(_chat(_user("Hi")), task="sumarize")
    assert caught.value.hint == "Did you mean `summarize`?"


def test_a_pattern_that_is_none_is_refused_when_the_reader_is_made() -> None:
    with pytest.raises(ConfigurationError, match="Pattern 1"):
        RequestReader(Policy(private_patterns=("[",)))


_WORD = "zq7vkanary"
_MESSAGES = st.lists(
    st.builds(
        lambda role, before, find: MessageFacts(role=role, text=f"{before} {_WORD} {find}"),
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        before=st.text(max_size=40),
        find=st.sampled_from(["", CARD, KEY, f"{_WORD}@example.org", "+49 30 901820", "10.1.2.3", _WORD]),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(_MESSAGES, st.sampled_from([None, True]), st.booleans(), st.booleans())
def test_no_reason_ever_repeats_a_word_of_the_request(
    messages: list[MessageFacts], private: bool | None, allow_cloud: bool, blocked: bool
) -> None:
    policy = Policy(allow_cloud=allow_cloud, detectors=DETECTORS, private_words=(_WORD,), private_patterns=(_WORD[:4],))
    facts = RequestReader(policy).read(messages, private=private)
    states = {"home": CandidateState(blocked_seconds=float(blocked))}
    plan = decide(facts, (HOME, SERVER, CLOUD), states, policy)
    with pytest.raises(PrivacyError) as caught:
        check_dispatch(CLOUD, RequestFacts(text_bytes=1, private_because=facts.private_because), Policy())
    said = f"{plan} {explain(plan)} {facts} {caught.value} {vars(caught.value)}"
    for word in (_WORD, _WORD[:4], CARD, KEY, "901820", "10.1.2.3"):
        assert word not in said
    kinds = (*DESCRIPTIONS.values(), "a word of your list", "what your pattern 1 looks for", "it was said")
    assert all(reason.startswith(kinds) for reason in facts.private_because)
    if messages:
        assert facts.is_private and not {"cloud"} & set(plan.order)
