"""Every expression of every dashboard and recording rule, and of the README, against a real Prometheus that scrapes the demo,
the pyJoules clients on the demo's RAPL, and a Raspberry Pi's fixture tree: each returns data. Every alert has a rule test."""

import contextlib
import json
import os
import re
import subprocess

import yaml
from peers import ROOT, exporter, free_port, prometheus, query, running, temporary, wait_until
import peers

PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
RULES = sorted(PROMETHEUS.glob("*.rules.yml"))
# Prometheus has to scrape four exporters twice.
peers.WAIT_SECONDS = 120
# The exact labels of the only visible series of the pyJoules dashboard.
PYJOULES = {
    "__name__": "pyjoules_simple_energy_watts",
    "domain": "package_0",
    "instance": "pyjoules-metrics-client-simple:9091",
    "job": "pyjoules_simple",
}


def panels(board):
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def of_dashboards(values):
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        for panel in panels(board):
            for target in panel.get("targets", []):
                expression = target["expr"]
                for name, value in values.items():
                    expression = expression.replace(f"${name}", value)
                assert "$" not in expression, f"{file.name}: {expression} has a variable that this test does not know"
                yield f"{file.name}, {panel['title']}", expression
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                metric = re.fullmatch(r"label_values\((.+), \w+\)", variable["definition"])[1]
                for name, value in values.items():
                    metric = metric.replace(f"${name}", value)
                yield f"{file.name}, variable {variable['name']}", metric


def of_rules():
    for file in RULES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield f"{file.name}, {rule['record']}", rule["expr"]


def of_readme():
    blocks = re.findall(r"```promql\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    for line in "".join(blocks).splitlines():
        expression = line.split("#")[0].strip()
        if expression:
            yield "README.md", expression


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


@contextlib.contextmanager
def demo():
    """The demo; yields its address and its directory."""
    with temporary() as directory:
        # A separate directory, without the trees of other demos.
        os.environ["TMPDIR"] = str(directory)
        with exporter("demo") as address:
            (tree,) = directory.glob("edge-metrics-demo-*")
            yield address, tree


def job(name, address, **more):
    return {"job_name": name, "static_configs": [{"targets": [address], **more}]}


def main():
    every_alert_is_tested()
    pi = ROOT / "tests/boards/raspberry_pi_4"
    values = {"hostname": "demo", "instance": None, "device_type": ".*", "job": "edge-power.*", "domain": "board"}
    receiver = f"127.0.0.1:{free_port()}"
    with contextlib.ExitStack() as stack:
        address, tree = stack.enter_context(demo())
        sysfs = f"--path.sysfs={tree / 'sys'}"
        simple = stack.enter_context(exporter("pyjoules-simple", sysfs))
        multirate = stack.enter_context(exporter("pyjoules-multirate", sysfs))
        pi = stack.enter_context(exporter(f"--path.sysfs={pi / 'sys'}", f"--path.procfs={pi / 'proc'}"))
        jobs = [
            job("edge-power", address),
            job("edge-power-pi", pi),
            job("pyjoules_simple", simple, labels={"instance": PYJOULES["instance"]}),
            job("pyjoules_multirate", multirate, labels={"instance": "pyjoules-metrics-client-multirate:9092"}),
        ]
        flags = ["--web.enable-remote-write-receiver"]
        url = stack.enter_context(prometheus([], jobs=jobs, rules=RULES, address=receiver, flags=flags))
        environment = {"REMOTE_WRITE_URL": f"{url}/api/v1/write", "SAMPLING_PERIOD_S": "0.1", "BATCH_SIZE": "5"}
        stack.enter_context(running([peers.BINARY, "pyjoules-remote-write", sysfs], env=environment))
        values["instance"] = address

        def data(expression):
            # The Raspberry Pi's metrics have another hostname than the demo's.
            return query(url, re.sub(r'(rpi_\w+\{hostname=")demo', r"\1edge-01", expression))

        expressions = [*of_dashboards(values), *of_rules(), *of_readme()]
        waiting = list(expressions)

        def all_have_data():
            waiting[:] = [(where, expression) for where, expression in waiting if not data(expression)]
            return not waiting

        try:
            wait_until("every expression returns data", all_have_data)
        except AssertionError:
            print("\n".join(f"no data: {where}: {expression}" for where, expression in waiting))
            raise
        shown = query(url, "pyjoules_simple_energy_watts")
        assert PYJOULES in [series["metric"] for series in shown], shown
        print(f"{len(expressions)} expressions return data")


main()
