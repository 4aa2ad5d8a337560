"""What the scripts of models that answer from one are made of, whichever framework asks."""

from mlx_integrations.testing import FakeAnswer
from mlx_integrations.types import InvalidToolCall, ToolCall

ADD = ToolCall(id="call_1", name="add", arguments={"a": 1, "b": 2})
ADD_AGAIN = ToolCall(id="call_2", name="add", arguments={"a": 3, "b": 4})
BROKEN = InvalidToolCall(id="call_3", name="add", arguments='{"a": 1, "b": ', error="it ends too early")
EVERYTHING = FakeAnswer(
    reasoning="Let me think.",
    text="Héllo 你好 👩‍👩‍👧 there.",
    tool_calls=(ADD, ADD_AGAIN),
    invalid_tool_calls=(BROKEN,),
    cached_tokens=1,
)
