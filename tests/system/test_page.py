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
    expected = r"Failed to load resource: (net::ERR_\w+|the server responded with a status of (400|401|403|404|405|412|422) .*)"
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
    canvas = page.locator("#chart")
    picture = lambda: canvas.evaluate("canvas => canvas.toDataURL()")
    label = canvas.get_attribute("aria-label")
    before = picture()
    wait_until("the chart moves", lambda: picture() != before)
    wait_until("its words move", lambda: canvas.get_attribute("aria-label") != label)
    assert "Total, of power_supply" in label, label
    # Some pixels have the line's colour.
    drawn = """canvas => {
        const dots = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        let blue = 0;
        for (let i = 0; i < dots.length; i += 4) if (dots[i + 3] && dots[i + 2] > dots[i] + 80) blue++;
        return blue;
    }"""
    assert canvas.evaluate(drawn) > 20


def chart_is_read(page):
    """By pointer and by keys."""
    chart, readout = page.locator("#chart"), page.locator("#readout")
    box = chart.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + 40)
    expect(readout).to_contain_text(re.compile(r"(now|ago): \d"))
    page.mouse.move(0, 0)
    expect(readout).to_have_text("")
    page.keyboard.press("Tab")
    chart.focus()
    page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text("W")
    assert "W" in chart.get_attribute("aria-valuetext")
    page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "-300")
    page.keyboard.press("Escape")
    expect(readout).to_have_text("")
    # A rail instead of the total, and back.
    rail = page.locator("#rails button").first
    rail.click()
    expect(chart).to_have_attribute("aria-label", re.compile("usb"))
    expect(rail).to_have_attribute("aria-pressed", "true")
    rail.click()
    expect(chart).to_have_attribute("aria-label", re.compile("Total"))


def values_are_shown(page):
    value = page.locator("#metrics li", has_text="voltage_volts").first.locator(".value")
    expect(value).to_contain_text("5.00\u00a0V")


def searches(page):
    expect(page.get_by_role("switch")).to_have_count(page.locator("#metrics li").count())
    every = page.get_by_role("switch").count()
    page.get_by_label("Search").fill("POWER watts")
    found = page.locator("#metrics li .name")
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
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("#config-facts")).to_contain_text("was refused")
    expect(page.locator("#reload-note")).to_contain_text("the configuration remains unchanged")
    expect(page.locator("#state")).to_have_text("degraded")
    config.write_text(text)
    page.get_by_role("button", name="Reload").click()
    expect(page.locator("#reload-note")).to_contain_text("Reloaded at")
    expect(page.locator("#config-facts")).not_to_contain_text("was refused")
    kept = volts.read_text()
    # In place: the exporter keeps the file open.
    volts.write_text("<b>broken</b>".ljust(20) + "\n")
    expect(source).to_contain_text(re.compile("partly read|not read"))
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
                chart_is_read(page)
                values_are_shown(page)
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
            page.get_by_role("button", name="Reload").click()
            rows = page.locator("#workloads tr")
            # Nobody uses CPU time: what is above idle is the system's, and all others draw nothing.
            expect(rows).to_have_count(3)
            expect(page.locator("#workloads-note")).to_be_hidden()
            expect(page.locator("#workloads-what")).to_contain_text("of the board, ")
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


def board_without_meters(browser):
    """What was looked for, and what would help: no healthy board that measures nothing."""
    with temporary() as directory:
        for name in ("sys", "proc", "dev"):
            (directory / name).mkdir()
        (directory / "config.yaml").write_text("hostname: edge-02\n")
        ports = (free_port(), free_port())
        url = f"http://127.0.0.1:{ports[1]}"
        board = LiveBoard.__new__(LiveBoard)
        board.directory = directory

        def ready(page):
            expect(page.locator("#state")).to_have_text("no power is measured")
            expect(page.locator("#no-power-help")).to_contain_text("doctor --network")

        with exporter(board, ports), page_at(browser, url) as page:
            ready(page)
            expect(page.locator("#total")).to_be_hidden()
            expect(page.locator("#looked-for li").first).to_be_hidden()
            page.locator("#no-power summary").click()
            expect(page.locator("#looked-for li[data-key=hwmon]")).to_contain_text("/class/hwmon")
            fits(browser, url, ready)
            pictures(browser, url, "no-meters", ready)


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
            expect(broken).to_contain_text("unhealthy")
            errors = page.locator("#boards tr.error")
            expect(errors).to_have_count(3)
            expect(errors.first).to_have_text("hwmon: gone")
            expect(errors.nth(1)).to_have_text("<b>no such bus")
            expect(page.locator("#boards tr:not(.error)", has_text="edge-01")).to_contain_text("degraded")
            expect(page.get_by_role("link", name="edge-02")).to_have_attribute("href", "http://127.0.0.1:9101/")
            expect(page.locator("#boards tr:not(.error)", has_text="edge-00")).to_contain_text("unknown")
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
            expect(page.locator("#boards-count")).to_have_text("1 to 100 of 124 boards")
            page.get_by_role("button", name="Next").click()
            expect(page.locator("#boards tr:not(.error)")).to_have_count(24)
            page.get_by_role("button", name="Previous").click()
            page.get_by_label("only boards").check()
            page.get_by_label("Search").fill("hwmon: GONE")
            expect(page.locator("#boards tr:not(.error)")).to_have_count(1)
            page.get_by_label("only boards").uncheck()
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


def told(server, name, watts, joules, seconds):
    """A board tells what it draws."""
    headers = {"Exporter-Version": "1.2.3", "Exporter-Power": str(watts), "Exporter-Energy": f"{joules} {seconds}"}
    assert server.ask("GET", f"/config/{name}", headers=headers)[0] == 200


def fleet_power(browser):
    """Power and energy of all and of each, sorted, by group and by label."""
    with temporary() as directory, ConfigServer(directory / "fleet") as server:
        for n in range(4):
            assert server.ask("PUT", f"/config/edge-{n:02}", {"device_type": "x86", "interval": 1})[0] == 200
        rack = {"members": {"devices": ["edge-01", "edge-02"]}, "labels": {"site": "berlin"}}
        assert server.ask("PUT", "/groups/rack-3", rack)[0] == 200
        told(server, "edge-01", 10, 36_000, 3600)
        told(server, "edge-02", 30, 54_000, 1800)
        told(server, "edge-03", 2, 7200, 3600)
        names = lambda page: page.locator("#boards tr:not(.error) th a").all_inner_texts()

        def ready(page):
            expect(page.locator("#watts")).to_have_text("42.0\u00a0W")

        with page_at(browser, server.url) as page:
            ready(page)
            expect(page.locator("#watts-of")).to_have_text("reported by 3 boards")
            expect(page.locator("#joules")).to_have_text("97.2\u00a0kJ")
            expect(page.locator("#joules-of")).to_have_text("27.0\u00a0Wh")
            row = page.locator("#boards tr", has_text="edge-02")
            expect(row.locator("td.number").first).to_have_text("30.0\u00a0W")
            expect(row.locator("svg")).to_have_attribute("aria-label", re.compile("W to .*W in the last"))
            # Not known is not 0.
            expect(page.locator("#boards tr", has_text="edge-00").locator("td.number").first).to_have_text("–")
            head = page.get_by_role("button", name="Power", exact=True)
            head.focus()
            page.keyboard.press("Enter")
            expect(page.locator("th[data-sort=power]")).to_have_attribute("aria-sort", "descending")
            wait_until("they are sorted", lambda: names(page) == ["edge-02", "edge-01", "edge-03", "edge-00"])
            page.get_by_label("Group", exact=True).select_option("rack-3")
            expect(page.locator("#boards-count")).to_have_text("2 of 4 boards match")
            expect(page.locator("#watts")).to_have_text("40.0\u00a0W")
            page.get_by_label("Group", exact=True).select_option("")
            ready(page)
            page.locator("#boards").get_by_role("button", name="site=berlin").first.click()
            expect(page.locator("#watts")).to_have_text("40.0\u00a0W")
            expect(page.get_by_label("Label", exact=True)).to_have_value("site=berlin")
        fits(browser, server.url, ready)
        pictures(browser, server.url, "fleet-power", ready)


def fleet_is_changed(browser):
    """One board is edited and checked; who may not, is told why; and many boards, where the server can."""
    with temporary() as directory, ConfigServer(directory / "fleet") as server:
        for name in ("edge-00", "edge-01"):
            assert server.ask("PUT", f"/config/{name}", {"device_type": "x86", "interval": 1})[0] == 200
        interval = lambda: server.ask("GET", "/config/edge-00?own")[1]["interval"]
        with page_at(browser, server.url) as page:
            page.get_by_role("button", name="Edit edge-00").click()
            text, note = page.locator("#document"), page.locator("#editor-note")
            expect(text).to_have_value(re.compile('"interval": 1'))
            text.fill('{"device_type": "x86", "interval": "fast"}')
            page.locator("#editor-check").click()
            expect(note).to_contain_text("interval")
            text.fill('{"device_type": "x86", "interval": 5}')
            page.locator("#editor-check").click()
            expect(note).to_contain_text("The document is valid and differs from the stored one.")
            assert interval() == 1
            # Somebody else comes first.
            assert server.ask("PUT", "/config/edge-00", {"device_type": "x86", "interval": 2})[0] == 200
            page.locator("#editor-save").click()
            expect(note).to_contain_text("Somebody else has changed the document")
            assert interval() == 2
            page.keyboard.press("Escape")
            page.get_by_role("button", name="Edit edge-00").click()
            expect(text).to_have_value(re.compile('"interval": 2'))
            text.fill('{"device_type": "x86", "interval": 5}')
            page.locator("#editor-save").click()
            expect(page.locator("#note")).to_contain_text("The configuration of edge-00 is stored.")
            assert interval() == 5
            page.locator("#many summary").click()
            page.locator("#selector-from").click()
            expect(page.locator("#selector")).to_have_value("*")
            page.get_by_label("Metric", exact=True).fill("power_watts")
            page.get_by_role("button", name="Export", exact=True).click()
            expect(page.locator("#many-apply")).to_be_disabled()
            page.locator("#many-check").click()
            if server.ask("PATCH", "/config?selector=*&dry_run", {})[0] in (404, 405):
                expect(page.locator("#many")).to_be_hidden()
            else:
                expect(page.locator("#many-note")).to_contain_text("2 boards are selected, 2 would change")
                page.locator("#many-apply").click()
                expect(page.locator("#many-note")).to_contain_text("2 have changed")
                assert server.ask("GET", "/config/edge-01?own")[1]["metrics"] == {"power_watts": True}
        with page_at(browser, server.url, extra_http_headers={"X-Forwarded-For": "192.0.2.1"}) as page:
            page.get_by_role("button", name="Edit edge-00").click()
            page.locator("#document").fill('{"device_type": "x86", "interval": 9}')
            page.locator("#editor-save").click()
            expect(page.locator("#editor-note")).to_contain_text("--management.allow-remote")
        assert interval() == 5


def demo(browser):
    """Screenshots with more than one rail."""
    port = free_port()
    with temporary() as directory, open(directory / "log", "w") as log:
        command = [BINARY, "demo", "--web.listen-address", "127.0.0.1:0", "--web.management-address", f"127.0.0.1:{port}"]
        with running(command, stderr=log):
            url = f"http://127.0.0.1:{port}"

            def ready(page):
                expect(page.locator("#chart")).to_be_visible()
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
        board_without_meters(browser)
        token_is_requested(browser)
        fleet_page(browser)
        fleet_power(browser)
        fleet_is_changed(browser)
        if os.environ.get("SCREENSHOTS"):
            demo(browser)
        browser.close()


main()
