"""Who is asked, and why: rules one by one, and what holds for any request, candidates and policy."""

import os
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_integrations.errors import ConfigurationError
from mlx_integrations.router.candidates import Candidate, CandidateState, Location
from mlx_integrations.router.decide import decide, estimate_usd, uncertain
from mlx_integrations.router.facts import TASKS, AttachmentKind, RequestFacts
from mlx_integrations.router.plan import Plan, explain
from mlx_integrations.router.policy import Deadlines, Mode, Policy
from mlx_integrations.types import ModelCapabilities

CAPABLE = ModelCapabilities(context_window=1000, tools=True, vision=True)
PLAIN = ModelCapabilities(context_window=1000, structured_output=False)
HOME = Candidate(name="home", location="in-process", capabilities=CAPABLE)
NEXT_ROOM = Candidate(name="next-room", location="loopback", capabilities=CAPABLE)
CLOUD = Candidate(name="cloud", location="remote", capabilities=CAPABLE, input_price=1.0, output_price=2.0)
OTHER_CLOUD = replace(CLOUD, name="other-cloud", input_price=5.0)
ALL = (HOME, NEXT_ROOM, CLOUD, OTHER_CLOUD)
SHORT = RequestFacts(text_bytes=100)
OPEN = Policy(allow_cloud=True)


def _reason(plan: Plan, name: str) -> str:
    (found,) = [item for item in plan.considered if item.name == name]
    return found.reason


def _decide(
    facts: RequestFacts = SHORT,
    policy: Policy = OPEN,
    candidates: tuple[Candidate, ...] = ALL,
    *,
    spent_usd: float = 0.0,
    states: Mapping[str, CandidateState] = MappingProxyType({}),
) -> Plan:
    return decide(facts, candidates, states, policy, spent_usd=spent_usd)


def test_the_mode_says_which_side_goes_first_and_whether_the_other_goes_at_all() -> None:
    assert _decide().order == ("home", "next-room", "cloud", "other-cloud")
    prefer_cloud = Policy(mode="prefer_cloud", allow_cloud=True)
    assert _decide(policy=prefer_cloud).order == ("cloud", "other-cloud", "home", "next-room")
    assert _decide(policy=Policy(mode="cloud_only", allow_cloud=True)).order == ("cloud", "other-cloud")
    assert _decide(policy=Policy(mode="local_only", allow_cloud=True)).order == ("home", "next-room")


def test_nothing_leaves_without_leave_whatever_the_mode() -> None:
    plan = _decide(policy=Policy())
    assert plan.order == ("home", "next-room")
    assert _reason(plan, "cloud") == "the cloud is not allowed"
    assert [item.is_privacy for item in plan.considered] == [False, False, True, True]


def test_a_private_request_stays_and_says_why() -> None:
    facts = replace(SHORT, private_because=("an email address in a user's message",))
    plan = _decide(facts, Policy(mode="prefer_cloud", allow_cloud=True))
    assert plan.order == ("home", "next-room")
    assert plan.private_because == facts.private_because
    assert "an email address in a user's message" in _reason(plan, "cloud")
    assert _decide(facts, Policy(mode="cloud_only", allow_cloud=True)).order == ()


def test_a_listed_address_counts_as_ones_own() -> None:
    listed = replace(CLOUD, name="studio", location="listed", input_price=None)
    plan = _decide(replace(SHORT, private_because=("it was said to be private",)), candidates=(listed,))
    assert plan.order == ("studio",)
    assert _reason(plan, "studio") == "at an address you listed"


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        (replace(SHORT, needs_tools=True), CandidateState(), "it cannot call tools"),
        (replace(SHORT, needs_structured_output=True), CandidateState(), "it cannot be held to a schema"),
        (replace(SHORT, attachments=frozenset({"image"})), CandidateState(), "it reads no images"),
        (replace(SHORT, attachments=frozenset({"audio"})), CandidateState(), "it reads no audio"),
        (SHORT, CandidateState(is_present=False), "its model is not on this machine"),
        (SHORT, CandidateState(fits_memory=False), "its model does not fit into memory"),
        (SHORT, CandidateState(blocked_seconds=4, blocked_because="no answer"), "left alone for 4 s: no answer"),
        (SHORT, CandidateState(blocked_seconds=float("inf")), "left alone until that changes: it failed"),
        (SHORT, CandidateState(in_flight=2), "it is answering 2 calls, as many as it takes"),
        (replace(SHORT, prompt_tokens=1000), CandidateState(), "the request is longer than its window of 1,000 tokens"),
        (SHORT, CandidateState(prompt_tokens=1000), "the request is longer than its window of 1,000 tokens"),
        (replace(SHORT, text_bytes=9000), CandidateState(), "the request is longer than its window of 1,000 tokens"),
        (replace(SHORT, output_tokens=950), CandidateState(), "it writes 900 tokens at most"),
    ],
)
def test_what_a_candidate_cannot_do_rules_it_out(facts: RequestFacts, state: CandidateState, reason: str) -> None:
    candidate = replace(HOME, capabilities=replace(PLAIN, max_output_tokens=900), max_concurrent=2)
    plan = _decide(facts, candidates=(candidate, CLOUD), states={"home": state})
    assert "home" not in plan.order
    assert _reason(plan, "home") == reason
    assert not plan.considered[-1].is_privacy


def test_a_prompt_fits_when_its_bytes_do_and_is_counted_only_in_between() -> None:
    for size, names in ((999, ()), (1000, ("home",)), (7992, ("home",)), (7993, ())):
        assert uncertain(RequestFacts(text_bytes=size), (HOME,)) == names, size
    assert _decide(RequestFacts(text_bytes=7993), candidates=(HOME,)).order == ()
    unsure = _decide(RequestFacts(text_bytes=5000), candidates=(HOME,))
    assert "may be too long" in _reason(unsure, "home")
    counted = _decide(
        RequestFacts(text_bytes=5000), candidates=(HOME,), states={"home": CandidateState(prompt_tokens=999)}
    )
    assert counted.order == ("home",) and "too long" not in _reason(counted, "home")


def test_what_nobody_knows_rules_nobody_out() -> None:
    unknown = replace(CLOUD, capabilities=None)
    facts = replace(SHORT, needs_tools=True, attachments=frozenset({"image", "file"}), text_bytes=10**9)
    assert _decide(facts, candidates=(unknown,)).order == ("cloud",)


def test_the_network_may_be_off() -> None:
    plan = _decide(policy=replace(OPEN, is_offline=True))
    assert plan.order == ("home", "next-room")
    assert _reason(plan, "cloud") == "the network is switched off"


def test_a_budget_is_never_overdrawn_and_own_machines_cost_nothing() -> None:
    million = RequestFacts(text_bytes=400, prompt_tokens=900, output_tokens=100)
    assert estimate_usd(million, CLOUD) == pytest.approx((900 * 1 + 100 * 2) / 1e6)
    assert estimate_usd(million, HOME) == 0.0
    assert estimate_usd(million, replace(CLOUD, input_price=None)) is None
    policy = replace(OPEN, budget_usd=0.002)
    assert "cloud" in _decide(million, policy).order
    left = _decide(million, policy, spent_usd=0.001)
    assert _reason(left, "cloud") == "it costs more than what is left of the budget"
    spent = _decide(million, policy, spent_usd=0.002)
    assert spent.order == ("home", "next-room")
    assert _reason(spent, "cloud") == "the budget is spent"
    unpriced = _decide(million, policy, candidates=(replace(CLOUD, output_price=None),))
    assert _reason(unpriced, "cloud") == "there is a budget, and its price is not known"


def test_a_preference_for_a_task_is_stronger_than_the_mode_but_not_than_privacy() -> None:
    policy = replace(OPEN, tasks={"code": ("other-cloud", "next-room")})
    code = replace(SHORT, task="code")
    plan = _decide(code, policy)
    assert plan.order == ("other-cloud", "next-room", "home", "cloud")
    assert "you prefer it for `code`" in _reason(plan, "other-cloud")
    assert _decide(replace(SHORT, task="chat"), policy).order[0] == "home"
    assert _decide(replace(code, private_because=("x",)), policy).order == ("next-room", "home")


def test_the_users_order_holds_within_a_side() -> None:
    policy = replace(OPEN, order=("other-cloud", "next-room", "home"))
    assert _decide(policy=policy).order == ("next-room", "home", "other-cloud", "cloud")


def test_what_is_good_at_the_task_and_knows_the_language_goes_first() -> None:
    coder = replace(HOME, name="coder", tasks=frozenset({"code"}))
    german = replace(HOME, name="german", languages=frozenset({"de"}))
    english = replace(HOME, name="english", languages=frozenset({"en"}))
    assert _decide(replace(SHORT, task="code"), candidates=(HOME, coder)).order == ("coder", "home")
    assert _decide(replace(SHORT, language="de"), candidates=(english, german)).order == ("german", "english")


def test_what_is_in_memory_fast_and_cheap_goes_first() -> None:
    cold, warm = CandidateState(is_loaded=False), CandidateState(is_loaded=True)
    assert _decide(states={"home": cold, "next-room": warm}).order[0] == "next-room"
    slow = CandidateState(is_loaded=True, tokens_per_second=10.0, first_token_seconds=1.0)
    fast = CandidateState(is_loaded=True, tokens_per_second=90.0, first_token_seconds=0.1)
    assert _decide(states={"home": slow, "next-room": fast}).order[0] == "next-room"
    alike = replace(slow, tokens_per_second=11.0)
    assert _decide(states={"home": slow, "next-room": alike}).order[0] == "home", "noise does not change the order"
    assert _decide(candidates=(OTHER_CLOUD, CLOUD)).order == ("cloud", "other-cloud")
    hardly = CandidateState(is_loaded=True, tokens_per_second=5e-324)
    assert _decide(states={"home": hardly, "next-room": slow}).order[0] == "next-room"


def test_equals_are_taken_in_turn_by_how_busy_they_are() -> None:
    pool = tuple(replace(NEXT_ROOM, name=name, group="pool") for name in ("a", "b", "c"))
    states = {"a": CandidateState(in_flight=2), "b": CandidateState(), "c": CandidateState(in_flight=1)}
    assert _decide(candidates=(HOME, *pool), states=states).order == ("home", "b", "c", "a")
    alone = tuple(replace(item, group=None) for item in pool)
    assert _decide(candidates=alone, states=states).order == ("a", "b", "c"), "who is no equal is not compared"
    warm = {**states, "a": CandidateState(in_flight=2, is_loaded=True)}
    assert _decide(candidates=(*pool, HOME), states=warm).order == ("b", "c", "a", "home"), "a group stands by its best"


def test_a_scorer_orders_what_is_otherwise_equal() -> None:
    scores = {"home": 0.2, "next-room": 0.9}
    policy = replace(OPEN, scorer=lambda facts, name: scores.get(name, 0.5))
    assert _decide(policy=policy, candidates=(HOME, NEXT_ROOM)).order == ("next-room", "home")
    unsure = replace(OPEN, scorer=lambda facts, name: float("nan"))
    assert _decide(policy=unsure, candidates=(HOME, NEXT_ROOM)).order == ("home", "next-room")


def test_a_plan_is_explained_line_by_line() -> None:
    lines = explain(_decide(replace(SHORT, private_because=("it is tagged `private`",)))).splitlines()
    assert lines == [
        "This must stay on this machine: it is tagged `private`.",
        "1. home: in this process",
        "2. next-room: on this machine",
        "-  cloud: left out, the request must stay on this machine: it is tagged `private`",
        "-  other-cloud: left out, the request must stay on this machine: it is tagged `private`",
    ]
    assert explain(_decide(candidates=())) == "Nobody may be asked."


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"mode": "prefer_cloud"}, "contradicts `allow_cloud`", "prefer_local"),
        ({"mode": "cloud_only"}, "contradicts `allow_cloud`", "prefer_local"),
        ({"mode": "local_olny"}, "The mode `local_olny` does not exist", "Did you mean `local_only`?"),
        ({"guarantee": "total"}, "The guarantee `total` does not exist", "There are `live`, `complete`."),
        ({"tasks": {"coding": ("home",)}}, "The task `coding` does not exist", "Did you mean `code`?"),
        ({"detectors": ("e-mail",)}, "The detector `e-mail` does not exist", "Did you mean `email`?"),
        ({"budget_usd": -1.0}, "`budget_usd` cannot be `-1.0`", "0 or more"),
        ({"budget_usd": float("nan")}, "`budget_usd` cannot be `nan`", "0 or more"),
        ({"hold_tokens": -1}, "`hold_tokens` cannot be `-1`", "0 or more"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_at_once(values: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Policy(**values)  # type: ignore[arg-type]
    assert hint in caught.value.hint


@pytest.mark.parametrize("seconds", [-1.0, 0.0, float("nan")])
def test_a_deadline_lies_in_the_future(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="The deadline `total` cannot be"):
        Deadlines(total=seconds)


def test_a_policy_names_candidates_that_are_there() -> None:
    policy = Policy(tasks={"code": ("home", "clout")})
    with pytest.raises(ConfigurationError, match=r"The candidate `clout` in `tasks\.code` does not exist") as caught:
        policy.check_candidates(("home", "cloud"))
    assert caught.value.hint == "Did you mean `cloud`?"
    policy.check_candidates(("home", "clout"))


_SOME_PRICE = st.none() | st.floats(0, 100)
_CAPABILITIES = st.none() | st.builds(
    ModelCapabilities,
    context_window=st.integers(1, 10**6),
    max_output_tokens=st.none() | st.integers(1, 10**5),
    tools=st.booleans(),
    structured_output=st.booleans(),
    vision=st.booleans(),
)
_CANDIDATES = st.lists(
    st.builds(
        Candidate,
        name=st.sampled_from("abcdefgh"),
        location=st.sampled_from(get_args(Location)),
        capabilities=_CAPABILITIES,
        tasks=st.frozensets(st.sampled_from(TASKS), max_size=2),
        languages=st.none() | st.frozensets(st.sampled_from(["de", "en"])),
        input_price=_SOME_PRICE,
        output_price=_SOME_PRICE,
        group=st.none() | st.sampled_from(["g", "h"]),
        max_concurrent=st.none() | st.integers(1, 3),
    ),
    max_size=6,
    unique_by=lambda candidate: candidate.name,
).map(tuple)
_STATES = st.dictionaries(
    st.sampled_from("abcdefgh"),
    st.builds(
        CandidateState,
        is_present=st.booleans(),
        is_loaded=st.none() | st.booleans(),
        fits_memory=st.none() | st.booleans(),
        in_flight=st.integers(0, 4),
        blocked_seconds=st.sampled_from([0.0, 0.0, 3.0, float("inf")]),
        tokens_per_second=st.none() | st.floats(0, 1000),
        first_token_seconds=st.none() | st.floats(0, 100),
        prompt_tokens=st.none() | st.integers(0, 10**6),
    ),
)
_FACTS = st.builds(
    RequestFacts,
    text_bytes=st.integers(0, 10**7),
    prompt_tokens=st.none() | st.integers(0, 10**6),
    output_tokens=st.none() | st.integers(1, 10**5),
    needs_tools=st.booleans(),
    needs_structured_output=st.booleans(),
    attachments=st.frozensets(st.sampled_from(get_args(AttachmentKind))),
    private_because=st.sampled_from([(), ("it was said to be private",)]),
    task=st.none() | st.sampled_from(TASKS),
    language=st.none() | st.sampled_from(["de", "en"]),
)
_POLICIES = st.builds(
    lambda allow_cloud, mode, **values: Policy(
        allow_cloud=allow_cloud or mode in ("prefer_cloud", "cloud_only"), mode=mode, **values
    ),
    allow_cloud=st.booleans(),
    mode=st.sampled_from(get_args(Mode)),
    is_offline=st.booleans(),
    tasks=st.dictionaries(st.sampled_from(TASKS), st.lists(st.sampled_from("abcdefgh"), max_size=3).map(tuple)),
    order=st.lists(st.sampled_from("abcdefgh"), max_size=4).map(tuple),
    budget_usd=st.none() | st.floats(0, 10),
    scorer=st.none() | st.just(lambda facts, name: ord(name) / 200),
)


@settings(max_examples=int(os.environ.get("MLXI_FUZZ_EXAMPLES", "100")), deadline=None)
@given(_FACTS, _CANDIDATES, _STATES, _POLICIES, st.floats(0, 20))
def test_what_holds_for_every_decision(
    facts: RequestFacts,
    candidates: tuple[Candidate, ...],
    states: dict[str, CandidateState],
    policy: Policy,
    spent_usd: float,
) -> None:
    plan = decide(facts, candidates, states, policy, spent_usd=spent_usd)
    remote = {item.name for item in candidates if item.location == "remote"}
    if facts.private_because or policy.mode == "local_only" or not policy.allow_cloud or policy.is_offline:
        assert not remote & set(plan.order)
    if policy.mode == "cloud_only":
        assert set(plan.order) <= remote
    assert sorted(item.name for item in plan.considered) == sorted(item.name for item in candidates)
    assert all(item.reason for item in plan.considered)
    assert plan.order == tuple(item.name for item in plan.considered if item.is_taken)
    assert [item.is_taken for item in plan.considered] == sorted((i.is_taken for i in plan.considered), reverse=True)
    assert not any(item.is_privacy and item.is_taken for item in plan.considered)
    assert decide(facts, candidates, states, policy, spent_usd=spent_usd) == plan
