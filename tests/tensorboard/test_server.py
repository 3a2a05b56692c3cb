# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
from urllib.request import urlopen

import numpy as np
import pytest

LOGGED = 250  # more than the 100 steps, or 10 without --load_fast, of which TensorBoard hands a plugin a sample


@pytest.mark.parametrize("load_fast", ["auto", "false"])
def test_a_real_tensorboard_shows_the_tab_with_every_logged_step(tmp_path, write, serve, active, fetch, load_fast):
    (tmp_path / "empty").mkdir()
    url = serve(tmp_path, load_fast)
    assert not fetch(f"{url}data/plugins_listing")["gradwatch"]["enabled"]
    given = np.random.default_rng(0).lognormal(size=(LOGGED, 3)).astype(np.float32)
    write(tmp_path / "run", given)
    entry = active(url)
    assert entry["tab_name"] == "GradWatch"
    with urlopen(url.rstrip("/") + entry["loading_mechanism"]["module_path"]) as page:
        assert page.headers.get_content_type() == "text/javascript"
    answer = fetch(f"{url}data/plugin/gradwatch/heatmap?run=run")
    cells = np.frombuffer(base64.b64decode(answer["cells"]), "<f4").reshape(3, LOGGED)
    assert np.array_equal(cells, given.T)


@pytest.mark.parametrize("load_fast", ["auto", "false"])
def test_what_is_written_while_tensorboard_runs_arrives(tmp_path, write, serve, active, fetch, load_fast):
    write(tmp_path / "run", np.ones((3, 1)))
    url = serve(tmp_path, load_fast)
    active(url)
    before = fetch(f"{url}data/plugin/gradwatch/runs")["runs"][0]["optimizers"][0]
    write(tmp_path / "run", np.ones((2, 1)), first=3)
    write(tmp_path / "run", np.ones((2, 1)), first=4)  # resumed from step 4
    while (after := fetch(f"{url}data/plugin/gradwatch/runs")["runs"][0]["optimizers"][0])["logged"] < 6:
        pass
    assert (before["logged"], after["logged"], after["last_step"]) == (3, 6, 5)
