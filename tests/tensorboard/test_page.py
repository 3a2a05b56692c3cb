# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser, on runs made up for it."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_gradwatch import Remedy
from lightning_gradwatch.tensorboard.records import RunHistory
from lightning_gradwatch.tensorboard.report import load, render
from tests.tensorboard.browser import NEEDED, By, Keys, Page
from tests.tensorboard.conftest import MARKUP

pytestmark = NEEDED


@pytest.fixture(scope="module")
def logdir(tmp_path_factory, write_sick, write):
    root = tmp_path_factory.mktemp("logs")
    write_sick(root / "transformer")
    write(root / "baseline", np.random.default_rng(0).lognormal(size=(100, 24)), every=50)
    return root


@pytest.fixture(scope="module")
def url(serve, logdir):
    return serve(logdir)


@pytest.fixture
def page(driver, url, active):
    active(url)
    driver.get("about:blank")
    page = Page(driver).open(f"{url}#gradwatch")
    yield page
    assert page.errors() == []


def test_the_tab_shows_the_health_of_each_run_and_opens_the_worst(page):
    cards = {card.find_element(By.CSS_SELECTOR, ".name").text: card for card in page.all(".card")}
    assert cards["transformer"].find_element(By.CSS_SELECTOR, ".pill").text == "Alarm"
    assert cards["baseline"].find_element(By.CSS_SELECTOR, ".pill").text == "Healthy"
    assert cards["transformer"].get_attribute("aria-pressed") == "true"
    assert "spike 2" in cards["transformer"].text
    assert page.one(".summary").text == "2 runs: 1 alarm, 1 healthy"
    page.until(lambda: len(page.all(".marker")) == 4)
    page.shot("overview")


def test_hovering_an_event_tells_what_was_found_and_done_and_clicking_opens_its_card(page):
    page.until(lambda: len(page.all(".marker")) == 4)
    page.point(page.all(".marker")[0]).perform()
    tip = page.one(".tip").text
    assert "spike at step 4,500" in tip
    assert "clipped x0.002" in tip
    page.shot("event")
    page.all(".marker")[0].click()
    card = page.one(".diagnosis.chosen")
    assert "an outlier batch" in card.text
    assert 'AdaptiveClipper("zscore")' in card.text
    page.until(lambda: "step 4,500" in page.one(".split > .column:last-child .bar").text)


def test_events_can_be_walked_through_by_keyboard(page):
    page.until(lambda: len(page.all(".marker")) == 4)
    following = page.one("button[aria-label='Next event']")
    for number in (1, 2):
        following.send_keys(Keys.ENTER)
        page.until(lambda number=number: f"event {number} of 4" in page.one(".walker").text)
    assert page.driver.switch_to.active_element == following


def test_the_heat_map_switches_between_three_values_and_shows_exact_numbers(page):
    heat = page.one("canvas.heat")
    for value, title in (("ratio", "Update ratio"), ("nonfinite", "Non-finite share"), ("norm", "Gradient norm")):
        page.one(f"label:has(input[value={value}])").click()
        page.until(
            lambda title=title: (
                page.point(heat, 60, 20).move_by_offset(1, 0).perform(),
                title in page.one(".tip").text,
            )[1]
        )
        assert "blocks." in page.one(".tip").text
    page.shot("heatmap", 640)


def test_clicking_a_cell_opens_the_layers_curve_and_the_profile_of_that_step(page):
    page.point(page.one("canvas.heat"), 60, 20).click().perform()
    page.until(lambda: page.one("section[aria-label='Layer curve'] h2").text.startswith("blocks."))
    assert page.one(".plot.curve").is_displayed()
    page.until(lambda: "step 9,975" not in page.one(".split > .column:last-child .bar").text)
    page.shot("layer", 640)


def test_dragging_zooms_all_charts_and_a_button_shows_all_steps_again(page):
    page.until(lambda: "400 logged steps" in page.one(".note").text)
    page.point(page.one("canvas.heat"), -50, 0).click_and_hold().move_by_offset(180, 0).release().perform()
    page.until(lambda: "400" not in page.one(".note").text)
    next(button for button in page.all("button") if button.text == "show all steps").click()
    page.until(lambda: "400 logged steps" in page.one(".note").text)


def test_the_heat_map_can_be_used_by_keyboard_alone(page):
    heat = page.one("canvas.heat")
    page.until(lambda: "48 layers" in page.one(".note").text)
    heat.send_keys(Keys.HOME, Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    spoken = page.all(".spoken")[0].get_attribute("textContent")
    assert spoken.startswith("blocks.1.attention.projection, Gradient norm: ")
    assert spoken.endswith("step 25")
    heat.send_keys(Keys.ENTER)
    page.until(lambda: page.one("section[aria-label='Layer curve'] h2").text == "blocks.1.attention.projection")


def test_dark_mode_is_a_click_and_stays(page):
    page.one("label:has(input[value=dark])").click()
    colors = page.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in colors[4:-1].split(",")) < 60
    page.shot("dark")
    page.shot("dark-heatmap", 640)
    page.driver.refresh()
    page.until(lambda: page.all("iframe"))
    page.driver.switch_to.frame(page.all("iframe")[0])
    page.until(lambda: page.driver.execute_script("return document.documentElement.dataset.theme") == "dark")
    page.one("label:has(input[value=auto])").click()


def test_the_page_follows_the_theme_of_tensorboard(page):
    set_theme = "parent.document.body.classList.toggle('dark-mode', arguments[0])"
    for dark, theme in ((True, "dark"), (False, "light")):
        page.driver.execute_script(set_theme, dark)
        page.until(
            lambda theme=theme: page.driver.execute_script("return document.documentElement.dataset.theme") == theme
        )


def test_layers_can_be_filtered_sorted_and_chosen(page):
    page.one("input[aria-label='Filter layers']").send_keys("blocks.1")
    assert [row.text.split()[1] for row in page.all("tbody tr")][:2] == [
        "blocks.1.attention.projection",
        "blocks.10.mlp",
    ]
    next(button for button in page.all("th button") if button.text.startswith("typical")).click()
    typical = [float(row.find_elements(By.CSS_SELECTOR, "td")[3].text) for row in page.all("tbody tr")]
    assert typical == sorted(typical, reverse=True)
    page.all("tbody .link")[0].click()
    page.one(".plot.curve")
    page.shot("layers", 4000)


def test_names_in_markup_stay_text(page):
    page.until(lambda: page.all("tbody tr"))
    markup = "<img src=x onerror=alert(1)>"
    assert any(link.text == markup for link in page.all("tbody .link"))
    assert any(markup in card.text for card in page.all(".diagnosis"))
    assert page.all("img") == []


def test_new_steps_arrive_without_a_reload(page, logdir, write):
    card = "//button[contains(@class, 'card')][contains(., 'baseline')]"
    page.until(lambda: page.driver.find_element(By.XPATH, card)).click()
    write(logdir / "baseline", np.ones((2, 24)), first=5000, every=50)
    page.until(lambda: "step 5,050" in page.driver.find_element(By.XPATH, card).text)
    page.until(lambda: "102 logged steps" in page.one(".note").text)


def test_without_records_the_page_says_what_to_do(driver, serve, tmp_path):
    driver.get(f"{serve(tmp_path)}data/plugin_entry.html?name=gradwatch")
    page = Page(driver)
    assert "GradientNormLogger()" in page.one(".blank").text


def test_when_tensorboard_stops_answering_the_page_says_so_and_offers_to_try_again(page):
    page.driver.execute_script("window.fetch = () => Promise.reject(new TypeError('network'))")
    page.until(lambda: "is it still running?" in page.one(".notices").text)
    assert page.one(".notice button").text == "Try again"


def test_the_report_shows_the_same_views_without_a_server(driver, logdir, tmp_path):
    (tmp_path / "report.html").write_text(render(load(logdir)), encoding="utf-8")
    driver.get("about:blank")
    page = Page(driver).open((tmp_path / "report.html").as_uri())
    page.until(lambda: len(page.all(".marker")) == 4)
    page.point(page.one("canvas.heat"), 60, 20).click().perform()
    page.until(lambda: page.one("section[aria-label='Layer curve'] h2").text.startswith("blocks."))
    assert page.all("tbody tr")
    assert any(link.text == MARKUP for link in page.all("tbody .link"))
    assert page.all("img") == []
    assert page.errors() == []


def test_no_name_or_text_of_a_report_becomes_markup_a_link_or_a_script(driver, tmp_path, writer, event):
    hostile = "</script><script>document.title='taken'</script><a href='javascript:alert(1)'>x</a>"
    history, run = RunHistory(), tmp_path / "<b>run<!--"
    with writer(run) as file:
        file.add_summary(history.add(0, [hostile], np.ones(1), total=1.0, total_clipped=1.0), 0)
        texts = {"message": hostile, "cause": hostile, "action_taken": hostile, "layers": (hostile,)}
        file.add_summary(history.event(0, event(**texts, remedies=(Remedy(hostile, hostile, hostile),))), 0)
    (tmp_path / "report.html").write_text(render(load(tmp_path)), encoding="utf-8")
    driver.get("about:blank")
    page = Page(driver).open((tmp_path / "report.html").as_uri())
    page.until(lambda: any(hostile in card.text for card in page.all(".diagnosis")))
    assert driver.title == "GradWatch report"
    assert page.all("a[href^='javascript'], script:not([type])") == []
    assert page.errors() == []
