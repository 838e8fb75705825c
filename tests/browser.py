"""A real browser for the pages; tests that need one skip, visibly, where there is none."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest


@contextlib.contextmanager
def open_page(url, *, width=1100, height=900, dark=False, script=True):
    """A page in headless Chromium, and the list of what it complained of."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        scheme = "dark" if dark else "light"
        page = browser.new_page(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            java_script_enabled=script,
        )
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.set_default_timeout(10_000)
        page.goto(url)
        try:
            yield page, complaints
        finally:
            browser.close()


def accessibility_violations(page):
    """The violations of WCAG 2.2 AA in a page, by axe-core; skips where it is not installed.

    ``npm install axe-core`` in the repository installs it, or AXE_CORE is the path of axe.min.js.
    """
    root = Path(__file__).resolve().parents[1]
    path = os.environ.get("AXE_CORE") or root / "node_modules" / "axe-core" / "axe.min.js"
    if not Path(path).exists():
        pytest.skip("axe-core is not installed")
    page.evaluate(Path(path).read_text())
    found = page.evaluate(
        "() => axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [
        (one["id"], node["target"], node["failureSummary"])
        for one in found["violations"]
        for node in one["nodes"][:3]
    ]
