"""What `MLXLLM` and `RouterLLM` have in common: tools and their calls, and what goes before a conversation."""

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as plain_messages_to_prompt
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ToolCallBlock
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools.types import BaseTool
from llama_index.core.types import TokenAsyncGen

from mlx_integrations.adapters.tool_choice import openai_tool_choice
from mlx_integrations.llama_index.errors import InvalidOutputError, TruncatedOutputError
from mlx_integrations.llama_index.messages import call_arguments
from mlx_integrations.llama_index.structured import StructuredPrediction
from mlx_integrations.llama_index.tools import openai_tool

__all__ = ["ToolCallingLLM"]


class ToolCallingLLM(StructuredPrediction):
    """A model that is offered tools as OpenAI's dictionaries, and answers with blocks that hold calls."""

    async def apredict(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """Answer a prompt template. The base class reads `metadata` on the event loop; here they are known by then."""
        await self._aget_ready()
        answer: str = await super().apredict(prompt, **prompt_args)
        return answer

    async def astream(self, prompt: BasePromptTemplate, **prompt_args: Any) -> TokenAsyncGen:
        """Answer a prompt template in pieces, with `metadata` known before the base class reads them."""
        await self._aget_ready()
        return await super().astream(prompt, **prompt_args)

    async def apredict_and_call(self, tools: Sequence[BaseTool], *args: Any, **kwargs: Any) -> AgentChatResponse:
        """Let the model call a tool, with `metadata` known before the base class reads them."""
        await self._aget_ready()
        return await super().apredict_and_call(tools, *args, **kwargs)

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of `chat` that offer tools. The grammar enforces all that is said about calling them.

        Args:
            tools: Tools of LlamaIndex.
            user_msg: What is asked.
            chat_history: What went before it.
            verbose: Of no use here: callbacks and events tell what happens.
            allow_parallel_tool_calls: Whether one answer may hold several calls.
            tool_required: Whether the answer has to be a call.
            tool_choice: Goes before `tool_required`: `"auto"`, `"none"`, `"any"`, `"required"`, the name of a tool, or
                a dictionary in the form of OpenAI.
            **kwargs: Any other option of a call.

        Raises:
            InvalidRequestError: Something cannot be used as a tool.
            UnknownToolError: A tool is asked for that is not offered.
        """
        messages = list(chat_history or [])
        if user_msg is not None:
            said = ChatMessage(role=MessageRole.USER, content=user_msg) if isinstance(user_msg, str) else user_msg
            messages.append(said)
        offered = [openai_tool(tool) for tool in tools]
        wanted = ("required" if tool_required else "auto") if tool_choice is None else tool_choice
        return {
            "messages": messages,
            "tools": offered,
            "tool_choice": openai_tool_choice(wanted, [tool["function"]["name"] for tool in offered]),
            "parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of an answer.

        Raises:
            TruncatedOutputError: A call is expected, and the token limit cut the answer before there was one.
            InvalidOutputError: A call is expected, and there is none, or none that could be accepted.
        """
        message = response.message
        calls = [
            ToolSelection(
                tool_id=block.tool_call_id or "",
                tool_name=block.tool_name,
                tool_kwargs=call_arguments(block.tool_name, block.tool_kwargs),
            )
            for block in message.blocks
            if isinstance(block, ToolCallBlock)
        ]
        if calls or not error_on_no_tool_call:
            return calls
        text = message.content or ""
        for call in message.additional_kwargs.get("invalid_tool_calls") or ():
            raise InvalidOutputError(
                f"The call of `{call['name']}` was not accepted: {call['error']}", partial_text=call["args"]
            )
        if isinstance(response.raw, Mapping) and response.raw.get("finish_reason") == "length":
            raise TruncatedOutputError(
                "The answer was cut by the token limit before it called a tool.", partial_text=text
            )
        raise InvalidOutputError("The model called no tool.", partial_text=text, hint="Set `tool_required=True`.")

    def _messages(self, messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
        """A conversation as it is sent: with the system prompt, and written as one text if there is a writer for it."""
        spoken = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
        if self.system_prompt and not any(message.role in spoken for message in messages):
            messages = self._extend_messages(list(messages))
        write = self.messages_to_prompt
        if write is None or write is plain_messages_to_prompt:
            return messages
        return [ChatMessage(role=MessageRole.USER, content=write(messages))]

    def _prompt_messages(self, prompt: str, formatted: bool) -> Sequence[ChatMessage]:
        if not formatted and self.completion_to_prompt is not None:
            prompt = self.completion_to_prompt(prompt)
        return self._extend_messages([ChatMessage(role=MessageRole.USER, content=prompt)])
