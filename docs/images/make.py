#!/usr/bin/env python3
"""Makes the pictures of the documents from the demo, in a real browser: `make pictures`. EXPORTER is the binary."""

import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/system"))

from playwright.sync_api import sync_playwright  # noqa: E402

from peers import BINARY, free_port, get, running, wait_until  # noqa: E402

# Until the charts show several minutes, and all boards have reported their power several times.
SECONDS = 200
FLAGS = ["--no-sandbox", "--disable-gpu"]
WIDTH = 1000


def pictures(browser, url, name, height, shown):
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": WIDTH, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(url)
        page.locator(shown).first.wait_for()
        # Until the second reading has moved everything to its place.
        page.wait_for_timeout(3000)
        page.screenshot(path=ROOT / f"docs/images/{name}-{scheme}.png")
        context.close()


def main():
    metrics, management, server = free_port(), free_port(), free_port()
    demo = [BINARY, "demo", "--web.listen-address", f"127.0.0.1:{metrics}", "--web.management-address", f"127.0.0.1:{management}"]
    fleet = [BINARY, "demo", "--fleet", "8", "--web.listen-address", f"127.0.0.1:{server}"]
    with running(demo), running(fleet), sync_playwright() as playwright:
        for port in (management, server):
            wait_until("it answers", lambda port=port: get(f"http://127.0.0.1:{port}/health"))
        time.sleep(SECONDS)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        pictures(browser, f"http://127.0.0.1:{management}/", "board", 640, "#rails tr")
        pictures(browser, f"http://127.0.0.1:{server}/", "fleet", 760, "#boards tr")
        browser.close()


main()
