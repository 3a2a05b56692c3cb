# SPDX-License-Identifier: Apache-2.0
"""A run that a real Trainer wrote, in a real TensorBoard that finds the plugin by its entry point."""

from __future__ import annotations

from importlib.metadata import entry_points
from urllib.parse import quote

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_gradwatch.tensorboard.report import load, render
from tests.tensorboard import trained
from tests.tensorboard.browser import NEEDED, Page

RUN = "residual/version_0"
installed = pytest.mark.skipif(
    not entry_points(group="tensorboard_plugins", name="gradwatch"),
    reason="lightning_gradwatch is not installed, so that TensorBoard cannot find its entry point",
)
browser = [installed, *NEEDED]
ALL_TEXT = """
const text = (node) => (node.shadowRoot ? texts(node.shadowRoot) : node.childElementCount ? "" : node.textContent);
const texts = (root) => [...root.querySelectorAll("*")].map(text).join(" ");
return texts(document);
"""


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    trained.train(folder)
    return folder


@pytest.fixture(scope="module")
def url(serve, logdir, active):
    url = serve(logdir, installed=True)
    active(url)
    return url


@pytest.fixture
def page(driver, url):
    driver.get("about:blank")
    page = Page(driver).open(f"{url}#gradwatch")
    yield page
    assert page.errors() == []


@pytest.fixture
def history(logdir):
    return load(logdir)[RUN].histories[0]


def test_every_logged_step_is_recorded_and_so_are_the_steps_of_events(history):
    logged = range(trained.LOGGED - 1, trained.STEPS, trained.LOGGED)
    assert sorted({*logged, trained.SPIKE, trained.NAN}) == history.steps.tolist()
    assert len(history.layers) == trained.LAYERS


def test_the_step_of_a_spike_shows_what_was_clipped_and_the_step_of_a_nan_that_it_was_skipped(history):
    at = history.steps.tolist().index
    total, clipped, limit = (history.series(name) for name in ("total", "total_clipped", "limit"))
    spike = at(trained.SPIKE)
    assert total[spike] > 100 * limit[spike]
    assert clipped[spike] <= limit[spike] * 1.001
    assert not total[at(trained.NAN)] < float("inf")
    assert clipped[at(trained.NAN)] == 0.0
    assert history.series("lr_scale")[-1] == pytest.approx(0.25)


@installed
def test_the_standard_tabs_have_a_page_of_charts_a_heat_map_and_the_texts(url, fetch):
    (category,) = fetch(f"{url}data/plugin/custom_scalars/layout")["category"]
    assert category["title"] == "GradWatch"
    for chart in category["chart"]:
        (tags,) = chart["multiline"]["tag"]
        found = fetch(f"{url}data/plugin/custom_scalars/scalars?run={quote(RUN)}&tag={quote(tags)}")
        assert found["tag_to_events"], chart["title"]
    images = fetch(f"{url}data/plugin/images/tags")[RUN]
    assert list(images) == ["grad_heatmap/norm"]
    texts = fetch(f"{url}data/plugin/text/tags")[RUN]
    assert {"grad_event/spike/text_summary", "grad_event/nonfinite/text_summary"} <= set(texts)
    text = fetch(f"{url}data/plugin/text/text?run={quote(RUN)}&tag=grad_event/nonfinite/text_summary")[0]["text"]
    assert "<h3>ALARM nonfinite: NaN in all 20 layers</h3>" in text
    assert "<li>did: step skipped, weights intact (1 of at most 20 in a row)</li>" in text
    assert "<ol>\n<li>drop or repair the batch (GW-11;" in text


def test_the_heat_map_is_drawn_seldom_and_the_layout_once(logdir):
    board = EventAccumulator(str(logdir / RUN), {"images": 0, "tensors": 0})
    board.Reload()
    steps = [image.step for image in board.Images("grad_heatmap/norm")]
    assert steps == [154, 239]  # the 32nd record, of steps that were logged or had an event, and the last
    assert len(board.Tensors("custom_scalars__config__")) == 1


class TestInTheBrowser:
    pytestmark = browser

    def test_the_health_and_the_events_are_there_at_a_glance(self, page):
        card = page.one(".card")
        assert RUN in card.text
        assert "Alarm" in card.text
        assert "spike" in card.text
        assert "nonfinite" in card.text
        page.shot("trained-overview")

    def test_an_event_says_what_was_found_and_what_was_done(self, page):
        page.until(lambda: len(page.all(".marker")) >= 2)
        page.point(page.all(".marker")[0]).perform()
        tip = page.one(".tip").text
        assert f"spike at step {trained.SPIKE}" in tip
        assert "clipped x" in tip
        page.shot("trained-event")

    def test_the_heat_map_shows_where_the_nan_was(self, page):
        page.one("label:has(input[value=nonfinite])").click()
        heat = page.one("canvas.heat")
        page.until(
            lambda: (page.point(heat, 60, 20).move_by_offset(1, 0).perform(), "share" in page.one(".tip").text)[1]
        )
        page.shot("trained-nonfinite", 640)

    def test_a_click_on_a_cell_opens_the_curve_of_its_layer(self, page):
        page.point(page.one("canvas.heat"), 60, 20).click().perform()
        page.until(lambda: page.one("section[aria-label='Layer curve'] h2").text.startswith("blocks."))
        page.shot("trained-layer", 640)

    def test_the_diagnosis_has_the_remedies(self, page):
        page.until(lambda: page.all(".diagnosis"))
        said = " ".join(card.text for card in page.all(".diagnosis"))
        assert "drop or repair the batch" in said
        assert "look at this batch" in said
        page.shot("trained-diagnosis", 1500)

    def test_dark_mode(self, page):
        page.one("label:has(input[value=dark])").click()
        page.until(lambda: page.driver.execute_script("return document.documentElement.dataset.theme") == "dark")
        page.shot("trained-dark")
        page.one("label:has(input[value=auto])").click()

    @pytest.mark.parametrize("tab", ["timeseries", "scalars", "custom_scalars", "images", "text"])
    def test_the_standard_tabs_open_without_an_error(self, driver, url, tab):
        driver.get("about:blank")
        driver.get(f"{url}#{tab}")
        page = Page(driver)
        page.until(lambda: "residual" in driver.execute_script(ALL_TEXT))
        page.shot(f"trained-{tab}")
        assert page.errors() == []

    def test_the_report_shows_the_same_run(self, driver, logdir, tmp_path):
        (tmp_path / "report.html").write_text(render(load(logdir)), encoding="utf-8")
        driver.get("about:blank")
        page = Page(driver).open((tmp_path / "report.html").as_uri())
        page.until(lambda: len(page.all(".marker")) >= 2)
        page.shot("trained-report")
        assert page.errors() == []
