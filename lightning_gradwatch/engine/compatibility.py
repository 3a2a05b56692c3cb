# SPDX-License-Identifier: Apache-2.0
"""What cannot work with an optimizer as the strategy wrapped it: said before the first step, with what to do."""

from __future__ import annotations

from lightning_gradwatch.compat import deepspeed
from lightning_gradwatch.engine.optimizer_hooks import OptimizerHooks
from lightning_gradwatch.engine.step import Members
from lightning_gradwatch.errors import GradwatchError
from lightning_gradwatch.laws import ElementwiseLaw, Law, UnitwiseClip
from lightning_gradwatch.lr.known import unwrapped


def refuse_law(watch: OptimizerHooks, law: Law | ElementwiseLaw, members: Members, *, per_group: bool) -> None:
    """Raises where `AdaptiveClipper` cannot apply its law to these parameters, or skip a non-finite step."""
    if watch.is_engine:
        partial = per_group or members is not None
        if isinstance(law, ElementwiseLaw) or partial:
            what = "`per`, `include` and `exclude`" if partial else f"{law!r}"
            raise GradwatchError(
                f"AdaptiveClipper cannot apply {what} under DeepSpeed, which clips by itself, by one norm over all"
                " parameters. Use a norm law for all of them, such as NormClip or ZScoreClip, or FSDP2."
            )
        _refuse_unskipped(watch)
    if isinstance(law, UnitwiseClip):
        _refuse_cut_rows(watch, members)


def refuse_bound(watch: OptimizerHooks) -> None:
    """Raises where `AdaptiveClipper` cannot bound the update of each layer."""
    if watch.is_engine:
        raise GradwatchError(
            "AdaptiveClipper(max_update_ratio=...) cannot work under DeepSpeed, which clips by itself, by one norm over"
            ' all parameters. Leave it at "auto", which sets no such bound there, or use FSDP2.'
        )


def refuse_action(watch: OptimizerHooks, action: str, nonfinite: str, members: Members) -> None:
    """Raises where `ExplosionDetector` cannot act as it should."""
    if not watch.is_engine:
        return
    if action == "skip":
        raise GradwatchError(
            'ExplosionDetector(action="skip") cannot work under DeepSpeed: its engine takes every step whose'
            ' gradient is finite. Use action="clip", or another strategy.'
        )
    if action == "clip" and members is not None:
        raise GradwatchError(
            'ExplosionDetector(action="clip") cannot clip a part of the parameters under DeepSpeed, which clips by'
            " one norm over all of them. Leave `include` and `exclude` out."
        )
    if nonfinite == "skip":
        _refuse_unskipped(watch)


def refuse_rewind(watch: OptimizerHooks) -> None:
    """Raises where `Rewind` could not put everything back."""
    if watch.is_engine:
        raise GradwatchError(
            "Rewind cannot work under DeepSpeed's ZeRO, whose engine keeps weights and states of its own that could not"
            " be put back. Use DDP or FSDP2, or leave Rewind out."
        )
    if type(unwrapped(watch.optimizer)).__module__.startswith("torchao."):
        raise GradwatchError(
            f"Rewind cannot copy the quantized state of torchao's {type(unwrapped(watch.optimizer)).__name__}, so it"
            " could not be put back. Use torch's own optimizer, or leave Rewind out."
        )


def _refuse_unskipped(watch: OptimizerHooks) -> None:
    """The engine alone could skip a step with a non-finite gradient."""
    if not deepspeed.skips_nonfinite(watch.optimizer):
        raise GradwatchError(
            "DeepSpeed's bf16 setting `check_grad_overflow` is off, so its engine takes steps with NaN and inf, and"
            ' nobody else can skip them. Switch it on, or choose ExplosionDetector(nonfinite="abort").'
        )


def _refuse_cut_rows(watch: OptimizerHooks, members: Members) -> None:
    names = watch.meter.layout.names
    split = [names[i] for i in watch.meter.sharding.rows_cut if members is None or i in members]
    if split:
        raise GradwatchError(
            f"UnitwiseClip needs whole rows, but the strategy cuts those of {split[0]} and {len(split) - 1} more"
            " (FSDP1, and tensor parallelism by rows). Use a norm law or FSDP2, or leave them out with `exclude`."
        )
