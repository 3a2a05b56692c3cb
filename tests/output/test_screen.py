# SPDX-License-Identifier: Apache-2.0
"""What a person sees in a terminal: no line of ours is erased by a progress bar."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import sys
import termios

import pyte
import pytest

from lightning_gradwatch.output.screen import ScreenHandler

ROWS = 60
TRAIN = """
import sys, warnings
warnings.filterwarnings("ignore")
import pytorch_lightning as pl, torch
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from lightning_gradwatch import default_callbacks

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 1)

    def training_step(self, batch, i):
        return self.net(batch[0]).square().mean() * (float("nan") if i == 20 else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

bars = {"rich": [RichProgressBar], "tqdm": [TQDMProgressBar], "none": []}[sys.argv[1]]
trainer = pl.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_model_summary=False,
    enable_progress_bar=bool(bars), callbacks=[*default_callbacks(rescue=True), *(bar() for bar in bars)],
)
trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(320, 8)), batch_size=8))
"""


def screen(bar: str, columns: int) -> list[str]:
    """What stands on a terminal of this width after a run with this progress bar."""
    seen = pyte.Screen(columns, ROWS)
    stream = pyte.ByteStream(seen)
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
        environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        os.execve(sys.executable, [sys.executable, "-c", TRAIN, bar], environment)
    while True:
        try:
            read = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other end is closed
            break
        if not read:
            break
        stream.feed(read)
    assert os.waitpid(pid, 0)[1] == 0
    return [line.rstrip() for line in seen.display if line.strip()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of forkpty:DeprecationWarning")
@pytest.mark.parametrize(("bar", "columns"), [("rich", 80), ("rich", 120), ("tqdm", 80), ("none", 80)])
def test_no_line_is_erased_by_a_progress_bar(bar, columns):
    shown = screen(bar, columns)
    text = "".join(shown)
    assert "[gradwatch] watching 1 layer (2 tensors) under SGD" in text
    begin = next(i for i, line in enumerate(shown) if line.startswith("[gradwatch] ALARM nonfinite: step 20"))
    block = "".join(shown[begin : begin + 8])
    assert [word for word in ("  loss:", "  did:", "  likely:", "  try:    1) ") if word not in block] == []
    assert any(line.startswith("[gradwatch] 40 optimizer steps: 1 nonfinite; step skipped") for line in shown)
    assert not [line for line in shown if "[gradwatch]" in line and not line.startswith("[gradwatch]")]


def test_it_writes_to_whatever_stderr_is_at_that_moment(capsys):
    handler = ScreenHandler()
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "told %d", (1,), None))
    assert capsys.readouterr().err == "told 1\n"
