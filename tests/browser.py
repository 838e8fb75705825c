"""A real browser for the pages; tests that need one skip, visibly, where there is none."""

import contextlib
import shutil

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
        page.goto(url)
        try:
            yield page, complaints
        finally:
            browser.close()
