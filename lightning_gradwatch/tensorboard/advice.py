# SPDX-License-Identifier: Apache-2.0
"""For rows of the table of symptoms, by the GW-number of their remedies, one line of code to start with."""

from __future__ import annotations

CODE = {
    "GW-01": "torch.nn.GELU()  # in place of Sigmoid or Tanh",
    "GW-02": 'torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")',
    "GW-03": "torch.nn.init.orthogonal_(rnn.weight_hh_l0)",
    "GW-04": "AdaptiveClipper(PercentileClip(percentile=50, factor=2.0))",
    "GW-05": "torch.optim.AdamW(self.parameters(), lr=lr / 10)",
    "GW-06": "x = (x - x.mean(dim=0)) / x.std(dim=0)",
    "GW-07": "torch.optim.AdamW(self.parameters(), lr=lr / 3)",
    "GW-08": 'AdaptiveClipper("zscore")',
    "GW-09": "torch.optim.AdamW(self.parameters(), lr=lr, betas=(0.9, 0.95))",
    "GW-10": "Trainer(detect_anomaly=True)  # names the operation that made the first NaN; slow",
    "GW-11": "assert torch.isfinite(x).all(), batch_idx  # first line of training_step",
    "GW-13": 'Trainer(precision="bf16-mixed")',
    "GW-14": 'Trainer(precision="bf16-mixed")',
    "GW-15": "torch.nn.init.zeros_(layer.bias)",
    "GW-16": "torch.nn.LeakyReLU(0.01)  # in place of ReLU",
    "GW-17": "torch.nn.init.xavier_uniform_(layer.weight)",
    "GW-18": "[name for name, p in model.named_parameters() if p.grad is None]  # after backward",
    "GW-19": "torch.optim.AdamW(self.parameters(), lr=lr)  # all of them, in configure_optimizers",
    "GW-20": "torch.optim.AdamW(self.parameters(), lr=lr * 10)",
    "GW-21": "x = norm(x + block(x))  # a residual connection",
    "GW-22": "torch.nn.init.zeros_(block[-1].weight)",
    "GW-23": "torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.01, total_iters=500)",
    "GW-24": "torch.optim.AdamW(self.parameters(), lr=lr, weight_decay=0.01)",
    "GW-26": 'AdaptiveClipper("percentile")',
}
