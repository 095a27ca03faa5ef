"""docs/lab.md as it stands: its commands run in its order, with other addresses only. Forty boards of the demo, a real Prometheus with the
rules of deploy/, groups with labels, a change of many boards and its undo."""

import json
import math
import shlex
import shutil
import signal
import subprocess

from documents import blocks
from peers import BINARY, ROOT, free_port, get, prometheus, query, running, temporary, wait_until

BOARDS = 40
SERVER, PROMETHEUS = "127.0.0.1:8080", "127.0.0.1:9090"


class Lab:
    def __init__(self, directory):
        self.directory = directory
        self.server, self.prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.commands = blocks("test_lab")
        # The files that the commands name.
        shutil.copytree(ROOT / "deploy/prometheus", directory / "deploy/prometheus")
        config = directory / "deploy/prometheus/lab.yml"
        config.write_text(self.replaced(config.read_text()))

    def replaced(self, text):
        return text.replace(SERVER, self.server).replace(PROMETHEUS, self.prometheus)

    def start(self, name, **options):
        """Starts a command that runs on."""
        words = shlex.split(self.replaced(self.commands.pop(name)))
        words[0] = {"edge-metrics-exporter": BINARY}.get(words[0], words[0])
        return running(words, cwd=self.directory, **options)

    def run(self, name, **replaced):
        """Runs a command, and returns the JSON of its answer."""
        text = self.replaced(self.commands.pop(name))
        for word, value in replaced.items():
            assert word in text
            text = text.replace(word, value)
        done = subprocess.run(["bash", "-c", text], cwd=self.directory, capture_output=True, text=True, timeout=60)
        print(f"{name}: {done.stdout.strip()[:500]}")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def ask(self, path):
        return json.loads(get(f"http://{self.server}{path}")[0])

    def query(self, expression, time=None):
        return query(f"http://{self.prometheus}", expression, time)

    def value(self, expression):
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def intervals(self, ids):
        """The intervals of these boards' configurations."""
        return {self.ask(f"/config/{board}").get("interval") for board in ids}


def labels_are_on_every_series(lab, jetsons):
    wait_until("all boards have the label", lambda: lab.value('count(power_total_watts{site="berlin"})') == BOARDS)
    wait_until("rack 3 has its own", lambda: lab.value('count(power_total_watts{rack="3"})') == len(jetsons))
    # `up` has the label of the target.
    wait_until("the targets have the label", lambda: lab.value('count(up{site="berlin"} == 1)') == BOARDS)
    # One label, not a second one of the target's.
    assert not lab.query('{exported_site!=""}') and not lab.query('{exported_hostname!=""}')
    own = 'count(exporter_build_info{site="berlin"})'
    wait_until("so have the exporters' own series", lambda: lab.value(own) == BOARDS)


def rules_count_each_board_once(lab):
    # A target whose labels change is another one for Prometheus, which ends the series of the old one two intervals later.
    wait_until("the series of the targets without labels end", lambda: lab.value("count(power_total_watts)") == BOARDS)
    wait_until("the rules saw that", lambda: lab.value("sum(board:power_total_watts) - sum(power_total_watts)") == 0)
    answer = lab.run("power")["data"]["result"]
    moment, total = answer[0]["value"][0], float(answer[0]["value"][1])
    recorded = {}
    for series in lab.query("board:power_total_watts", moment):
        assert series["metric"]["hostname"] not in recorded, series
        recorded[series["metric"]["hostname"]] = float(series["value"][1])
    assert sorted(recorded) == [f"edge-{number:02}" for number in range(1, BOARDS + 1)], sorted(recorded)
    # What is recorded of a board is what the board said in one of its last scrapes.
    said = {}
    for series in lab.query("power_total_watts[1m]", moment):
        said.setdefault(series["metric"]["hostname"], set()).update(float(value) for _, value in series["values"])
    wrong = {name: (watts, said[name]) for name, watts in recorded.items() if watts not in said[name]}
    assert not wrong, wrong
    assert math.isclose(total, math.fsum(recorded.values()), rel_tol=1e-9), (total, recorded)
    by_site = lab.query("sum by (site) (power_total_watts)")
    assert [series["metric"] for series in by_site] == [{"site": "berlin"}], by_site


def without_honor_labels(lab):
    """What docs/fleet.md says of a job with Prometheus's default."""
    discovery = [{"url": f"http://{lab.server}/sd", "refresh_interval": "1s"}]
    jobs = [{"job_name": "edge-power", "http_sd_configs": discovery}]
    rules = [lab.directory / "deploy/prometheus/recording.rules.yml"]
    with prometheus(None, jobs=jobs, rules=rules) as url:
        both = 'count(power_total_watts{site="berlin",exported_site="berlin"})'
        wait_until("both labels are there", lambda: query(url, both) and query(url, both)[0]["value"][1] == str(BOARDS))
        count = "count(board:power_total_watts)"
        wait_until("the rules have all boards", lambda: query(url, count) and query(url, count)[0]["value"][1] == str(BOARDS))


def main():
    with temporary() as directory, open(directory / "log", "w+") as log:
        lab = Lab(directory)
        try:
            with lab.start("boards", stderr=log) as boards, lab.start("prometheus", stderr=log):
                run(lab)
                boards.send_signal(signal.SIGINT)
                boards.wait(20)
        except BaseException:
            log.seek(0)
            print(log.read()[-5000:])
            raise
    assert not lab.commands, f"not run: {list(lab.commands)}"


def run(lab):
    wait_until("all boards are healthy", lambda: len(lab.ask("/devices?status=healthy&limit=100")["devices"]) == BOARDS)
    wait_until("Prometheus has all boards", lambda: lab.value("count(up == 1)") == BOARDS)
    all_devices = lambda: lab.ask("/devices?limit=100")["devices"]
    wait_until("all boards have said what they are", lambda: all(d["device_type"] != "auto" for d in all_devices()))
    devices = all_devices()
    assert lab.run("default")["changed"] == BOARDS
    lab.run("rack")
    jetsons = [device["device_id"] for device in devices if device["device_type"].startswith("jetson_")]
    assert len(jetsons) > 5, devices
    targets = [target["labels"] for target in lab.ask("/sd")]
    assert all(labels["site"] == "berlin" for labels in targets), targets
    in_rack = sorted(labels["hostname"] for labels in targets if labels.get("rack") == "3")
    assert in_rack == sorted(jetsons), (in_rack, jetsons)
    labels_are_on_every_series(lab, jetsons)

    before = lab.ask(f"/config/{jetsons[0]}?own")
    assert lab.intervals(jetsons) == {0.5}
    tried = lab.run("dry run")
    assert tried["boards"] == len(jetsons) and sorted(tried["changed"]) == sorted(jetsons), tried
    assert lab.intervals(jetsons) == {0.5}
    done = lab.run("change")
    assert sorted(done["changed"]) == sorted(jetsons) and not done["invalid"], done
    assert lab.intervals(jetsons) == {0.25}
    newest = lab.run("changes")["changes"][0]
    assert newest["id"] == done["change"], newest
    lab.run("undo", CHANGE=done["change"])
    assert lab.intervals(jetsons) == {0.5}
    assert lab.ask(f"/config/{jetsons[0]}?own") == before

    rules_count_each_board_once(lab)
    without_honor_labels(lab)


main()
