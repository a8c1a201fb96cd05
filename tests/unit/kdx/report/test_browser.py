"""Pages in a real browser, if playwright and Chromium are installed."""

import shutil

import pytest

from kdx.report import write_page, write_report_page
from kdx_lab.study.page import study_page
from tests.unit.kdx.report.made import made
from tests.unit.kdx.report.test_weights import student
from tests.unit.kdx_lab.study.test_page import study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

WIDE = """() => [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg")
    && e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map(e => e.outerHTML.slice(0, 80))"""
CUT = """() => [...document.querySelectorAll("svg text")].filter(e => {
    const box = e.closest("svg").getBoundingClientRect(), own = e.getBoundingClientRect();
    return own.left < box.left - 1 || own.right > box.right + 1
        || own.top < box.top - 1 || own.bottom > box.bottom + 1}).map(e => e.outerHTML)"""
UNLABELLED = """() => [...document.querySelectorAll("figure")].filter(e =>
    !e.querySelector(".xlabel")?.textContent || !e.querySelector(".ylabel")?.textContent)
    .map(e => e.innerText)"""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_pages_open_on_a_phone_without_an_error(tmp_path, monkeypatch):
    """No message, no request, every figure with labelled axes, nothing wider than the screen."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    long = "a_name_that_is_longer_than_a_screen_is_wide/" * 4
    runs = [made(tmp_path / "one"), made(tmp_path / "two", name=long)]
    for run in runs:
        student(run)
    pages = [write_report_page(each) for each in (runs[1:], runs)]
    pages.append(write_page(study_page(study(tmp_path)), tmp_path / "study.html"))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (400, 1280):
            view = browser.new_page(viewport={"width": width, "height": 800})
            said: list[str] = []
            view.on("console", lambda message, said=said: said.append(message.text))
            view.on("pageerror", lambda error, said=said: said.append(str(error)))
            view.on("request", lambda request, said=said: said.append(request.url))
            for page in pages:
                view.goto(page.as_uri())
                view.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
                assert view.evaluate("document.documentElement.scrollWidth") <= width
                for check in (WIDE, CUT, UNLABELLED):
                    assert view.evaluate(check) == []
            assert [each for each in said if not each.startswith(("file:", "data:"))] == []
        browser.close()
