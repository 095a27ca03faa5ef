"""The dashboards for Grafana, the rules and alerts, and the queries of docs/prometheus.md, against real Prometheus servers.

* Live, with a scrape interval of 5 s: one that scrapes the demo (by /metrics and by /multirate), a Raspberry Pi's fixture tree,
  and the pyJoules clients. Every query returns data, and the demo counts once.
* A day of a simulated fleet (simulated_fleet.py), scraped every 5 s and every 60 s: sums of watts and joules are those that the
  boards drew and used. Every query returns data for the whole time shown.

Grafana itself is not here: neither Debian nor PyPI has it. grafana.py makes of the dashboards what it would ask, and checks them by
the models that Grafana Labs generate from Grafana's schemas.
"""

import contextlib
import os
import re
import subprocess
import time

import grafana
import peers
import simulated_fleet as fleet
import yaml
from grafana import DASHBOARDS, View
from peers import ROOT, exporter, free_port, prometheus, query, running, temporary, wait_until

PROMETHEUS = ROOT / "deploy/prometheus"
PROVISIONING = ROOT / "deploy/grafana/provisioning"
RULES = sorted(PROMETHEUS.glob("*.rules.yml"))
# Prometheus has to scrape five targets twice.
peers.WAIT_SECONDS = 300
LIVE_INTERVAL = 5
# The exact labels of the only visible series of the pyJoules dashboard.
PYJOULES = {
    "__name__": "pyjoules_simple_energy_watts",
    "domain": "package_0",
    "instance": "pyjoules-metrics-client-simple:9091",
    "job": "pyjoules_simple",
}


def recording_rules():
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield rule["record"], rule["expr"]


def documented_queries():
    blocks = re.findall(r"```promql\n(.*?)```", (ROOT / "docs/prometheus.md").read_text(), flags=re.DOTALL)
    for line in "".join(blocks).splitlines():
        expression = line.split("#")[0].strip()
        if expression:
            yield expression


def every_alert_is_tested():
    alerts = set()
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            alerts |= {rule["alert"] for rule in group["rules"] if "alert" in rule}
    fired = set()
    for test in yaml.safe_load((PROMETHEUS / "rules.test.yml").read_text())["tests"]:
        fired |= {case["alertname"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert alerts and alerts == fired, f"alerts that no rule test has fire: {alerts - fired}"
    subprocess.run(["promtool", "test", "rules", "rules.test.yml"], cwd=PROMETHEUS, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["promtool", "check", "config", "prometheus.yml"], cwd=PROMETHEUS, check=True, stdout=subprocess.DEVNULL)
    print(f"{len(alerts)} alerts fire in their tests")


def grafana_of_the_fleet_is_set_up():
    """The data source has the stack's scrape interval, and the home dashboard is one of those that are mounted."""
    source = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())["datasources"][0]
    scraped = yaml.safe_load((ROOT / "deploy/docker/prometheus/fleet.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped, (source, scraped)
    for file, home in (("compose.fleet.yaml", "fleet"), ("compose.yaml", "pyjoules")):
        service = yaml.safe_load((ROOT / "deploy/docker" / file).read_text())["services"]["grafana"]
        folder = yaml.safe_load((PROVISIONING / "dashboards/edge-metrics.yaml").read_text())["providers"][0]["options"]["path"]
        assert service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/{home}.json", file
        mounts = [volume.split(":")[1] for volume in service["volumes"]]
        assert folder in mounts or {f"{folder}/{name}.json" for name in ("fleet", "board")} <= set(mounts), mounts
    # Whoever needs no login is on this machine.
    service = yaml.safe_load((ROOT / "deploy/docker/compose.fleet.yaml").read_text())["services"]["grafana"]
    assert service["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer", service
    assert service["ports"] == ["${GRAFANA_ADDRESS:-127.0.0.1}:${GRAFANA_PORT:-3000}:3000"], service
    assert not [name for name in service["environment"] if "PASSWORD" in name], service


def links_lead_to_a_dashboard():
    uids = {board["uid"] for board in DASHBOARDS.values()}
    urls = [text for board in DASHBOARDS.values() for text in grafana.texts_of(board["panels"]) if text.startswith("/d/")]
    assert urls, "no panel leads to a board"
    for url in urls:
        uid, variables = re.fullmatch(r"/d/([\w-]+)\?(.+)", url).groups()
        assert uid in uids and "var-hostname=" in variables and "${__url_time_range}" in variables, url


def marks_are_of_known_metrics():
    """A mark has no data most of the time, so that nobody would miss it."""
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), flags=re.MULTILINE))
    marks = [mark["expr"] for board in DASHBOARDS.values() for mark in board["annotations"]["list"] if "expr" in mark]
    used = {name for mark in marks for name in re.findall(r"(\w+)\{", mark)}
    assert used and used <= documented, f"no metrics: {used - documented}"


@contextlib.contextmanager
def demo():
    """The demo; yields its address and its directory."""
    with temporary() as directory:
        # A separate directory, without the trees of other demos.
        os.environ["TMPDIR"] = str(directory)
        with exporter("demo") as address:
            (tree,) = directory.glob("edge-metrics-demo-*")
            yield address, tree


def job(name, address, path="/metrics", **more):
    return {"job_name": name, "metrics_path": path, "static_configs": [{"targets": [address], **more}]}


def unfolded(expression, interval):
    """The expression with the rules' own in place of their names."""
    for name, rule in recording_rules():
        while name in expression:
            of_a_range = rf"{re.escape(name)}\[(\w+)\]"
            expression = re.sub(of_a_range, lambda match, rule=rule: f"({rule})[{match[1]}:{interval}s]", expression)
            expression = expression.replace(name, f"({rule})")
    return expression


def views(url, interval, end):
    """Each dashboard, of the board with each kind of row."""
    for name in ("fleet", "pyjoules"):
        yield View(DASHBOARDS[name], url, interval, end)
    yield View(DASHBOARDS["board"], url, interval, end, hostname="demo", domain="package")
    yield View(DASHBOARDS["board"], url, interval, end, hostname="edge-01")


def unanswered(url, interval, end, has_data):
    """The queries without data. Those of the board's dashboard have data where they have it of one of the boards."""
    asked, answered = {}, set()
    for view in views(url, interval, end):
        rows = {}
        for number, (row, title, expression, instant) in enumerate(view.queries()):
            key = (view.board["uid"], number)
            asked[key] = f"{view.board['title']}, {title}: {expression}"
            has = has_data(view, expression, instant)
            if has:
                answered.add(key)
            if row and "$" in row["title"]:
                rows.setdefault(grafana.substituted(row["title"], view.values), []).append(has)
        for title, found in rows.items():
            # The heading of a folded row says whether to open it.
            assert title.endswith((": data", ": no data")), title
            if title.endswith(": no data") == any(found):
                asked[title, view.values["hostname"]] = f"{view.board['title']} of {view.values['hostname']}, row {title}"
    for expression in [*(expression for _, expression in recording_rules()), *documented_queries()]:
        asked[expression] = f"rules or docs/prometheus.md: {expression}"
        if query(url, unfolded(expression, interval), end):
            answered.add(expression)
    return [text for key, text in asked.items() if key not in answered], len(asked)


def live():
    """Returns all series that the live Prometheus has at its end: [(labels, value)]."""
    pi = ROOT / "tests/boards/raspberry_pi_4"
    receiver = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        address, tree = stack.enter_context(demo())
        sysfs = f"--path.sysfs={tree / 'sys'}"
        simple = stack.enter_context(exporter("pyjoules-simple", sysfs))
        multirate = stack.enter_context(exporter("pyjoules-multirate", sysfs))
        pi = stack.enter_context(exporter(f"--path.sysfs={pi / 'sys'}", f"--path.procfs={pi / 'proc'}"))
        jobs = [
            job("edge-power", address),
            job("edge-power-multirate", address, "/multirate"),
            job("edge-power-pi", pi),
            job("pyjoules_simple", simple, labels={"instance": PYJOULES["instance"]}),
            job("pyjoules_multirate", multirate, labels={"instance": "pyjoules-metrics-client-multirate:9092"}),
        ]
        flags = ["--web.enable-remote-write-receiver"]
        url = stack.enter_context(prometheus([], f"{LIVE_INTERVAL}s", jobs, RULES, receiver, flags))
        environment = {"REMOTE_WRITE_URL": f"{url}/api/v1/write", "SAMPLING_PERIOD_S": "0.1", "BATCH_SIZE": "5"}
        stack.enter_context(running([peers.BINARY, "pyjoules-remote-write", sysfs], env=environment))
        left = []

        def all_have_data():
            left[:], number = unanswered(url, LIVE_INTERVAL, time.time(), lambda view, expression, _: view.instant(expression))
            return 0 if left else number

        scraped = f"count(count_over_time(up[1m]) >= 3) == {len(jobs)}"
        wait_until("each exporter has been scraped three times", lambda: query(url, scraped))
        wait_until("the rules are evaluated", lambda: query(url, "board:power_total_watts"))
        try:
            number = wait_until("every query returns data", all_have_data)
        except AssertionError:
            print("\n".join(f"no data: {text}" for text in left))
            raise
        once = query(url, 'board:power_total_watts{hostname="demo"}')
        assert [one["metric"]["device_type"] for one in once] == ["jetson_orin"], once
        shown = query(url, "pyjoules_simple_energy_watts")
        assert PYJOULES in [series["metric"] for series in shown], shown
        print(f"live: {number} queries return data")
        found = query(url, '{__name__=~"[a-z0-9_]+",__name__!~"scrape_.*"}')
        return [(one["metric"], float(one["value"][1])) for one in found]


def has_all_the_time(view, expression, instant):
    """Whether a query returns data; one of a graph at each of its points of the last half hour."""
    if instant:
        return view.instant(expression)
    found = view.range(expression)
    window = min(view.window, 1800)
    points = {at for values in found.values() for at in values if at >= view.end - window}
    expected = [k for k in range(int(view.window // view.step) + 1) if view.end - view.window + k * view.step >= view.end - window]
    return len(points) == len(expected)


def close(found, expected, tolerance, what):
    """Both are {(hostname, device_type): value}."""
    assert found.keys() == expected.keys(), f"{what}: {found.keys() ^ expected.keys()}"
    for key, value in expected.items():
        allowed = tolerance[key] if isinstance(tolerance, dict) else tolerance
        assert abs(found[key] - value) <= allowed, f"{what}, {key}: {found[key]}, expected {value} within {allowed}"


def vector(found):
    return {(one["metric"]["hostname"], one["metric"]["device_type"]): float(one["value"][1]) for one in found}


def energy_is_that_of_the_boards(url, interval):
    for window in (fleet.HOUR, 6 * fleet.HOUR, fleet.DAY):
        view = View(DASHBOARDS["fleet"], url, interval, fleet.END, window, device_type=fleet.KINDS)
        expected, tolerances = fleet.joules(window), fleet.tolerances(window, interval)
        (shown,) = view.expressions("Energy by board, time shown")
        found = {key: hours * 3600 for key, hours in vector(view.instant(shown)).items()}
        close(found, expected, tolerances, f"energy of {window} s")
        # The table has the same numbers.
        assert vector(view.instant(view.expressions("Boards")[1])) == vector(view.instant(shown))
        total, allowed = sum(expected.values()), sum(tolerances.values())
        assert allowed < 0.05 * total, "the tolerance says nothing"
        close({0: view.ask("Energy, time shown") * 3600}, {0: total}, allowed, f"energy of {window} s")
    expected, tolerances = fleet.joules(fleet.DAY), fleet.tolerances(fleet.DAY, interval)
    close({0: view.ask("Energy, last day") * 3600}, {0: sum(expected.values())}, sum(tolerances.values()), "energy of a day")
    rules = dict(recording_rules())
    day = vector(query(url, rules["hostname:board_energy_joules:increase1d"], fleet.END))
    close({key: value for key, value in day.items() if key in expected}, expected, tolerances, "the rule for a day's energy")
    for board in (board for board in fleet.BOARDS if board.hostname != "raspberrypi"):
        view = View(DASHBOARDS["board"], url, interval, fleet.END, fleet.DAY, hostname=board.hostname)
        for title in ("Energy, time shown", "Energy, last day"):
            found, used = view.ask(title)[(board.hostname,)] * 3600, expected[board.key]
            close({0: found}, {0: used}, tolerances[board.key], f"{board.hostname}, {title}")
        for title in ("Mean power while on", "Highest power"):
            close({0: view.ask(title)[(board.hostname,)]}, {0: board.watts}, 1e-9, f"{board.hostname}, {title}")


def power_is_that_of_the_boards(url, interval):
    view = View(DASHBOARDS["fleet"], url, interval, fleet.END, fleet.DAY, device_type=fleet.KINDS)
    expected = fleet.watts()
    total = sum(expected.values())
    # What is to be prevented.
    (twice,) = query(url, f'sum(power_total_watts{{device_type=~"{fleet.KINDS}"}})', fleet.END)
    assert float(twice["value"][1]) > total, "no board of this fleet would be counted twice"
    assert view.ask("Power of all boards") == total, (view.ask("Power of all boards"), total)
    boards = len([board for board in fleet.BOARDS if board.answers(fleet.DAY - 1)])
    assert view.ask("Boards that measure their power") == boards
    assert view.ask("Silent exporters") == fleet.silent() > 0
    close(vector(view.instant(view.expressions("Boards")[0])), expected, 0, "table of boards")
    rules = dict(recording_rules())
    by_rule = vector(query(url, rules["board:power_total_watts"], fleet.END))
    close({key: value for key, value in by_rule.items() if re.fullmatch(fleet.KINDS, key[1])}, expected, 0, "the rule")
    # Over the day, except where it changes between two scrapes.
    (graph,) = view.expressions("Power by board")
    found = grafana.query_range(url, graph, fleet.BEGIN + 600, fleet.END - 1, 607)
    compared = 0
    for at in range(600, fleet.DAY, 607):
        if fleet.is_settled(at, interval):
            now = {}
            for labels, values in found.items():
                if fleet.BEGIN + at in values:
                    labels = dict(labels)
                    now[labels["hostname"], labels["device_type"]] = values[fleet.BEGIN + at]
            close(now, fleet.watts(at), 0, f"power at second {at}")
            compared += 1
    assert compared > 100, compared


def changes_are_marked(url, interval):
    """At each restart and at each configuration that was loaded there is a mark, and nowhere else."""
    begun = [(board.hostname, start) for board in fleet.BOARDS for start, _ in board.on if start]
    loaded = [*begun, *((board.hostname, at) for board in fleet.BOARDS for at in board.reloaded)]
    # A board that was off for longer than the window has no counter to compare with when it starts.
    marked = {board.hostname for board in fleet.BOARDS if board.hostname == "restarts" or board.reloaded}
    views = [("fleet", marked, {board.hostname for board in fleet.BOARDS}, {})]
    views += [("board", {hostname}, {hostname}, {"hostname": hostname}) for hostname in sorted(marked)]
    for name, must, may, variables in views:
        view = View(DASHBOARDS[name], url, interval, fleet.END, fleet.DAY, **variables)
        window = grafana.seconds(view.values["__rate_interval"])
        marks = dict(view.annotations())
        for title, events in (("Restarts", begun), ("Configurations loaded", loaded)):
            times = [at for hostname, at in events if hostname in may]
            points = sorted(at - fleet.BEGIN for values in marks[title].values() for at in values)
            needed = [at for hostname, at in events if hostname in must]
            assert needed or name == "board", f"{title}: no board has one"
            for when in needed:
                assert any(when <= point <= when + interval + view.step for point in points), f"{name}: {title}: none at {when}: {points}"
            for point in points:
                assert any(when <= point <= when + window + interval for when in times), f"{name}: {title}: one at {point}, not of {times}"


def a_day_of_the_fleet(interval, snapshot):
    with fleet.stored(interval, snapshot) as url:
        power_is_that_of_the_boards(url, interval)
        energy_is_that_of_the_boards(url, interval)
        changes_are_marked(url, interval)
        left, number = unanswered(url, interval, fleet.END, has_all_the_time)
        assert not left, "no data, or not all the time: " + "\n".join(left)
        print(f"a day at {interval} s: sums are those of the boards, {number} queries return data")


def main():
    every_alert_is_tested()
    grafana_of_the_fleet_is_set_up()
    for name, board in DASHBOARDS.items():
        grafana.sound(name, board)
    links_lead_to_a_dashboard()
    marks_are_of_known_metrics()
    snapshot = live()
    for interval in (5, 60):
        a_day_of_the_fleet(interval, snapshot)


main()
