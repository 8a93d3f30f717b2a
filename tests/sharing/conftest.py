"""A real browser for the tests of pages; they are skipped, with a note, where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_WITHOUT_NETWORK = ("file", "data", "blob", "about")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, such as Debian's package of that name")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a file or an address in a new window of 1280 x 900 pixels; the keyword arguments are those of
    Playwright's new_context.

    At the end of the test, a request to another machine, an error that a page raised and one that it wrote to
    the console are failures.
    """
    opened, faults = [], []

    def watch(request: Any) -> None:
        address = urlparse(request.url)
        if address.scheme not in _WITHOUT_NETWORK and address.hostname not in ("127.0.0.1", "localhost"):
            faults.append(f"request to {request.url}")

    def open_(where: Path | str, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        opened.append(context)
        page.on("request", watch)
        page.on("pageerror", lambda error: faults.append(f"error in the page: {error}"))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(where.as_uri() if isinstance(where, Path) else where)
        return page

    yield open_
    for context in opened:
        context.close()
    assert not faults, "\n".join(faults)


def assert_accessible(page: Any) -> None:
    """axe-core finds nothing that it calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    found = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
    assert not found, json.dumps(
        [
            {"rule": v["id"], "what": v["help"], "where": [node["html"] for node in v["nodes"][:5]]}
            for v in found
        ],
        indent=1,
    )
