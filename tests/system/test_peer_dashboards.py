"""Every query of the dashboards that Kepler and Scaphandre publish (peer_queries.yaml), and the collector's own, against a real
Prometheus that scrapes the demo with the presets `kepler` and `scaphandre`: each returns data."""

import contextlib
import csv
import io
import re

import peers
import yaml
from peers import ROOT, collector, exporter, get, prometheus, query, wait_until

QUERIES = yaml.safe_load((ROOT / "tests/system/peer_queries.yaml").read_text())
COLLECTOR = yaml.safe_load((ROOT / "collector.yaml.template").read_text())["queries"]
# Prometheus has to scrape for a while, and the machine may be busy.
peers.WAIT_SECONDS = 180
NAMESPACE = "default"

# What is asked of others, or of no released version, and why nobody here answers.
NOBODY = [
    (r"\bnode_(rapl|exporter|dram)\w*", "node_exporter's"),
    (r"\bipmi_node_power_watts", "of a BMC that Kepler's developers have"),
    (r"\bold_kepler_\w+", "Kepler up to 0.9, as Kepler's developers rename it"),
    (r"kepler_node_\$\{zones\}_watts|\bkepler_node_package_watts|\bkepler_node_energy_zone", "a version between 0.9 and 0.10"),
    (r"\bkepler_node_(core|package|uncore|dram)_joules_total", "Kepler up to 0.9"),
    (r'exe="scaphandre"', "the program that is replaced"),
]


def variables(address, pid):
    """What Grafana puts in the place of a variable: "All" is the pattern .*, and a choice is itself."""
    return {
        "job": "kepler",
        "node": address,
        "nodename": ".*",
        "namespace": ".*",
        "pod": ".*",
        "container": ".*",
        "vm": ".*",
        "process": pid,
        "pid": pid,
        "process_filter": "",
        "zone_name": "package",
        "__rate_interval": "20s",
    }


def substituted(expression, values):
    # The dashboard with all zones has a pattern, the others a choice.
    zone = ".*" if "zone=~" in expression else "package"
    for name, value in {**values, "zone": zone}.items():
        expression = re.sub(rf"\$\{{{name}\}}|\${name}\b", lambda _: value, expression)
    assert "$" not in expression, f"{expression} has a variable that this test does not know"
    return expression


def asked(values):
    for dashboard, expressions in QUERIES.items():
        for expression in expressions:
            if not any(re.search(pattern, expression) for pattern, _ in NOBODY):
                yield dashboard, substituted(expression, values)
    for table, columns in COLLECTOR.items():
        for column, expressions in columns.items():
            for expression in [expressions] if isinstance(expressions, str) else expressions:
                is_ours = re.search(r"\b(kepler|scaph)_", expression)
                if is_ours and not re.search(r"kepler_(node|container)_(core|package|uncore|dram)_joules", expression):
                    yield f"collector, {table}, {column}", expression.replace("$namespace", NAMESPACE)


def every_exception_is_needed():
    everything = [expression for expressions in QUERIES.values() for expression in expressions]
    for pattern, why in NOBODY:
        assert any(re.search(pattern, expression) for expression in everything), f"no query asks for {pattern} ({why})"


def wait_for_data(url, expressions):
    waiting = list(expressions)

    def all_have_data():
        waiting[:] = [(where, expression) for where, expression in waiting if not query(url, expression)]
        return not waiting

    try:
        wait_until("every query returns data", all_have_data)
    except AssertionError:
        print("\n".join(f"no data: {where}: {expression}" for where, expression in waiting))
        raise


def table(address, path):
    text, _ = get(f"http://{address}{path}")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def collected(url):
    """The collector's tables, with this Prometheus alone."""
    flags = ["--prometheus.url", url, "--interval", "1", "--namespace", NAMESPACE]
    with collector(*flags) as (address, _):
        full = lambda rows, columns: bool(rows) and any(all(row[column] for column in columns) for row in rows)
        nodes = ["kepler_wattage", "scaph_wattage"]
        wait_until("/nodes has both programs' watts", lambda: full(table(address, "/nodes"), nodes))
        pods = wait_until(
            "/pods has the demo's pods",
            lambda: [row for row in table(address, "/pods") if row["name"].startswith("camera") and row["wattage_kepler"]],
        )
        return pods


def sums_are_kept(url):
    """What is above idle is what pods, containers and processes have, as far as they have it."""
    joules = lambda expression: float(query(url, expression)[0]["value"][1])
    zone = '{job="kepler",zone="package"}'
    active = joules(f"sum(kepler_node_cpu_active_joules_total{zone})")
    idle = joules(f"sum(kepler_node_cpu_idle_joules_total{zone})")
    whole = joules(f"sum(kepler_node_cpu_joules_total{zone})")
    assert abs(active + idle - whole) <= 1e-6 * whole, (active, idle, whole)
    processes = joules(f"sum(kepler_process_cpu_joules_total{zone})")
    assert abs(processes - active) <= 1e-6 * whole, (processes, active)
    # Both views divide the same energy, but are not read at the same moment.
    pods = joules(f"sum(kepler_pod_cpu_joules_total{zone})")
    in_pods = joules('sum(kepler_container_cpu_joules_total{job="kepler",zone="package",pod_id!=""})')
    assert abs(pods - in_pods) <= 1e-6 * whole, (pods, in_pods)


def main():
    every_exception_is_needed()
    with contextlib.ExitStack() as stack:
        kepler = stack.enter_context(exporter("demo", "--preset", "kepler"))
        scaphandre = stack.enter_context(exporter("demo", "--preset", "scaphandre"))
        jobs = [
            # `node` is what service discovery in Kubernetes adds.
            {"job_name": name, "static_configs": [{"targets": [address], "labels": {"node": "demo"}}]}
            # One dashboard compares two versions of Kepler, of which the newest is called so.
            for name, address in (("kepler", kepler), ("kepler-latest", kepler), ("scaphandre", scaphandre))
        ]
        url = stack.enter_context(prometheus([], jobs=jobs))
        found = wait_until("processes are there", lambda: query(url, "kepler_process_cpu_watts{comm='prometheus'}"))
        expressions = list(asked(variables(kepler, found[0]["metric"]["pid"])))
        wait_for_data(url, expressions)
        sums_are_kept(url)
        collected(url)
        print(f"{len(expressions)} queries of the peers' dashboards and the collector return data")


main()
