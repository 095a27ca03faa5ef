"""Every sample of a 1 kHz meter reaches a Prometheus and a VictoriaMetrics by remote write, although the Prometheus is killed
meanwhile; and so do those of the pyJoules preset."""

import contextlib
import os
import time

from peers import exporter, get, query, temporary, wait_until
from servers import PACKAGE, Prometheus, Rapl, VictoriaMetrics, check_energy, compare, own, scrape

SECONDS = int(os.environ.get("REMOTE_WRITE_SECONDS", 30))
KILLED = int(os.environ.get("REMOTE_WRITE_KILLED", 20))
# Prometheus 2.42 supports 1.0 only, and answers 2.0 with 204: the fallback to 1.0 loses nothing.
CONFIG = """\
remote_write:
  - url: {prometheus}/api/v1/write
    name: prometheus
    protobuf_message: io.prometheus.write.v2.Request
    queue_config: {{batch_send_deadline: 1s}}
  - url: {victoria}/api/v1/write
    name: victoria-metrics
    queue_config: {{batch_send_deadline: 1s}}
"""


def check_servers(prometheus, target):
    assert prometheus.counter("prometheus_tsdb_out_of_order_samples_total") == 0
    assert prometheus.counter("prometheus_tsdb_out_of_bound_samples_total") == 0
    dropped = own(target, "exporter_remote_write_samples_dropped_total{")
    # The killed receiver refuses, once, samples that it had stored without a response.
    again = sum(dropped.pop(series) for series in list(dropped) if "http_400" in series and "prometheus" in series)
    assert again <= 2000 and len(dropped) >= 6 and not any(dropped.values()), dropped
    lost = own(target, "exporter_history_dropped_samples_total{")
    assert not any(lost.values()), lost
    outcomes = own(target, "exporter_remote_write_requests_total{")
    return outcomes


def is_sent(target, name):
    """No old sample is waiting."""
    lag = own(target, f'exporter_remote_write_lag_seconds{{remote_name="{name}"}}')
    return list(lag.values())[0] < 3


def ticking(directory, prometheus, victoria):
    config = CONFIG.format(prometheus=prometheus.url, victoria=victoria.url)
    with Rapl(directory, config) as board, exporter(*board.arguments()) as target:
        every = {}
        wait_until("both have something", lambda: prometheus.samples("power_watts", time.time() - 10, time.time()))
        scrape(target, "truth", every)
        time.sleep(2)
        begin = time.time()
        for second in range(SECONDS + KILLED):
            if second == SECONDS:
                prometheus.kill()
            time.sleep(max(0, begin + second + 1 - time.time()))
            scrape(target, "truth", every)
        prometheus.start()
        for name in ("prometheus", "victoria-metrics"):
            wait_until(f"{name} has everything", lambda: is_sent(target, name))
        time.sleep(3)
        scrape(target, "truth", every)
        end = time.time() - 6
        check_energy(every)
        for server in (prometheus, victoria):
            count = compare(server, every, begin, end)
            print(f"{server.name}: {count} samples found again, {count / (end - begin):.0f} a second")
            assert count > 0
        outcomes = check_servers(prometheus, target)
        assert any("not_understood" in name for name in outcomes), outcomes
        assert any("failed" in name for name in outcomes), "it was dead for a while"
    # The exporter has stopped, and sent stale markers.
    wait_until("the series have ended", lambda: not query(prometheus.url, "power_watts"))
    assert query(prometheus.url, "last_over_time(power_watts[5m])") != []


def pyjoules(directory, prometheus):
    """The preset, with the variables and the numbers of the original's containers, but faster."""
    os.environ.update(REMOTE_WRITE_URL=f"{prometheus.url}/api/v1/write", SAMPLING_PERIOD_S="0.05", BATCH_SIZE="5")
    before = prometheus.counter("prometheus_tsdb_head_samples_appended_total")
    with Rapl(directory) as board:
        with exporter("pyjoules-remote-write", *board.roots()):
            found = wait_until(
                "five batches",
                lambda: [
                    series
                    for series in query(prometheus.url, "pyjoules_remote_write_energy_uj[1m]")
                    if len(series["values"]) >= 25
                ],
            )
    expected = [
        {"__name__": "pyjoules_remote_write_energy_uj", "component": component} for component in ("core_0", "package_0")
    ]
    assert sorted((series["metric"] for series in found), key=lambda m: m["component"]) == expected, found
    (package,) = (series["values"] for series in found if series["metric"]["component"] == "package_0")
    stamps = [float(at) for at, _ in package]
    microjoules = sum(float(value) for _, value in package[1:])
    watts = microjoules / 1e6 / (stamps[-1] - stamps[0])
    assert abs(watts / (PACKAGE / 1000) - 1) < 0.1, watts
    assert all(float(value) % PACKAGE == 0 for _, value in package), "whole ticks"
    assert prometheus.counter("prometheus_tsdb_head_samples_appended_total") > before
    print(f"pyjoules-remote-write: {len(package)} intervals, {watts:.2f} W")


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        prometheus = Prometheus(directory, "prometheus", {}, "--web.enable-remote-write-receiver")
        victoria = VictoriaMetrics(directory, "victoria-metrics")
        for server in (prometheus, victoria):
            stack.callback(server.stop)
            server.start()
        (directory / "board").mkdir()
        ticking(directory / "board", prometheus, victoria)
        (directory / "pyjoules").mkdir()
        pyjoules(directory / "pyjoules", prometheus)


main()
