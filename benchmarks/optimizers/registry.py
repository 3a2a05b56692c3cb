# SPDX-License-Identifier: Apache-2.0
"""The optimizers: where each comes from, and its settings. One that is not installed is listed as such."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch.nn import Parameter
from torch.optim import Optimizer


@dataclass(frozen=True)
class Entry:
    """One optimizer.

    Attributes:
        module: To be imported.
        name: Of its class in there.
        settings: Keyword arguments of the constructor.
        lr: The usual learning rate; None where it finds its own.
        label: Tells settings of one class apart.
        matrices: Whether it takes nothing but matrices.
        inner: Class of torch that it wraps, with that rate.
    """

    module: str
    name: str
    lr: float | None
    settings: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    matrices: bool = False
    inner: str = ""

    @property
    def title(self) -> str:
        """How the table calls it."""
        package = self.module.partition(".")[0]
        return f"{package}: {self.name}{f' ({self.label})' if self.label else ''}"

    def make(self, scale: float = 1.0) -> Callable[[Iterable[Parameter]], Optimizer]:
        """A function of parameters; `scale` multiplies the rate."""
        rate = {} if self.lr is None else {"lr": self.lr * scale}

        def build(parameters: Iterable[Parameter]) -> Optimizer:
            chosen: Any = [p for p in parameters if p.ndim == 2 or not self.matrices]
            cls = getattr(import_module(self.module), self.name)
            if self.inner:
                optimizer = cls(getattr(import_module("torch.optim"), self.inner)(chosen, **rate), **self.settings)
            else:
                optimizer = cls(chosen, **rate, **self.settings)
            if self.module == "schedulefree":
                optimizer.train()
            return optimizer  # type: ignore[no-any-return]

        return build


def _torch(name: str, lr: float, label: str = "", *, matrices: bool = False, **settings: Any) -> Entry:  # noqa: ANN401  arguments of any class
    return Entry("torch.optim", name, lr, settings, label, matrices)


def _more(name: str, lr: float | None, **settings: Any) -> Entry:  # noqa: ANN401  arguments of any class
    return Entry("pytorch_optimizer", name, lr, settings)


ENTRIES = [
    _torch("SGD", 0.05),
    _torch("SGD", 0.05, "momentum", momentum=0.9),
    _torch("SGD", 0.05, "nesterov", momentum=0.9, nesterov=True),
    _torch("SGD", 0.1, "dampening", momentum=0.9, dampening=0.9),
    *(_torch(name, lr) for name, lr in [("Adam", 1e-3), ("AdamW", 1e-3), ("Adamax", 2e-3), ("NAdam", 2e-3)]),
    *(_torch(name, lr) for name, lr in [("RAdam", 1e-3), ("RMSprop", 1e-3), ("Adagrad", 1e-2), ("Adadelta", 1.0)]),
    *(_torch(name, lr) for name, lr in [("Rprop", 1e-3), ("ASGD", 0.05), ("Adafactor", 1e-2)]),
    _torch("Muon", 0.02, matrices=True),
    _torch("LBFGS", 0.02, max_iter=4),
    _torch("LBFGS", 0.5, "strong Wolfe", max_iter=4, line_search_fn="strong_wolfe"),
    Entry("prodigyopt", "Prodigy", None),
    Entry("dadaptation", "DAdaptAdam", None),
    Entry("dadaptation", "DAdaptSGD", None),
    Entry("schedulefree", "AdamWScheduleFree", 1e-3, {"warmup_steps": 20}),
    Entry("schedulefree", "SGDScheduleFree", 0.5),
    Entry("lion_pytorch", "Lion", 1e-4),
    *(_more(n, lr) for n, lr in [("AdaBelief", 1e-3), ("AdEMAMix", 1e-3), ("ADOPT", 1e-3), ("SOAP", 3e-3)]),
    *(_more(n, lr) for n, lr in [("Shampoo", 1e-3), ("Ranger", 1e-3), ("Lamb", 1e-2), ("LARS", 0.1)]),
    *(_more(n, lr) for n, lr in [("Tiger", 1e-3), ("CAME", 2e-4), ("Adan", 1e-3), ("StableAdamW", 1e-3)]),
    _more("Ranger21", 1e-3, num_iterations=145),
    _more("AdaFactor", None),
    Entry("pytorch_optimizer", "TRAC", 1e-3, inner="AdamW"),
    Entry("optimi", "AdamW", 1e-3),
    Entry("optimi", "StableAdamW", 1e-3),
    Entry("torchao.optim", "AdamW8bit", 1e-3),
    Entry("torchao.optim", "AdamW4bit", 1e-3),
    Entry("bitsandbytes.optim", "SGD8bit", 0.05, {"momentum": 0.9}),
    Entry("bitsandbytes.optim", "AdamW8bit", 1e-3),
    Entry("bitsandbytes.optim", "Lion8bit", 1e-4),
    Entry("heavyball", "Muon", 2e-3),
]
