"""Muon for the matrices of the layers, AdamW for everything else.

Muon (Jordan and others, 2024) replaces the momentum of a matrix by the nearest orthogonal matrix, found with five
Newton-Schulz steps. On this model copying emerges after far fewer tokens than with AdamW alone.
"""

from __future__ import annotations

from typing import Any

import torch  # type: ignore[import-not-found, unused-ignore]
from torch import Tensor, nn  # type: ignore[import-not-found, unused-ignore]

_ADAM_SHARE = 0.6
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor) -> Tensor:
    """Returns nearly orthogonal matrices close to matrices: (N, rows, columns)."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.transpose(1, 2) if tall else x


class MuonAdamW:
    """The two optimisers behind one `step`.

    Args:
        network: The network; matrices inside `layers` get Muon.
        weight_decay: Decoupled weight decay of the Muon matrices.
    """

    def __init__(self, network: nn.Module, weight_decay: float = 0.02) -> None:
        named = list(network.named_parameters())
        matrices = [weight for name, weight in named if weight.dim() == 2 and "layers" in name]
        others = [weight for name, weight in named if not (weight.dim() == 2 and "layers" in name)]
        self._groups: dict[tuple[int, ...], list[Tensor]] = {}
        for weight in matrices:
            self._groups.setdefault(tuple(weight.shape), []).append(weight)
        self._momentum = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}
        self._adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0)
        self._weight_decay = weight_decay

    def step(self, rate: float) -> None:
        """Updates all weights from their gradients and clears the gradients.

        Args:
            rate: Learning rate of Muon, whose update is scaled to AdamW's size; AdamW takes 0.6 of it.
        """
        for group in self._adam.param_groups:
            group["lr"] = rate * _ADAM_SHARE
        self._adam.step()
        self._adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            for shape, weights in self._groups.items():
                gradient = torch.stack([weight.grad for weight in weights])
                momentum = self._momentum[shape].mul_(0.95).add_(gradient, alpha=0.05)
                update = orthogonal(gradient.lerp(momentum, 0.95)) * 0.2 * max(shape) ** 0.5
                for weight, change in zip(weights, update, strict=True):
                    weight.mul_(1 - rate * self._weight_decay).add_(change, alpha=-rate)
                    weight.grad = None

    def state(self) -> dict[str, Any]:
        """Returns what is needed to go on later."""
        return {"momentum": self._momentum, "adam": self._adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from what `state` returned."""
        self._momentum = state["momentum"]
        self._adam.load_state_dict(state["adam"])
