# SPDX-License-Identifier: Apache-2.0
"""A real browser that looks at the page. Screenshots go to $GRADWATCH_SCREENSHOTS, if that is set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402  # only after the skip
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

__all__ = ["NEEDED", "By", "Keys", "Page", "start"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDED = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM or not DRIVER, reason="no Chromium with chromedriver on this machine"),
]
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1500,1000")


def start():
    """A headless Chromium that keeps its log."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in OPTIONS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


class Page:
    """A browser that looks at the page."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.until(lambda: next((found for found in self.all(selector) if found.is_displayed()), None))

    def until(self, condition):
        """Waits for something true; what was drawn anew meanwhile is looked up again."""
        return WebDriverWait(self.driver, 20, 0.1, [StaleElementReferenceException]).until(lambda _: condition())

    def point(self, element, x=0, y=0):
        """The pointer, x and y pixels from the middle of an element."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        return ActionChains(self.driver).move_to_element_with_offset(element, x, y)

    def open(self, url):
        self.driver.get(url)
        if url.startswith("http"):
            self.until(lambda: self.all("iframe"))
            self.driver.switch_to.frame(self.all("iframe")[0])
        self.one(".card")
        return self

    def shot(self, name, top=0):
        folder = os.environ.get("GRADWATCH_SCREENSHOTS")
        if folder:
            self.driver.execute_script("document.scrollingElement.scrollTo(0, arguments[0])", top)
            self.driver.switch_to.default_content()
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))
            for frame in self.all("iframe"):
                self.driver.switch_to.frame(frame)

    def errors(self):
        """What the browser complained of, but for TensorBoard's missing icon."""
        severe = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
        return [message for message in severe if "favicon.ico" not in message]
