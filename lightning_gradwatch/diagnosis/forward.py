# SPDX-License-Identifier: Apache-2.0
"""A look at one forward pass: the scale of each layer's input and output, and the units that do not respond.

Activation functions are seen where they are called, as modules or as functions. Those inside fused kernels are not,
except for the output of `nn.RNN`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from lightning_gradwatch.diagnosis.guard import SuppressErrors
from lightning_gradwatch.diagnosis.losses import LOSSES, read_loss
from lightning_gradwatch.diagnosis.pieces import rms
from lightning_gradwatch.diagnosis.units import FUNCTIONS, flat, kind, silent
from lightning_gradwatch.measurement.sharding import plain

RESIDUAL = "residual"
"""Name of the number that is there if the pass has a path around a layer."""

FED = (nn.Linear, _ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers that multiply what goes into them."""

_JOINS = ("add", "cat", "concat", "concatenate")
_CHANNELS_FIRST = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm")


class ForwardProbe:
    """Reads one batch; nothing is attached before `attach` or after `detach`.

    Args:
        module: Its layers are read: modules that own parameters.
        guard: Catches what goes wrong in here.

    Attributes:
        layers: Their names.
        fed: The names of those that multiply what goes into them.
    """

    def __init__(self, module: nn.Module, guard: SuppressErrors) -> None:
        self.guard = guard
        self._modules = {
            name: m for name, m in module.named_modules() if any(True for _ in m.parameters(recurse=False))
        }
        self.layers = list(self._modules)
        self.fed = frozenset(name for name, layer in self._modules.items() if isinstance(layer, FED))
        self._handles: list[Any] = []
        self._mode: _Calls | None = None
        self._layer, self._unit_axis = "", -1
        self._numbers: dict[str, Tensor] = {}
        self._entered: list[weakref.ref[Tensor]] = []  # what went into layers

    def attach(self) -> None:
        """From here on until `detach`, forward passes in this thread are read."""
        for name, layer in self._modules.items():
            self._handles.append(layer.register_forward_hook(partial(self._layer_done, name)))
        self.resume()

    def resume(self) -> None:
        """Reads calls of functions, too."""
        if self._mode is None:
            self._mode = _Calls(self)
            self._mode.__enter__()  # type: ignore[no-untyped-call]  # torch's, not typed

    def detach(self) -> None:
        """Leaves no hook behind."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.pause()

    def pause(self) -> None:
        """Reads layers only; `resume` goes on."""
        if self._mode is not None:
            mode, self._mode = self._mode, None
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch's, not typed

    def take(self) -> dict[str, Tensor]:
        """What was read: single numbers on the device, in the order of the pass.

        Their names: ``in <layer>``, ``out <layer>`` (rms); ``silent <function> <layer>``, ``flat <function> <layer>``
        (shares); ``residual`` if there is a path around a layer; ``excess <loss>`` and others of `read_loss`.
        """
        numbers, self._numbers = self._numbers, {}
        self._entered.clear()
        return numbers

    def called(self, numbers: Iterable[str]) -> tuple[str, ...]:
        """The layers that a pass went through, of whose numbers these are the names.

        A `nn.MultiheadAttention` uses the weights of its children without calling them.
        """
        names = {name[4:] for name in numbers if name.startswith("out ")}
        within = {
            name
            for name in self._modules
            if (parent := name.rpartition(".")[0]) in names
            and isinstance(self._modules.get(parent), nn.MultiheadAttention)
        }
        return tuple(sorted(names | within))

    def joined(self, args: tuple[object, ...]) -> None:
        """Tells whether one of several tensors that become one went into a layer before."""
        parts = args[0] if args and isinstance(args[0], (tuple, list)) else args
        tensors = [part for part in parts if isinstance(part, Tensor)]
        around = {id(entered()) for entered in self._entered} & {id(tensor) for tensor in tensors}
        if len(tensors) > 1 and around:
            self._put(RESIDUAL, torch.ones((), device=tensors[0].device))

    def loss(self, function: str, args: tuple[object, ...], kwargs: Mapping[str, object], out: object) -> None:
        """Reads the call of a loss function; of several, the last."""
        for what, number in read_loss(function, args, kwargs, out).items():
            self._put(f"{what} {function}", number)

    def note(self, numbers: Mapping[str, Tensor]) -> None:
        """Adds numbers that were read elsewhere."""
        for what, number in numbers.items():
            self._put(what, number)

    @torch.no_grad()
    def units(self, function: str, out: object) -> None:
        """Reads the output of an activation function."""
        if not isinstance(out, Tensor) or not out.numel():
            return
        out = plain(out)
        what = "silent" if function == "relu" else "flat"
        self._put(
            f"{what} {function} {self._layer}",
            silent(out, self._unit_axis) if what == "silent" else flat(function, out),
        )

    def _layer_done(self, name: str, module: nn.Module, args: object, out: object) -> None:
        with self.guard, torch.no_grad():
            self._layer = name
            self._unit_axis = 1 if type(module).__name__.startswith(_CHANNELS_FIRST) else -1
            if (entered := _first(args)) is not None:
                self._entered.append(weakref.ref(entered))
            for side, value in (("in", args), ("out", out)):
                tensor = _first(value)
                if tensor is not None:
                    self._put(f"{side} {name}", rms(plain(tensor)))
            if isinstance(module, nn.RNN) and module.nonlinearity == "tanh":
                self.units("tanh", _first(out))

    def _put(self, what: str, number: Tensor) -> None:
        self._numbers.pop(what, None)  # a layer that is used again is read again, at its later place
        self._numbers[what] = number


class _Calls(TorchFunctionMode):
    """Sees the calls of activation functions."""

    def __init__(self, probe: ForwardProbe) -> None:
        super().__init__()
        self._probe = probe

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():  # the user's function is being traced: nothing of ours may get into it
            return out
        function = getattr(func, "__name__", "").rstrip("_")
        if function in FUNCTIONS:
            with self._probe.guard:
                self._probe.units(kind(function, args, kwargs or {}), out)
        elif function in LOSSES:
            with self._probe.guard:
                self._probe.loss(function, args, kwargs or {}, out)
        elif function in _JOINS:
            with self._probe.guard:
                self._probe.joined(args)
        return out


def _first(value: object) -> Tensor | None:
    """The floating-point tensor that comes first in arguments or results."""
    while isinstance(value, (tuple, list)) and len(value):
        value = value[0]
    return value if isinstance(value, Tensor) and value.is_floating_point() and value.numel() else None
