"""The three pyJoules presets behind one Prometheus, set up as the original's: its dashboard's queries find data under the
labels that its panel looks for."""

import contextlib
import os
import time

from peers import Exporter, query, temporary, wait_until
from servers import CORE, PACKAGE, Prometheus, Rapl

# As in the original's .env and prometheus/entrypoint.sh.
SIMPLE, MULTIRATE = "pyjoules-metrics-client-simple:9091", "pyjoules-metrics-client-multirate:9092"


def job(name, instance, address):
    """A job of the original, whose container name is mapped to a local address."""
    return {
        "job_name": name,
        "static_configs": [{"targets": [instance]}],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": address},
        ],
    }


def client(stack, directory, board, preset, **environment):
    """A preset on the board, started with the original's variables."""
    own = directory / preset
    own.mkdir()
    exporter = Exporter(own, *board.roots(), preset)
    os.environ.update(environment)
    stack.callback(exporter.stop)
    exporter.start()
    return exporter.metrics


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        os.environ["LOCAL_CONFIG_PATH"] = ""
        board = stack.enter_context(Rapl(directory, tick=0.005))
        scraped = {"SCRAPE_INTERVAL_SECONDS": "0.1", "MAX_QUEUE_LEN": "1000"}
        simple = client(stack, directory, board, "pyjoules-simple", **scraped)
        multirate = client(stack, directory, board, "pyjoules-multirate", **scraped)
        jobs = [job("pyjoules_simple", SIMPLE, simple), job("pyjoules_multirate", MULTIRATE, multirate)]
        intervals = {"scrape_interval": "1s", "scrape_timeout": "1s"}
        config = {"global": intervals, "scrape_configs": jobs}
        store = Prometheus(directory, "prometheus", config, "--web.enable-remote-write-receiver")
        stack.callback(store.stop)
        store.start()
        written = {"REMOTE_WRITE_URL": f"{store.url}/api/v1/write", "SAMPLING_PERIOD_S": "0.2", "BATCH_SIZE": "5"}
        client(stack, directory, board, "pyjoules-remote-write", **written)
        # The dashboard's three queries, and all labels of their results: Grafana's panel hides all series but one, which it
        # identifies by all of its labels.
        expected = {
            "pyjoules_simple_energy_watts": ("domain", {"job": "pyjoules_simple", "instance": SIMPLE}),
            "pyjoules_multirate_energy_uj": ("component", {"job": "pyjoules_multirate", "instance": MULTIRATE}),
            "pyjoules_remote_write_energy_uj": ("component", {}),
        }
        for name, (label, labels) in expected.items():
            wait_until(f"{name} is found", lambda: query(store.url, name))
        time.sleep(5)
        for name, (label, labels) in expected.items():
            found = query(store.url, f"{name}[4s]")
            wanted = [{"__name__": name, label: domain, **labels} for domain in ("core_0", "package_0")]
            key = lambda labels: sorted(labels.items())
            assert sorted((series["metric"] for series in found), key=key) == sorted(wanted, key=key), (name, found)
            for series in found:
                tick = PACKAGE if series["metric"][label] == "package_0" else CORE
                values = [float(value) for _, value in series["values"]]
                assert values and all(value >= 0 for value in values) and any(values), series
                if name.endswith("_uj"):
                    # Whole ticks of the counter, in each interval.
                    assert all(value % tick == 0 for value in values), series
                else:
                    # 15,000 µJ each 5 ms are 3 W, and the meter's process may be late.
                    assert all(value < 10 for value in values), series
        counts = {name: len(query(store.url, f"{name}[4s]")[0]["values"]) for name in expected}
        # A scrape a second gets one value of the first, and all values of the others.
        assert counts["pyjoules_multirate_energy_uj"] > 2 * counts["pyjoules_simple_energy_watts"], counts
        print(f"samples of a series in four seconds: {counts}")


main()
