"""The status pages in a real browser: charts move, settings are switched, refusals are shown, and the loss and return of a
server is noticed. With SCREENSHOTS=DIRECTORY, screenshots are saved."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import urllib.request

from playwright.sync_api import expect, sync_playwright

from peers import BINARY, ConfigServer, LiveBoard, free_port, get, running, temporary, wait_until

# Headless, without features that access the Internet.
FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
SIZES = {"narrow": {"width": 390, "height": 844}, "wide": {"width": 1280, "height": 900}}
NAME = "<img src=x onerror=alert(1)>"
TIMEOUT_MS = 30_000

expect.set_options(timeout=TIMEOUT_MS)


@contextlib.contextmanager
def exporter(board, ports):
    addresses = [f"127.0.0.1:{port}" for port in ports]
    command = [BINARY, "--web.listen-address", addresses[0], "--web.management-address", addresses[1], *board.arguments()]
    with open(board.directory / "log", "a") as log, running(command, stderr=log):
        wait_until("it answers", lambda: get(f"http://{addresses[1]}/health"))
        yield


@contextlib.contextmanager
def page_at(browser, url, **options):
    """A new page. Console errors and requests to other hosts are failures."""
    context = browser.new_context(**options)
    page = context.new_page()
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda message: message.type == "error" and trouble.append(message.text))
    page.on("request", lambda request: request.url.startswith(url) or trouble.append(request.url))
    page.goto(f"{url}/")
    yield page
    context.close()
    # The console also reports refusals and unreachable servers.
    expected = r"Failed to load resource: (net::ERR_\w+|the server responded with a status of (401|403|422) .*)"
    assert all(re.fullmatch(expected, text) for text in trouble), trouble


def pictures(browser, url, what, ready):
    directory = os.environ.get("SCREENSHOTS")
    if not directory:
        return
    pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
    for size, viewport in SIZES.items():
        for scheme in ("light", "dark"):
            with page_at(browser, url, viewport=viewport, color_scheme=scheme) as page:
                ready(page)
                page.screenshot(path=f"{directory}/{what}-{size}-{scheme}.png", full_page=True)


def fits(browser, url, ready):
    """The page fits the width of a phone, and has the preferred colour scheme."""
    backs = []
    for scheme in ("light", "dark"):
        with page_at(browser, url, viewport={"width": 320, "height": 600}, color_scheme=scheme) as page:
            ready(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320
            backs.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert backs[0] != backs[1], backs


def chart_moves(page):
    # Two images of a canvas with a moving line always differ.
    canvas = page.locator("#rails canvas").first
    picture = lambda: canvas.evaluate("canvas => canvas.toDataURL()")
    label = canvas.get_attribute("aria-label")
    before = picture()
    wait_until("the chart moves", lambda: picture() != before)
    wait_until("its words move", lambda: canvas.get_attribute("aria-label") != label)
    assert "rail" not in label and "usb" in label, label
    # Some pixels have the line's colour.
    drawn = """canvas => {
        const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let blue = 0;
        for (let i = 0; i < dots.length; i += 4) if (dots[i + 3] && dots[i + 2] > dots[i] + 80) blue++;
        return blue;
    }"""
    assert canvas.evaluate(drawn) > 20


def searches(page):
    expect(page.get_by_role("switch")).to_have_count(page.locator("#metrics li").count())
    every = page.get_by_role("switch").count()
    page.get_by_label("Search").fill("POWER watts")
    found = page.locator("#metrics li span")
    wait_until("it has searched", lambda: 0 < found.count() < every)
    assert all("power" in name and "watts" in name for name in found.all_inner_texts())
    page.get_by_label("Search").fill("there is no such")
    expect(page.locator("#metrics li")).to_have_count(0)
    page.get_by_label("Search").fill("")
    expect(page.get_by_role("switch")).to_have_count(every)


def exported(metrics_url, name):
    return re.search(rf"^{name}[{{ ]", get(metrics_url)[0], re.MULTILINE) is not None


def toggles(page, board, metrics_url):
    name = "voltage_volts"
    assert exported(metrics_url, name)
    switch = page.get_by_role("switch", name=name, exact=True)
    # By keyboard.
    switch.focus()
    page.keyboard.press("Space")
    expect(page.locator("#metrics-note")).to_contain_text(f"{name} is no longer exported. Saved.")
    expect(switch).not_to_be_checked()
    assert not exported(metrics_url, name)
    assert f"{name}: false" in (board.directory / "config.yaml").read_text()
    page.keyboard.press("Space")
    expect(page.locator("#metrics-note")).to_contain_text(f"{name} is exported. Saved.")
    assert exported(metrics_url, name)
    # Switches by another client appear on the page.
    body = json.dumps({name: False}).encode()
    headers = {"Content-Type": "application/json"}
    url = page.url + "metrics/enable"
    urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=10).close()
    expect(switch).not_to_be_checked()


def refusal_is_shown(browser, url, metrics_url):
    """A remote client (or a proxy) cannot switch anything, and the page shows the reason and a remedy."""
    name = "current_amperes"
    with page_at(browser, url, extra_http_headers={"X-Forwarded-For": "192.0.2.1"}) as page:
        switch = page.get_by_role("switch", name=name, exact=True)
        switch.click()
        note = page.locator("#metrics-note")
        expect(note).to_contain_text(f"{name} was not switched.")
        expect(note).to_contain_text("allow_remote")
        expect(switch).to_be_checked()
    assert exported(metrics_url, name)


def errors_are_shown(page, board):
    """The page shows why a source fails, and why a configuration is refused."""
    source = page.locator("#sources li", has_text="power_supply")
    expect(source).to_contain_text("read")
    volts = board.directory / "sys/class/power_supply/usb/voltage_now"
    config = board.directory / "config.yaml"
    text = config.read_text()
    config.write_text(text + "interval: <b>\n")
    page.get_by_role("button", name="Load it again").click()
    expect(page.locator("#config-facts")).to_contain_text("was refused")
    expect(page.locator("#reload-note")).to_contain_text("the configuration stays as it was")
    expect(page.locator("#state")).to_have_text("degraded")
    config.write_text(text)
    page.get_by_role("button", name="Load it again").click()
    expect(page.locator("#reload-note")).to_contain_text("Loaded again")
    expect(page.locator("#config-facts")).not_to_contain_text("was refused")
    kept = volts.read_text()
    # In place: the exporter keeps the file open.
    volts.write_text("<b>broken</b>".ljust(20) + "\n")
    expect(source).to_contain_text(re.compile("in part|not read"))
    expect(source.locator(".why")).to_contain_text("voltage_now")
    volts.write_text(kept)
    expect(source.locator(".pill")).to_have_text("read")


def names_are_escaped(page):
    expect(page.locator("h1")).to_have_text(NAME)
    assert page.locator("img").count() == 0
    policy = get(page.url)[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy


def board_page(browser):
    with temporary() as directory, LiveBoard(directory) as board:
        config = directory / "config.yaml"
        config.write_text(config.read_text() + f"hostname: '{NAME}'\n")
        ports = (free_port(), free_port())
        url, metrics_url = f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[0]}/metrics"

        def ready(page):
            expect(page.locator("#watts")).to_contain_text("W")
            expect(page.locator("#state")).to_have_text("healthy")

        with contextlib.ExitStack() as first:
            first.enter_context(exporter(board, ports))
            with page_at(browser, url) as page:
                ready(page)
                names_are_escaped(page)
                chart_moves(page)
                searches(page)
                toggles(page, board, metrics_url)
                errors_are_shown(page, board)
                refusal_is_shown(browser, url, metrics_url)
                first.close()
                expect(page.locator("#gone")).to_contain_text("No answer from the board")
                with exporter(board, ports):
                    expect(page.locator("#gone")).to_be_hidden()
                    expect(page.locator("#back")).to_contain_text("answers again")
                    ready(page)
                    chart_moves(page)
                    fits(browser, url, ready)


def workloads_are_shown(browser):
    """Which workloads draw the power, once they are asked for; as many as fit, and the rest in one line."""
    with temporary() as directory, LiveBoard(directory) as board:
        files = {"sys/fs/cgroup/cgroup.controllers": "cpu\n", "sys/devices/system/cpu/online": "0-3\n"}
        files["proc/stat"] = f"cpu  {0:012} 0 0 99999 0 0 0 0 0 0\n"
        names = [f"service-{n:02}.service" for n in range(25)] + [f"{NAME.replace('/', '')}.service"]
        files |= {f"sys/fs/cgroup/{name}/cpu.stat": f"usage_usec {0:014}\n" for name in names}
        for path, text in files.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_text(text)
        ports = (free_port(), free_port())
        url = f"http://127.0.0.1:{ports[1]}"
        with exporter(board, ports), page_at(browser, url) as page:
            expect(page.locator("#workloads-note")).to_contain_text("workloads: {enabled: true}")
            expect(page.locator("#workloads-table")).to_be_hidden()
            config = directory / "config.yaml"
            config.write_text(config.read_text() + "workloads: {enabled: true, idle_watts: {board: 1}}\n")
            page.get_by_role("button", name="Load it again").click()
            rows = page.locator("#workloads tr")
            # Nobody uses CPU time: what is above idle is the system's, and all others draw nothing.
            expect(rows).to_have_count(3)
            expect(page.locator("#workloads-note")).to_be_hidden()
            expect(page.locator("#workloads-what")).to_contain_text("of what the board draws")
            expect(rows.first).to_contain_text("system")
            expect(rows.nth(1)).to_contain_text("27 more")
            expect(rows.nth(2)).to_contain_text("idle")
            # All of them work, and the last one most.
            ticks = [0]

            def works():
                ticks[0] += 1
                used = [ticks[0] * (100_000 if name == names[-1] else 1_000) for name in names]
                texts = {f"sys/fs/cgroup/{name}/cpu.stat": f"usage_usec {time:014}\n" for name, time in zip(names, used)}
                texts["proc/stat"] = f"cpu  {sum(used) // 10_000:012} 0 0 99999 0 0 0 0 0 0\n"
                for path, text in texts.items():
                    # In place: the exporter keeps the files open.
                    with open(directory / path, "r+") as file:
                        file.write(text)
                first = rows.first.inner_text()
                share = re.search(r"[5-9]\d\.\d\s%", first)
                return NAME in first and "service" in first and share and rows.count() == 22

            wait_until("it is the first", works)
            assert page.locator("img").count() == 0
            with page_at(browser, url, viewport={"width": 320, "height": 600}) as narrow:
                expect(narrow.locator("#workloads tr").first).to_contain_text("W")
                assert narrow.evaluate("document.documentElement.scrollWidth") <= 320

            def ready(page):
                expect(page.locator("#workloads tr").first).to_contain_text("W")

            pictures(browser, url, "workloads", ready)


def token_is_requested(browser):
    with temporary() as directory, LiveBoard(directory) as board:
        (directory / "token").write_text("correct-horse-battery-staple\n")
        config = directory / "config.yaml"
        config.write_text(config.read_text() + f"management: {{token_file: {directory / 'token'}}}\n")
        ports = (free_port(), free_port())
        url, metrics_url = f"http://127.0.0.1:{ports[1]}", f"http://127.0.0.1:{ports[0]}/metrics"
        # A proxy: local clients need no token.
        elsewhere = {"X-Forwarded-For": "192.0.2.1"}
        with exporter(board, ports), page_at(browser, url, extra_http_headers=elsewhere) as page:
            switch = page.get_by_role("switch", name="voltage_volts", exact=True)
            expect(page.get_by_label("Token")).to_be_hidden()
            for token, words in (("wrong", "was not switched. Unauthorized"), ("correct-horse-battery-staple", "no longer exported")):
                switch.click()
                expect(page.locator("#metrics-note")).to_contain_text("was not switched. Unauthorized")
                page.get_by_label("Token").fill(token)
                page.keyboard.press("Enter")
                expect(page.get_by_label("Token")).to_be_hidden()
                switch.click()
                expect(page.locator("#metrics-note")).to_contain_text(words)
            assert not exported(metrics_url, "voltage_volts")


def fleet_page(browser):
    with temporary() as directory, ConfigServer(directory / "fleet") as server:
        board = {"device_type": "jetson_orin", "interval": 1, "metrics": {}}
        for n in range(4):
            assert server.ask("PUT", f"/config/edge-{n:02}", {**board, "hostname": NAME})[0] == 200
        refused = {"Exporter-Version": "1.2.3", "Exporter-Ports": "9100 9101", "Exporter-Refused": "<b>no such bus"}
        assert server.ask("GET", "/config/edge-02", headers=refused)[0] == 200
        hurt = {"Exporter-Version": "1.2.3", "Exporter-Degraded": "hwmon: gone"}
        assert server.ask("GET", "/config/edge-01", headers=hurt)[0] == 200
        (directory / "fleet/edge-03.yaml").write_text("device_type: <i>nothing</i>\ninterval: fast\n")

        def ready(page):
            expect(page.locator("#boards tr:not(.error)")).to_have_count(4)

        with page_at(browser, server.url) as page:
            ready(page)
            broken = page.locator("#boards tr:not(.error)", has_text="edge-03")
            expect(broken).to_contain_text("refused")
            errors = page.locator("#boards tr.error")
            expect(errors).to_have_count(3)
            expect(errors.first).to_have_text("hwmon: gone")
            expect(errors.nth(1)).to_have_text("<b>no such bus")
            expect(page.locator("#boards tr:not(.error)", has_text="edge-01")).to_contain_text("degraded")
            expect(page.get_by_role("link", name="edge-02")).to_have_attribute("href", "http://127.0.0.1:9101/")
            expect(page.locator("#boards tr:not(.error)", has_text="edge-00")).to_contain_text("never heard of")
            assert page.locator("#boards img, #boards i").count() == 0
            page.get_by_label("Search").fill("edge-00")
            expect(page.locator("#boards tr")).to_have_count(1)
            page.get_by_label("Search").fill("")
            # A new board appears without a reload.
            assert server.ask("PUT", "/config/edge-09", board)[0] == 200
            expect(page.locator("#boards tr", has_text="edge-09")).to_be_visible()
            assert server.ask("DELETE", "/config/edge-09")[0] == 200
            ready(page)
            # More boards than one page holds.
            for n in range(120):
                (directory / f"fleet/many-{n:03}.yaml").write_text("device_type: x86\n")
            expect(page.locator("#boards-count")).to_have_text("100 of 124 shown, page 1")
            page.get_by_role("button", name="Next").click()
            expect(page.locator("#boards tr:not(.error)")).to_have_count(24)
            page.get_by_role("button", name="Previous").click()
            page.get_by_label("only those").check()
            page.get_by_label("Search").fill("hwmon: GONE")
            expect(page.locator("#boards tr:not(.error)")).to_have_count(1)
            page.get_by_label("only those").uncheck()
            page.get_by_label("Search").fill("")
            for n in range(120):
                (directory / f"fleet/many-{n:03}.yaml").unlink()
            ready(page)
            server.kill()
            expect(page.locator("#gone")).to_contain_text("No answer from the config-server")
            server.start()
            expect(page.locator("#gone")).to_be_hidden()
            ready(page)
        fits(browser, server.url, ready)
        pictures(browser, server.url, "fleet", ready)


def demo(browser):
    """Screenshots with more than one rail."""
    port = free_port()
    with temporary() as directory, open(directory / "log", "w") as log:
        command = [BINARY, "demo", "--web.listen-address", "127.0.0.1:0", "--web.management-address", f"127.0.0.1:{port}"]
        with running(command, stderr=log):
            url = f"http://127.0.0.1:{port}"

            def ready(page):
                expect(page.locator("#rails canvas").first).to_be_visible()
                expect(page.locator("#metrics li").first).to_be_visible()
                page.wait_for_timeout(1500)

            wait_until("it answers", lambda: get(f"{url}/health"))
            wait_until("there is a minute of it", lambda: json.loads(get(f"{url}/health")[0])["uptime_seconds"] > 20)
            pictures(browser, url, "board", ready)


def main():
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        board_page(browser)
        workloads_are_shown(browser)
        token_is_requested(browser)
        fleet_page(browser)
        if os.environ.get("SCREENSHOTS"):
            demo(browser)
        browser.close()


main()
