# SPDX-License-Identifier: Apache-2.0
"""Makes the pictures of the pages from real runs: ``python -m docs.pictures``, with Chromium, from the checkout.

The runs are the tutorial's, the second example's, and those of the tests of the TensorBoard tab.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger
from selenium.webdriver import Chrome
from torch.utils.data import DataLoader, TensorDataset

from examples import vanishing
from lightning_gradwatch import ExplosionDetector, GradientNormLogger, LRDecay
from lightning_gradwatch.tensorboard.report import load, render
from tests.docs.pages import blocks
from tests.tensorboard import trained
from tests.tensorboard.browser import Page, start
from tests.tensorboard.conftest import get_json, start_server

IMAGES = Path(__file__).parent / "images"
MARGIN = 6  # pixels around what is shown
WIDTH = 1180
WINDOW = 1500, 1000  # of TensorBoard
TIMELINE = "main > section:nth-of-type(2)"


def main() -> None:
    """Trains in an empty folder, and looks."""
    tutorial = "\n".join(blocks("python", "docs/tutorial.md"))
    os.chdir(tempfile.mkdtemp())
    exec(tutorial, {})
    vanishing.train("sigmoid", vanishing.sigmoid_net())
    vanishing.train("remedied", vanishing.remedied_net())
    trained.train(Path("runs"))
    relapses()
    driver = start()
    driver.set_window_size(WIDTH, 1400)
    try:
        show(driver, "rescued", "tutorial", ".health", TIMELINE)
        show(driver, "residual", "adaptive-clipper", TIMELINE)
        show(driver, "residual", "gradient-norm-logger", ".split .column:first-child", click="canvas.heat")
        show(driver, "residual", "explosion-detector", TIMELINE, ".diagnosis.chosen", click=".marker")
        show(driver, "vanishing", "vanishing-detector", ".split .column:last-child")
        show(driver, "relapses", "lr-decay", TIMELINE)
        tab(driver)
    finally:
        driver.quit()


def relapses() -> None:
    """Outlier batches that nobody clips, so that only the learning rate gives way; all faster than by default."""
    torch.manual_seed(0)
    x = torch.randn(400, 8, 6)
    y = x.sum(2, keepdim=True).sin()
    for batch in (100, 230):
        x[batch] *= 1e3
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=TensorBoardLogger("runs", name="relapses"),
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[GradientNormLogger(), ExplosionDetector(), LRDecay(hold_steps=20, rewarm_steps=80)],
    )
    loader = DataLoader(TensorDataset(x.flatten(0, 1), y.flatten(0, 1)), batch_size=8)
    trainer.fit(trained.Residual(), loader)


def show(driver: Chrome, run: str, name: str, *selectors: str, click: str | None = None) -> None:
    """Saves what the selectors cover, below each other, of one run's page."""
    report = Path(f"{name}.html")
    report.write_text(render(load(Path("runs") / run)), encoding="utf-8")
    page = Page(driver).open(report.absolute().as_uri())
    page.one("label:has(input[value=light])").click()
    if click is not None:
        page.point(page.one(click)).click().perform()
    height = max(box["y"] + box["height"] for box in (page.one(selector).rect for selector in selectors))
    driver.set_window_size(WIDTH, height + 200)
    page.point(page.one("header"), y=-5).perform()
    driver.execute_script("scrollTo(0, 0)")
    seen = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    parts = [seen.crop(around(page.one(selector).rect)) for selector in selectors]
    picture = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), "white")
    for i, part in enumerate(parts):
        picture.paste(part, (0, sum(above.height for above in parts[:i])))
    picture.quantize(128).save(IMAGES / f"{name}.png", optimize=True)


def tab(driver: Chrome) -> None:
    """Saves what TensorBoard shows of three runs."""
    for name, run in (("residual", "residual"), ("sigmoid-10", "vanishing/sigmoid"), ("relu-10", "vanishing/remedied")):
        shutil.copytree(Path("runs") / run / "version_0", Path("three") / name)
    driver.set_window_size(*WINDOW)
    server, url = start_server(Path("three"))
    try:
        page = Page(driver)
        page.until(lambda: get_json(f"{url}data/plugins_listing")["gradwatch"]["enabled"])
        page.open(f"{url}#gradwatch")
        page.until(lambda: len(page.all(".card")) == 3)
        choose(page, "residual", "light")
        page.point(page.one(".marker")).perform()
        page.one(".tip")
        shoot(page, "tensorboard-overview")
        choose(page, "residual", "dark")
        page.point(page.one("canvas.heat")).click().perform()
        shoot(page, "tensorboard-heatmap", below=".split")
        choose(page, "sigmoid-10", "light")
        shoot(page, "tensorboard-profile", below=".split")
    finally:
        server.terminate()
        server.communicate()


def choose(page: Page, run: str, theme: str) -> None:
    """Clicks on a run's card, in a theme."""
    page.one(f"label:has(input[value={theme}])").click()
    card = next(card for card in page.all(".card") if run in card.text)
    page.point(card).click().perform()
    page.until(lambda: run in page.one(".card[aria-pressed=true]").text)
    page.one("canvas.heat")


def shoot(page: Page, name: str, below: str | None = None) -> None:
    """Saves what the window shows, from an element on."""
    top = 0 if below is None else page.one(below).rect["y"] - 2 * MARGIN
    page.driver.execute_script("document.scrollingElement.scrollTo(0, arguments[0])", top)
    page.driver.switch_to.default_content()
    seen = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
    seen.quantize(256).save(IMAGES / f"{name}.png", optimize=True)
    page.driver.switch_to.frame(page.all("iframe")[0])


def around(box: dict[str, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of an element with a margin."""
    left, top = max(box["x"] - MARGIN, 0), max(box["y"] - MARGIN, 0)
    return left, top, box["x"] + box["width"] + MARGIN, box["y"] + box["height"] + MARGIN


if __name__ == "__main__":
    main()
