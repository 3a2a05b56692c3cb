# SPDX-License-Identifier: Apache-2.0
"""Several processes on one CPU, as torchrun would start them; each is forked, works, and hands back what it saw."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

TIMEOUT = 120
"""Seconds until processes that hang are killed and their test fails."""

NOISE = "pytorch_lightning|lightning_fabric|deepspeed|torch\\.distributed"
"""Modules whose warnings are theirs. Lightning warns on rank zero only: an error there would let the others hang."""


def launch(ranks: int, work: Callable[[], Any], timeout: float = TIMEOUT) -> list[Any]:
    """What `work` returned on each rank.

    Args:
        ranks: Number of processes, all of one process group that the strategies set up.
        work: Called in each.
        timeout: Seconds for all of it.

    Raises:
        AssertionError: A rank raised, died, or did not come to its end in time; none is left behind.
    """
    context = multiprocessing.get_context("fork")
    port, pipes, processes = _free_port(), [], []
    for rank in range(ranks):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(rank, ranks, port, work, send), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 about forks of threaded processes
            process.start()
        send.close()
        pipes.append(receive)
        processes.append(process)
    try:
        results = [_receive(pipe, rank, timeout) for rank, pipe in enumerate(pipes)]
        for rank, process in enumerate(processes):
            process.join(timeout)
            assert process.exitcode == 0, f"rank {rank} ended with {process.exitcode}"
    finally:
        for process in processes:
            process.kill()
            process.join()
    for rank, (error, _) in enumerate(results):
        assert error is None, f"rank {rank} raised\n{error}"
    return [value for _, value in results]


def _receive(pipe: Connection, rank: int, timeout: float) -> tuple[str | None, Any]:
    assert wait([pipe], timeout), f"rank {rank} has hung for {timeout:g} s"
    try:
        result: tuple[str | None, Any] = pipe.recv()
    except EOFError:
        result = "it died without a word", None
    return result


def _rank(rank: int, ranks: int, port: int, work: Callable[[], Any], send: Connection) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module=NOISE)
    warnings.filterwarnings("ignore", "`isinstance\\(treespec")  # as in pyproject.toml
    warnings.filterwarnings("ignore", ".*NO_SHARD")
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    if ranks > 1:
        os.environ |= {
            "TORCHELASTIC_RUN_ID": "test",  # how Lightning knows that it need not start processes itself
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
        }
    try:
        result: tuple[str | None, Any] = None, work()
    except BaseException:
        result = traceback.format_exc(), None
    send.send(result)
    if dist.is_initialized():
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
