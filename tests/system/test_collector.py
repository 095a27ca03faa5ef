"""The collector's CSV is what an independent script computes from the same queries; its streams have every row once,
also while Prometheus is restarted; pandas reads all of it without being told how."""

import contextlib
import csv
import datetime
import io
import json
import pathlib
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse

import cluster
import pandas
import websockets.sync.client
import yaml

from peers import ROOT, collector, get, temporary, wait_until

QUERIES = yaml.safe_load((ROOT / "collector.yaml.template").read_text())["queries"]
# The columns without ?columns=.
NODE_COLUMNS = list(QUERIES["nodes"])[:8]
POD_COLUMNS = list(QUERIES["pods"])[:5]

# Whose a series is, for a person who knows the cluster.
NODE_OF = {"192.0.2.7:9100": "edge-01"}
for number, (node, ip) in enumerate(cluster.NODES.items(), 1):
    NODE_OF |= {f"{ip}:9100": node, f"{ip}:10250": node, f"10.42.{number}.8:8080": node, f"10.42.{number}.9:9102": node}
POD_OF = {f"cri-containerd-{c}": pod for pod, (_, containers) in cluster.PODS.items() for c in containers}


def ask(prometheus, expression, at):
    expression = expression.replace("$namespace", cluster.NAMESPACE)
    query = urllib.parse.urlencode({"query": expression, "time": at})
    answer = json.loads(get(f"{prometheus.url}/api/v1/query?{query}")[0])
    return [(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]


def node_of(labels):
    return labels.get("node_name") or labels.get("node") or NODE_OF[labels["instance"]]


def pod_of(labels):
    for name in ("pod", "pod_name", "kubernetes_pod_name"):
        if name in labels:
            return labels[name]
    return POD_OF.get(labels["container_id"])


def computed(prometheus, columns, whose, at):
    """{name: {column: value}} at a moment: of each column's queries the first that says something of a row."""
    rows = {}
    for column, queries in columns.items():
        for query in [queries] if isinstance(queries, str) else queries:
            found = {}
            for labels, value in ask(prometheus, query, at):
                # NaN is none.
                if value == value and (name := whose(labels)):
                    found[name] = found.get(name, 0.0) + value
            for name, value in found.items():
                rows.setdefault(name, {}).setdefault(column, value)
    return rows


def table(address, path):
    text, headers = get(f"http://{address}{path}")
    assert headers["Content-Type"] == "text/csv; charset=utf-8", headers
    assert text.endswith("\r\n") and text.count("\n") == text.count("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def seconds(text):
    assert text.endswith("Z") and text[10] == "T", text
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def close(a, b):
    return abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def compare(rows, name_column, columns, expected_at):
    """Every row has exactly the values that were computed for its moment; a value that there is none of is empty."""
    cells = 0
    for row in rows:
        expected = expected_at[row["observation_time"]][row[name_column]]
        for column in columns:
            if column in expected:
                assert row[column] != "", (row, column, expected[column])
                assert close(float(row[column]), expected[column]), (row, column, expected[column])
                cells += 1
            else:
                assert row[column] == "", (row, column)
    return cells


def csv_is_what_a_script_computes(prometheus, address):
    wait_until("there are some rounds", lambda: len(table(address, "/pods")) >= 9)
    nodes, pods = table(address, "/download"), table(address, "/pods")
    wait_until("both names have the same", lambda: table(address, "/download") == table(address, "/nodes"))
    assert list(nodes[0]) == ["instance", "collection_time", "observation_time", *NODE_COLUMNS]
    fixed = ["instance", "collection_time", "observation_time", "name", "namespace"]
    assert list(pods[0]) == [*fixed, *POD_COLUMNS]
    for rows, name, columns, asked, whose in (
        (nodes, "instance", NODE_COLUMNS, QUERIES["nodes"], node_of),
        (pods, "name", POD_COLUMNS, QUERIES["pods"], pod_of),
    ):
        moments = {row["observation_time"] for row in rows}
        # The board's own name and the cluster's are the same node.
        rename = {"node-b.kernel": "node-b"}
        expected_at = {}
        for moment in moments:
            found = computed(prometheus, asked, whose, seconds(moment))
            expected_at[moment] = {rename.get(row, row): values for row, values in found.items()}
            here = [row[name] for row in rows if row["observation_time"] == moment]
            assert sorted(here) == sorted(expected_at[moment]), (here, expected_at[moment])
        cells = compare(rows, name, columns, expected_at)
        print(f"{len(rows)} rows, {cells} cells equal what a script computes")
    last = {row["instance"]: row for row in nodes}
    assert set(last) == {"node-a", "node-b", "node-c", "edge-01"}
    # What was put in comes out.
    for node, column, value in (
        ("node-a", "cpu_usage", 0.75),
        ("node-c", "memory_usage", 1 - 4.5 / 8),
        ("node-b", "network_usage", 5.0),
        ("node-a", "wattage", 33.5),
        ("edge-01", "wattage", 6.125),
        ("node-c", "num_processes", 13),
        ("node-a", "kepler_wattage", 17.0),
        ("node-c", "kepler_wattage", 10.0),
        ("node-b", "kepler_wattage", 15.0),
        ("node-b", "scaph_wattage", 22.0),
        ("node-b", "wattage_auxilary", 3.0),
    ):
        assert abs(float(last[node][column]) - value) < 1e-6, (node, column, last[node])
    assert last["node-c"]["wattage"] == "" and last["edge-01"]["cpu_usage"] == ""
    last = {row["name"]: row for row in pods}
    assert set(last) == set(cluster.PODS)
    assert [last[pod]["instance"] for pod in last] == [cluster.PODS[pod][0] for pod in last]
    for pod, column, value in (
        ("web-0", "cpu_usage", 0.2),
        ("web-0", "memory_usage", 150.0),
        ("web-1", "network_usage", 0.8),
        ("web-0", "wattage_kepler", 3.5),
        ("web-1", "wattage_kepler", 2.75),
        ("web-0", "wattage_scaph", 2.2),
        ("db-0", "wattage_scaph", 3.1),
    ):
        assert abs(float(last[pod][column]) - value) < 1e-6, (pod, column, last[pod])


def original_form(address):
    headers = {
        "/nodes": "instance,observation_time,collection_time,cpu_usage,memory_usage,network_usage,wattage,"
        "num_processes,wattage_kepler,wattage_scaph,wattage_auxilary,temperture",
        "/pods": "collection_time,observation_time,name,namespace,cpu_usage,memory_usage,network_usage,instance,"
        "wattage_kepler,wattage_scaph",
    }
    for path, header in headers.items():
        text, _ = get(f"http://{address}{path}?header=original&size=5")
        lines = text.split("\r\n")
        assert lines[0] == header and len(lines) == 7, lines
        for row in csv.DictReader(io.StringIO(text, newline="")):
            for column in ("collection_time", "observation_time"):
                datetime.datetime.strptime(row[column], "%Y-%m-%d %H:%M:%S")
    rows = {row["instance"]: row for row in table(address, "/nodes?header=original")}
    assert rows["node-a"]["temperture"] == "41", rows


def pandas_reads_it(address):
    texts = {"instance", "name", "namespace", "collection_time", "observation_time"}
    for path in ("/nodes", "/pods", "/nodes?header=original", "/pods?header=original"):
        frame = pandas.read_csv(f"http://{address}{path}")
        assert len(frame) >= 9
        for column in frame.columns:
            if column in texts:
                assert pandas.api.types.is_string_dtype(frame[column]), (path, column, frame.dtypes)
            elif "original" not in path and column != "num_processes":
                assert frame[column].dtype == "float64", (path, column, frame.dtypes)
            else:
                # The original wrote whole numbers without a point.
                assert frame[column].dtype in ("float64", "int64"), (path, column, frame.dtypes)
        when = pandas.to_datetime(frame["collection_time"])
        assert when.is_monotonic_increasing
        assert ("original" in path) != (str(when.dt.tz) == "UTC"), when.dtype


class Listener:
    """Keeps every message of a stream."""

    def __init__(self, address, path):
        self.messages = []
        self.socket = websockets.sync.client.connect(f"ws://{address}{path}")
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            for message in self.socket:
                self.messages.append(message)

    def stop(self):
        self.socket.close()
        self.thread.join()


def websocat(address, path, directory):
    program = shutil.which("websocat")
    if not program:
        print("websocat is not here: its stream is not tested")
        return None
    file = directory / "websocat.csv"
    command = [program, "--no-close", f"ws://{address}{path}"]
    with open(file, "w") as out:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out), file


def streams_have_every_row_once(prometheus, address, directory):
    listeners = {path: Listener(address, path) for path in ("/metrics", "/metrics/nodes/", "/metrics/pods")}
    saved = websocat(address, "/metrics/nodes", directory)
    every = cluster.series()
    with prometheus.fed(every):
        rows = lambda: len(listeners["/metrics"].messages)
        wait_until("rows come", lambda: rows() > 12)
        health = lambda: json.loads(get(f"http://{address}/health")[0])
        prometheus.stop()
        wait_until("the outage is seen", lambda: health()["status"] == "degraded")
        assert "refused" in health()["last_error"], health()
        before = rows()
        time.sleep(2.5)
        assert rows() == before
        prometheus.start()
        wait_until("rows come again", lambda: rows() > before + 12)
        assert health()["status"] == "healthy", health()
    # Between two rounds, so that what is downloaded is what was streamed.
    quiet = lambda: (n := rows(), time.sleep(0.4), rows() == n)[2]
    wait_until("nothing comes", quiet)
    for path, listener in listeners.items():
        kind = "pods" if "pods" in path else "nodes"
        lines = get(f"http://{address}/{kind}?size=100000")[0].split("\r\n")
        assert lines.pop() == ""
        assert listener.messages[0] == lines[0]
        streamed = listener.messages[1:]
        start = lines.index(streamed[0])
        assert lines[start : start + len(streamed)] == streamed, f"{path}: a row is missing or twice"
        assert len(lines) - start - len(streamed) < 6
        assert len(set(streamed)) == len(streamed)
        print(f"{path}: {len(streamed)} rows, none missing, none twice")
    if saved:
        process, file = saved
        process.terminate()
        process.wait(10)
        frame = pandas.read_csv(file)
        lines = file.read_text().splitlines()
        whole = get(f"http://{address}/nodes?size=100000")[0].split("\r\n")
        start = whole.index(lines[1])
        assert lines[0] == whole[0] and lines[1:] == whole[start : start + len(lines) - 1]
        assert frame["cpu_usage"].dtype == "float64" and len(frame) == len(lines) - 1
        print(f"websocat: {len(frame)} rows, none missing, none twice")
    for listener in listeners.values():
        listener.stop()


def refusals(address):
    for path, status in (("/metrics", 426), ("/metrics/pods", 426), ("/nodes?size=x", 400), ("/nodes?header=x", 400), ("/x", 404)):
        try:
            get(f"http://{address}{path}")
            raise AssertionError(path)
        except urllib.error.HTTPError as error:
            assert error.code == status, (path, error.code)
            if status == 426:
                assert f"ws://{address}{path}" in error.read().decode()


def main():
    with temporary() as directory, cluster.Prometheus(pathlib.Path(directory)) as prometheus:
        prometheus.feed_past(cluster.series())
        environment = {"PROMETHEUSSERVER": prometheus.url, "UPDATE_INTERVAL": "1", "NAMESPACE": cluster.NAMESPACE}
        with collector(environment=environment) as (address, _):
            csv_is_what_a_script_computes(prometheus, address)
            original_form(address)
            pandas_reads_it(address)
            refusals(address)
            streams_have_every_row_once(prometheus, address, directory)
            text, _ = get(f"http://{address}/metrics/self")
            assert 'collector_column_up{column="wattage",group="nodes"} 1' in text, text


main()
