"""Write the pictures of the report, the inspection page and the serving page in docs/images.

python scripts/capture_pages.py docs/images

The data are crops of the two openly licensed photographs that scikit-learn comes with, a few of
them in the folder of another class. Needs Playwright, Chromium and the extras quality and serve.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image, ImageEnhance
from playwright.sync_api import Page, sync_playwright
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 1200, 860
PORT = 8597
REGIONS = {  # photograph, and left, top, right and bottom in pixels
    "flower": (1, (180, 60, 460, 330)),
    "leaves": (1, (0, 0, 220, 427)),
    "palace": (0, (60, 130, 560, 330)),
    "garden": (0, (0, 230, 640, 427)),
}
NUM_IMAGES = {"train": 40, "val": 25}  # of each class
MISLABELLED = 0.06


def write_crops(folder: pathlib.Path) -> None:
    """Crops of each region in several sizes, angles and exposures."""
    photographs = [Image.fromarray(one) for one in load_sample_images().images]
    random = np.random.default_rng(0)
    for part, count in NUM_IMAGES.items():
        for number in range(count):
            for name, (photograph, (left, top, right, bottom)) in REGIONS.items():
                side = int(random.integers(70, 130))
                x, y = random.integers(left, right - side), random.integers(top, bottom - side)
                crop = photographs[photograph].crop((x, y, x + side, y + side))
                crop = crop.resize((160, 160)).rotate(float(random.normal(0, 6)))
                crop = ImageEnhance.Brightness(crop).enhance(float(random.uniform(0.6, 1.4)))
                is_right = random.random() > MISLABELLED
                label = name if is_right else random.choice(list(REGIONS))
                (folder / part / label).mkdir(parents=True, exist_ok=True)
                crop.save(folder / part / label / f"{name}-{number:02d}.jpg", quality=88)


def tfic(folder: pathlib.Path, *words: str) -> None:
    """A command, run in a folder."""
    subprocess.run(
        [sys.executable, "-m", "tf_image_classification", *words], cwd=folder, check=True
    )


def capture_report(page: Page, folder: pathlib.Path, output: pathlib.Path) -> None:
    """The first screen, and the images of a cell of the confusion matrix."""
    page.goto(f"file://{folder}/models/crops/report.html")
    page.wait_for_timeout(500)
    page.screenshot(path=output / "report.png")
    page.locator("table.confusion td:not(.diagonal) a").first.click()
    page.wait_for_timeout(500)
    page.screenshot(path=output / "report-cell.png")


def capture_inspection(page: Page, folder: pathlib.Path, output: pathlib.Path) -> None:
    """Candidates for label errors, two of them marked."""
    page.goto(f"file://{folder}/inspection.html")
    candidates = page.locator("figure.candidate")
    candidates.nth(0).locator("[data-mark=relabel]").first.click()
    candidates.nth(1).locator("[data-mark=keep]").click()
    page.evaluate("document.querySelector('figure.candidate').closest('section').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=output / "inspect.png")


def capture_server(page: Page, folder: pathlib.Path, output: pathlib.Path) -> None:
    """Predictions of some images."""
    command = [sys.executable, "-m", "tf_image_classification", "serve", "models/crops"]
    server = subprocess.Popen([*command, "--port", str(PORT)], cwd=folder)
    try:
        for _ in range(120):
            try:
                page.goto(f"http://127.0.0.1:{PORT}/")
                break
            except Exception:  # it is still starting
                page.wait_for_timeout(1000)
        images = sorted((folder / "crops" / "val").glob("*/*05.jpg"))[:4]
        page.set_input_files("#file", images)
        page.wait_for_selector("#list .card:nth-child(4) h3")
        page.wait_for_timeout(500)
        page.screenshot(path=output / "serve.png")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Train, report, inspect and serve, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args().output.absolute()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = pathlib.Path(os.path.realpath(name))
        write_crops(folder / "crops")
        tfic(folder, "train", "crops", "--epochs", "5", "--image_size", "128")
        tfic(folder, "report", "models/crops")
        backbone = ("--backbone", "efficientnet_lite0", "--checkpoint_path", "imagenet")
        tfic(folder, "inspect", "crops", "--page", "inspection.html", *backbone)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        for capture in (capture_report, capture_inspection, capture_server):
            capture(page, folder, output)
        browser.close()


if __name__ == "__main__":
    main()
