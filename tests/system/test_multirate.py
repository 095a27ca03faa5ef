"""Every sample of a meter that ticks at 1 kHz reaches those who scrape and those who are sent it, through the death of some:
two Prometheus servers that scrape /multirate, one that takes remote write, and a VictoriaMetrics."""

import contextlib
import os
import subprocess
import time

from peers import Exporter, get, query, temporary, wait_until
from rapl import CORE, PACKAGE, Rapl, compare, own, scrape
from stores import Prometheus, VictoriaMetrics

SECONDS = int(os.environ.get("MULTIRATE_SECONDS", 60))
KILLED = int(os.environ.get("MULTIRATE_KILLED", 20))
TICK = 0.001
TROUBLES = ("out_of_order", "duplicate_timestamp", "out_of_bounds")


def scrapes(name, target):
    """A scrape of every sample under a consumer's name."""
    return {
        "job_name": "multirate",
        "metrics_path": "/multirate",
        "params": {"consumer": [name]},
        "static_configs": [{"targets": [target]}],
    }


def promtool(target):
    """Both formats are what Prometheus takes them for."""
    text, _ = get(f"http://{target}/multirate?consumer=promtool")
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert checked.returncode in (0, 3), checked.stderr
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}
    text, _ = get(f"http://{target}/multirate?consumer=openmetrics", accept)
    assert text.endswith("# EOF\n")
    try:
        from prometheus_client.openmetrics import parser
    except ImportError:
        return
    families = list(parser.text_string_to_metric_families(text))
    assert any(len(family.samples) > 100 for family in families), families


def check_energy(every):
    """What the counter counted is what the meter counted: whole ticks, none lost, none twice."""
    for labels, samples in every["energy_joules_total"].items():
        joules = (PACKAGE if ("rail", "package-0") in labels else CORE) / 1e6
        ticks = [value / joules for _, value in samples]
        assert all(abs(tick - round(tick)) < 1e-3 for tick in ticks), "not whole ticks"
        assert all(a <= b for a, b in zip(ticks, ticks[1:])), "a counter went back"
        seconds = (samples[-1][0] - samples[0][0]) / 1000
        assert abs((ticks[-1] - ticks[0]) * TICK / seconds - 1) < 0.01, "not 1000 ticks a second"
        assert all(a[0] < b[0] for a, b in zip(samples, samples[1:])), "stamps do not ascend"


def check_losses(target, killed):
    """Nothing was lost; but the answer to what a receiver stored when it was killed, and what then is refused, once."""
    lost = own(target, "exporter_history_dropped_samples_total{")
    lost.update(own(target, "exporter_clock_dropped_samples_total{"))
    assert len(lost) >= 6
    lost.update(own(target, "exporter_remote_write_samples_dropped_total{"))
    answers = {series: lost.pop(series) for series in list(lost) if killed in series and "http_400" in series}
    assert not any(lost.values()), lost
    assert sum(answers.values()) <= 2000, answers


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        sent, victoria = Prometheus(directory, "sent"), VictoriaMetrics(directory, "victoria")
        receivers = [
            {"name": "sent", "url": f"{sent.url}/api/v1/write"},
            {"name": "victoria", "url": f"{victoria.url}/api/v1/write"},
        ]
        board = stack.enter_context(Rapl(directory, TICK, remote_write=receivers))
        exporter = Exporter(directory, *board.arguments())
        stack.callback(exporter.stop)
        for store in (sent, victoria):
            stack.callback(store.stop)
            store.start()
        exporter.start()
        target = exporter.address
        scraping = [Prometheus(directory, name, [scrapes(name, target)]) for name in ("steady", "killed")]
        for server in scraping:
            stack.callback(server.stop)
            server.start()
        for server in scraping:
            wait_until("it scrapes", lambda: query(server.url, "up == 1"))
        steady, killed = scraping
        promtool(target)

        every = {}
        cpu, missed = own(target, "process_cpu"), own(target, "exporter_source_missed_polls")
        scrape(target, "truth", every)
        time.sleep(2)
        begin = time.time()
        for second in range(SECONDS + KILLED):
            # First all for a minute, then one of each kind is dead for a while.
            if second == SECONDS:
                middle = time.time()
                check_losses(target, "nobody")
                for trouble in TROUBLES:
                    assert sent.counter(f"prometheus_target_scrapes_sample_{trouble}_total") == 0, trouble
                assert sent.counter("prometheus_http_requests_total{code=\"400\"") == 0
                killed.kill_between_scrapes()
                sent.kill()
            time.sleep(max(0, begin + second + 1 - time.time()))
            scrape(target, "truth", every)
        killed.start()
        sent.start()
        time.sleep(10)
        scrape(target, "truth", every)
        end = time.time() - 4
        cpu_after, missed_after = own(target, "process_cpu"), own(target, "exporter_source_missed_polls")
        # What is sent has to arrive: at most the deadline of a batch later.
        time.sleep(6)

        check_energy(every)
        for name, until in (("a minute", middle - 2), ("all of it", end)):
            for store in (steady, killed, sent, victoria):
                count = compare(store, every, begin, until)
                rate = count / (until - begin)
                print(f"{name}, {store.name}: {count} samples found again, {rate:.0f} a second")
                assert count > 0
        for server in scraping:
            for trouble in TROUBLES:
                assert server.counter(f"prometheus_target_scrapes_sample_{trouble}_total") == 0, trouble
        check_losses(target, "sent")
        seconds = end + 4 - begin + 2
        used = sum(cpu_after.values()) - sum(cpu.values())
        print(
            f"the exporter took {100 * used / seconds:.1f} % of a core; "
            f"missed polls: {sum(missed_after.values()) - sum(missed.values()):.0f} of {seconds / TICK:.0f}"
        )


main()
