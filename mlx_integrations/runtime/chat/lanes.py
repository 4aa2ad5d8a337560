"""The lane that fits a chat model. Worker thread only.

`BatchLane` decodes all rows together; `SerialLane` takes them one after another, for models whose caches cannot be
merged.
"""

from typing import Any

from mlx_integrations.runtime._mlx import caches_can_be_merged
from mlx_integrations.runtime.chat.batch_lane import BatchLane
from mlx_integrations.runtime.chat.serial_lane import SerialLane
from mlx_integrations.runtime.lanes import Lane

__all__ = ["make_lane"]


def make_lane(model: Any, *, max_batch_size: int, prefill_step_tokens: int) -> Lane:
    """The lane that fits the model's caches."""
    if caches_can_be_merged(model):
        return BatchLane(model, max_batch_size=max_batch_size, prefill_step_tokens=prefill_step_tokens)
    return SerialLane(model, prefill_step_tokens=prefill_step_tokens)
