"""Pictures of the page of ``airjax demo``, on a wide and on a narrow screen.

    python docs/screenshots.py RUN FOLDER

draws a 3 and a 1 on the canvas as a hand would, and writes a picture of each tab to FOLDER. It
needs ``pip install -e ".[test]"`` and Debian's chromium.
"""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from airjax.demo.run_choice import RunChoice
from airjax.demo.server import running
from airjax.training.runs import Run

SCREENS = {"desktop": (1280, 900), "phone": (390, 844)}
TABS = ("See", "Dream", "Learning")
THREE = [(0.18, 0.2), (0.3, 0.12), (0.4, 0.22), (0.28, 0.33), (0.42, 0.46), (0.32, 0.58),
         (0.16, 0.52)]  # fmt: skip
ONE = [(0.7, 0.45), (0.72, 0.65), (0.73, 0.9)]


def main(run: Path, folder: Path) -> None:
    """Writes the pictures."""
    choice = RunChoice([Run.open(run)])
    folder.mkdir(parents=True, exist_ok=True)
    with running(choice, "127.0.0.1", None) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for name, (width, height) in SCREENS.items():
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, device_scale_factor=1.0)
            page.goto(address)
            stroke(page, THREE)
            stroke(page, ONE)
            page.wait_for_selector(".air-count[data-count='2']")
            for tab in TABS:
                page.get_by_role("tab", name=tab).click()
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / f"{name}_{tab.lower()}.png", full_page=True)
        browser.close()


def stroke(page: Page, points: list[tuple[float, float]]) -> None:
    """Draws a line on the canvas; points as shares of its width and height."""
    canvas = page.locator(".air-canvas canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    (x, y), *others = [
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points
    ]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
