# SPDX-License-Identifier: Apache-2.0
"""The gradient of the loss with respect to the inputs of recurrent layers, over time.

The gradients of their weights are sums over time and hide it: the last steps make the sum, whatever the first ones get.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from lightning_gradwatch.diagnosis.guard import SuppressErrors

_TENTHS = 10
_TINY = 1e-38


class TimeProbe:
    """Reads one batch; nothing is attached before `attach` or after `detach`.

    The layer gets an alias of its input, so that its own share of the input's gradient can be read, and there is one
    where the input itself is data. Numbers of the training are the same to the bit.

    Args:
        layers: `nn.RNN`, `nn.LSTM` or `nn.GRU`, by name.
        guard: Catches what goes wrong in here.

    Attributes:
        layers: As given.
    """

    def __init__(self, layers: dict[str, nn.RNNBase], guard: SuppressErrors) -> None:
        self.guard = guard
        self.layers = layers
        self._handles: list[Any] = []
        self._ratios: dict[str, Tensor] = {}

    def attach(self) -> None:
        """From here on until `detach`, backward passes are read."""
        for name, layer in self.layers.items():
            hook = partial(self._before, name)
            self._handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))

    def detach(self) -> None:
        """Leaves no hook behind, except on the graphs of forward passes that are not freed yet."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> dict[str, Tensor]:
        """[] by layer: the `fading` of the last backward pass. On the device."""
        ratios, self._ratios = self._ratios, {}
        return ratios

    def _before(
        self, name: str, layer: nn.RNNBase, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        with self.guard:
            trained = any(parameter.requires_grad for parameter in layer.parameters())
            given = args[0] if args else kwargs.get("input")
            if trained and torch.is_grad_enabled() and given is not None:
                alias = self._alias(name, layer, given)
                return ((alias, *args[1:]), kwargs) if args else (args, {**kwargs, "input": alias})
        return None

    def _alias(self, name: str, layer: nn.RNNBase, given: Tensor | PackedSequence) -> Tensor | PackedSequence:
        if isinstance(given, PackedSequence):
            return given._replace(data=self._read(name, layer, given.data, partial(_unpacked, sizes=given.batch_sizes)))
        return self._read(name, layer, given, partial(_batch_first, layer=layer))

    def _read(self, name: str, layer: nn.RNNBase, data: Tensor, arrange: Callable[[Tensor], Tensor]) -> Tensor:
        alias = data.view_as(data) if data.requires_grad else data.detach().requires_grad_()
        alias.register_hook(partial(self._after, name, layer, arrange))  # type: ignore[no-untyped-call]  # torch's
        return alias

    @torch.no_grad()
    def _after(self, name: str, layer: nn.RNNBase, arrange: Callable[[Tensor], Tensor], gradient: Tensor) -> None:
        with self.guard:
            values = gradient.detach().float()
            squares = arrange((values / values.abs().amax()).square().sum(-1))
            self._ratios[name] = fading(squares, both_ways=layer.bidirectional)


def fading(squares: Tensor, *, both_ways: bool = False) -> Tensor:
    """How the gradient changes from the end of a sequence to its start.

    A sequence ends where its gradient does, so that padding behind it does not count.

    Args:
        squares: [B, T] squared norms of the gradient over batch and time.
        both_ways: Whether the layer also reads backwards: the weakest tenth over the strongest is asked for.

    Returns:
        [] base-10 logarithm of the ratio of root mean squares, at least -19; NaN for fewer than ten steps.
    """
    steps = torch.arange(squares.shape[1], device=squares.device)
    lengths = ((squares > 0) * (steps + 1)).amax(dim=1, keepdim=True)
    long = (steps < lengths) & (lengths >= _TENTHS)
    tenth = (steps * _TENTHS).div(lengths.clamp(min=1), rounding_mode="floor").clamp(max=_TENTHS - 1)
    member = (tenth[..., None] == torch.arange(_TENTHS, device=squares.device)) & long[..., None]
    means = (squares[..., None] * member).sum(dim=(0, 1)) / member.sum(dim=(0, 1))
    first, last = (means.amin(), means.amax()) if both_ways else (means[0], means[-1])
    return 0.5 * (first.clamp(min=_TINY).log10() - last.clamp(min=_TINY).log10())


def _batch_first(squares: Tensor, layer: nn.RNNBase) -> Tensor:
    """[B, T] of what is [T], [T, B] or [B, T]."""
    if squares.dim() == 1:
        return squares[None]
    return squares if layer.batch_first else squares.T


def _unpacked(squares: Tensor, sizes: Tensor) -> Tensor:
    """[B, T] of the rows of a packed sequence, 0 where a sequence has ended."""
    return pad_packed_sequence(PackedSequence(squares[:, None], sizes), batch_first=True)[0][..., 0]
