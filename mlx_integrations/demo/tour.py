"""The guided tour behind `mlxi demo`: chat, an agent with tools, structured output, questions about a folder of text,
a query engine of LlamaIndex, eight requests at once, a router whose local model fails, a vector store that gets another
model, and which larger models this machine could hold.

Everything shown is done by the shipped demo model, through the same code that runs a large one, and by an embedding
model if it is installed. What is not installed is named, with the line that installs it. The tour returns what it saw,
so that it is a test as well: `tests/demo/test_tour.py` checks the answers.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from mlx_integrations import __version__, get_runtime
from mlx_integrations.demo.migration import Migrated, show_migration
from mlx_integrations.demo.page import Page
from mlx_integrations.demo.rescue import Rescue, show_rescues
from mlx_integrations.demo.retrieval import answer_from, docs_folder, index_passages, read_passages
from mlx_integrations.demo.suited import Suited, suited_models, suited_table
from mlx_integrations.demo.tools import calculator, days_between, lookup_price
from mlx_integrations.errors import ConfigurationError, MissingExtraError, ModelNotFoundError

__all__ = ["AgentRun", "Answered", "Contact", "Queried", "Retrieval", "Speed", "Step", "TourResult", "run_tour"]

CHAT_QUESTION = "What can you do?"
AGENT_QUESTIONS = (
    "How much do 12 notebooks cost?",
    "How many weeks are there between 2026-03-01 and 2026-04-12?",
    "How much do a lamp and a chair cost together?",
)
CONTACT_TEXT = "Clara Lang is 36 years old. Clara Lang lives in Lisbon."
EMBEDDING_MODEL = "minilm-l6-v2"
DOCS_QUESTIONS = (
    "Does the package work without the network?",
    "How many tokens does MiniLM read?",
    "What does the first call load?",
)
ENGINE_PAGE = "explanation/questions.md"
ENGINE_QUESTION = "Is the package free?"
MIGRATED_PAGES = "explanation/"
BATCH_QUESTIONS = (
    "Who are you?",
    "What can you do?",
    "Do you work offline?",
    "Tell me about yourself.",
    "How can you help me?",
    "Where do you run?",
    "Which model are you?",
    "What are your skills?",
)
_ABOUT_THE_MODEL = (
    "The model is the small one that comes with the package. It knows next to nothing, but it chats, calls tools and "
    "fills in schemas through the same code as a large one. Nothing leaves this machine."
)
_PASSAGES = 2  # given with each question: more than the tiny model needs, and few enough for it to find its way


class Contact(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


@dataclass(frozen=True)
class Step:
    """A tool that was called, and what it answered."""

    tool: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True)
class AgentRun:
    """What an agent did for one question."""

    question: str
    steps: tuple[Step, ...]
    answer: str


@dataclass(frozen=True)
class Answered:
    """A question about the folder, the passages found for it, the nearest first, and the answer made of them."""

    question: str
    passages: tuple[Document, ...]
    answer: str


@dataclass(frozen=True)
class Retrieval:
    """How a folder was read, and what was asked about it."""

    files: int
    passages: int
    seconds: float
    answered: tuple[Answered, ...]


@dataclass(frozen=True)
class Queried:
    """What a query engine answered, from which passage, and how many models were loaded for it."""

    question: str
    passage: str
    answer: str
    loads: int


@dataclass(frozen=True)
class Speed:
    """The same requests, one after the other and all at once."""

    requests: int
    alone_tokens: int
    alone_seconds: float
    together_tokens: int
    together_seconds: float
    same_answers: bool

    @property
    def alone_tokens_per_second(self) -> float:
        """Tokens of all answers in a second, one request after the other."""
        return self.alone_tokens / self.alone_seconds

    @property
    def together_tokens_per_second(self) -> float:
        """Tokens of all answers in a second, all requests at once."""
        return self.together_tokens / self.together_seconds


@dataclass(frozen=True)
class TourResult:
    """What the tour saw; parts for which something is not installed are `None`."""

    chat: str
    agent: tuple[AgentRun, ...]
    contact: Contact
    retrieval: Retrieval | None
    engine: Queried | None
    speed: Speed
    rescues: tuple[Rescue, ...] | None
    migrated: Migrated | None
    suited: tuple[Suited, ...]
    seconds: float


def run_tour(console: Console, model: BaseChatModel | None = None, *, pauses: bool = False) -> TourResult:
    """Show what the package does.

    Args:
        console: Where to show it; plain text when it is not a terminal.
        model: What answers; the shipped demo model when not given.
        pauses: Whether to wait a moment between the parts, for people who read along.

    Returns:
        The answers and figures that were shown.
    """
    started = time.perf_counter()
    tour = _Tour(Page(console, pauses=pauses), model or _demo_model())
    tour.welcome(shipped=model is None)
    chat = tour.chat()
    agent = tour.agent()
    contact = tour.structured()
    retrieval = tour.retrieval()
    engine = tour.engine()
    speed = tour.together()
    rescues = tour.rescues()
    migrated = tour.migrated()
    suited = tour.suited()
    seconds = time.perf_counter() - started
    tour.goodbye(seconds)
    return TourResult(
        chat=chat,
        agent=agent,
        contact=contact,
        retrieval=retrieval,
        engine=engine,
        speed=speed,
        rescues=rescues,
        migrated=migrated,
        suited=suited,
        seconds=seconds,
    )


def _demo_model() -> BaseChatModel:
    from mlx_integrations.langchain import ChatMLX

    return ChatMLX(model="demo", temperature=0)


class _Tour:
    """The parts of the tour, each of which shows one thing and returns what it saw."""

    def __init__(self, page: Page, model: BaseChatModel) -> None:
        self._page = page
        self._model = model

    def welcome(self, *, shipped: bool) -> None:
        """Say what this is and what it runs on."""
        self._page.show(f"[bold]mlx-integrations {__version__}[/]: models in your own process, on MLX")
        if shipped:
            self._page.show(f"[dim]{_machine()}[/]")
            self._page.show(f"[dim]{_ABOUT_THE_MODEL}[/]")

    def chat(self) -> str:
        """A question and its answer, shown token by token."""
        self._page.heading("1. Chat, token by token", 'ChatMLX(model="demo").stream(question)')
        self._page.line("you", CHAT_QUESTION)
        return self._page.stream("model", (str(chunk.text) for chunk in self._model.stream(CHAT_QUESTION)))

    def agent(self) -> tuple[AgentRun, ...]:
        """Questions that take several tool calls, each step shown when it happens."""
        self._page.heading(
            "2. An agent with three tools", "create_agent(model, tools=[calculator, days_between, lookup_price])"
        )
        agent = create_agent(self._model, tools=[calculator, days_between, lookup_price])
        runs: list[AgentRun] = []
        for question in AGENT_QUESTIONS:
            if runs:
                self._page.show()
            self._page.line("you", question)
            runs.append(self._follow(question, agent))
        return tuple(runs)

    def structured(self) -> Contact:
        """A text turned into an instance of a class; the grammar makes any other outcome impossible."""
        self._page.heading("3. Structured output", "model.with_structured_output(Contact)")
        self._page.line("class", "Contact(name: str, age: int, city: str)")
        self._page.line("you", CONTACT_TEXT)
        contact = self._model.with_structured_output(Contact).invoke(CONTACT_TEXT)
        if not isinstance(contact, Contact):
            raise TypeError(f"expected a `Contact`, got {contact!r}")
        self._page.line("model", repr(contact))
        return contact

    def retrieval(self) -> Retrieval | None:
        """Questions about this project's documentation, answered from the passages nearest to them."""
        from mlx_integrations.langchain import MLXEmbeddings

        embeddings = MLXEmbeddings(model=EMBEDDING_MODEL)
        self._page.heading(
            "4. Questions about a folder of text",
            f'FAISS.from_documents(passages, MLXEmbeddings(model="{EMBEDDING_MODEL}"))',
        )
        passages = read_passages(docs_folder())
        files = len({passage.metadata["source"] for passage in passages})
        self._page.line("docs", f"{len(passages)} passages of {files} files")
        started = time.perf_counter()
        try:
            store = index_passages(passages, embeddings)
        except (MissingExtraError, ModelNotFoundError) as error:
            self._page.line("", str(error), style="yellow")
            return None
        seconds = time.perf_counter() - started
        self._page.line("store", f"embedded in {seconds:.1f} s, {len(passages) / seconds:.0f} passages a second")
        answered: list[Answered] = []
        for question in DOCS_QUESTIONS:
            self._page.show()
            self._page.line("you", question)
            found = store.similarity_search(question, k=_PASSAGES)
            for passage in found:
                text = f"{passage.metadata['source']}: {passage.page_content}"
                self._page.line("found", text, style="green", max_lines=2)
            answer = answer_from(self._model, question, found)
            self._page.line("model", answer)
            answered.append(Answered(question, tuple(found), answer))
        return Retrieval(files=files, passages=len(passages), seconds=seconds, answered=tuple(answered))

    def engine(self) -> Queried | None:
        """A question to a query engine of LlamaIndex, which shares both models with what came before."""
        self._page.heading(
            "5. The same models in LlamaIndex",
            f'VectorStoreIndex(nodes, embed_model=MLXEmbedding("{EMBEDDING_MODEL}")).as_query_engine(MLXLLM("demo"))',
        )
        try:
            from mlx_integrations.llama_index import MLXLLM, MLXEmbedding

            llm = MLXLLM(
                getattr(self._model, "model", "demo"), temperature=0, backend=getattr(self._model, "backend", None)
            )
            # Not earlier: what is missing is named by the line above.
            from mlx_integrations.demo.query_engine import ask

            loads = get_runtime().loads
            self._page.line("you", ENGINE_QUESTION)
            passages = [one for one in read_passages(docs_folder()) if one.metadata["source"] == ENGINE_PAGE]
            response = ask(ENGINE_QUESTION, passages, llm, MLXEmbedding(EMBEDDING_MODEL))
        except (MissingExtraError, ModelNotFoundError) as error:
            self._page.line("", str(error), style="yellow")
            return None
        passage = response.source_nodes[0].text
        self._page.line("found", f"{ENGINE_PAGE}: {passage}", style="green", max_lines=2)
        answer = self._page.stream("model", response.response_gen)
        loads = get_runtime().loads - loads
        if loads == 0:
            self._page.line("", "No model was loaded for this: both frameworks share one copy of each.")
        return Queried(question=ENGINE_QUESTION, passage=passage, answer=answer, loads=loads)

    def together(self) -> Speed:
        """The same requests alone and in one batch."""
        count = len(BATCH_QUESTIONS)
        self._page.heading(f"6. {count} requests at once", "model.batch(questions)")
        # Together first: the second time, prompts come from the prefix cache, and that must not flatter the batch.
        started = time.perf_counter()
        together = self._model.batch(list(BATCH_QUESTIONS))
        halfway = time.perf_counter()
        alone = [self._model.invoke(question) for question in BATCH_QUESTIONS]
        ended = time.perf_counter()
        speed = Speed(
            requests=count,
            alone_tokens=_completion_tokens(alone),
            alone_seconds=ended - halfway,
            together_tokens=_completion_tokens(together),
            together_seconds=halfway - started,
            same_answers=[answer.text for answer in alone] == [answer.text for answer in together],
        )
        self._page.show(_speed_table(speed))
        return speed

    def rescues(self) -> tuple[Rescue, ...] | None:
        """A local model that fails, and who is asked then."""
        self._page.heading(
            "7. When the local model fails",
            'ChatRouter(models={"local": ..., "cloud": ...}, policy=Policy(allow_cloud=True))',
        )
        try:
            return show_rescues(self._page, self._model, CHAT_QUESTION)
        except ConfigurationError as error:
            self._page.line("", str(error), style="yellow")
            return None

    def migrated(self) -> Migrated | None:
        """A vector store that gets another model; the process that does it is killed on the way."""
        self._page.heading(
            "8. Another model for a vector store",
            f"mlxi migrate run store --model {EMBEDDING_MODEL}; mlxi migrate rollback",
        )
        passages = [one for one in read_passages(docs_folder()) if one.metadata["source"].startswith(MIGRATED_PAGES)]
        try:
            return show_migration(self._page, passages, EMBEDDING_MODEL)
        except (MissingExtraError, ModelNotFoundError) as error:
            self._page.line("", str(error), style="yellow")
            return None

    def suited(self) -> tuple[Suited, ...]:
        """Larger models that would fit, from the catalogue and this machine's memory alone."""
        from mlx_integrations.assembly import model_registry

        self._page.heading("9. What this machine could run", "recommend(model_registry(), machine, use=use)")
        machine = get_runtime().prepare()
        gib = machine.budget_bytes / 1024**3
        self._page.show(f"[dim]Models may take {gib:.1f} GiB here. Nothing has been downloaded to know this.[/]")
        models = suited_models(model_registry(), machine)
        self._page.show(suited_table(models))
        return models

    def goodbye(self, seconds: float) -> None:
        """Say what to do next."""
        self._page.heading("Next", f"that took {seconds:.1f} s")
        for command, what in (
            ('mlxi chat "What can you do?"', "ask the demo model yourself"),
            ("mlxi run NAME", "download one of these, and talk to it"),
            ('mlxi chat --model PATH "..."', "ask a model in MLX format on your disk"),
        ):
            self._page.show(f"  [cyan]{command:<30}[/] {what}")

    def _follow(self, question: str, agent: Any) -> AgentRun:
        """Show the steps of one run as they happen."""
        calls: dict[str, tuple[str, dict[str, Any]]] = {}
        steps: list[Step] = []
        answer = ""
        for message in _messages(agent, question):
            if isinstance(message, AIMessage):
                for call in message.tool_calls:
                    calls[str(call["id"])] = call["name"], call["args"]
                    self._page.line("model", _call(call["name"], call["args"]), style="yellow")
                if not message.tool_calls:
                    answer = str(message.text)
                    self._page.line("model", answer)
            elif isinstance(message, ToolMessage):
                tool, arguments = calls[message.tool_call_id]
                steps.append(Step(tool=tool, arguments=arguments, result=str(message.text)))
                self._page.line("tool", f"{_call(tool, arguments)} -> {message.text}", style="green")
        return AgentRun(question=question, steps=tuple(steps), answer=answer)


def _messages(agent: Any, question: str) -> Iterator[Any]:
    """New messages of an agent's run, in order."""
    for update in agent.stream({"messages": [HumanMessage(question)]}, stream_mode="updates"):
        for change in update.values():
            yield from (change or {}).get("messages", ())


def _call(tool: str, arguments: dict[str, Any]) -> str:
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _completion_tokens(answers: list[AIMessage]) -> int:
    return sum(answer.usage_metadata["output_tokens"] for answer in answers if answer.usage_metadata)


def _speed_table(speed: Speed) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 2), header_style="dim")
    table.add_column("")
    for heading in ("tokens", "seconds", "tokens a second"):
        table.add_column(heading, justify="right")
    rows = (
        ("one after the other", speed.alone_tokens, speed.alone_seconds, speed.alone_tokens_per_second),
        (f"{speed.requests} at once", speed.together_tokens, speed.together_seconds, speed.together_tokens_per_second),
    )
    for name, tokens, seconds, per_second in rows:
        table.add_row(name, str(tokens), f"{seconds:.2f}", f"{per_second:.0f}")
    return table


def _machine() -> str:
    """This machine and what MLX computes on, in one line."""
    machine = get_runtime().prepare()
    memory = f"{machine.memory_bytes / 1024**3:.0f} GiB"
    backend = {"metal": "Metal", "cuda": "CUDA", "cpu": "the CPU"}[machine.backend]
    return f"{machine.device_name}, {machine.cores} cores, {memory} of memory; MLX {version('mlx')} on {backend}"
