"""Every sample of a 1 kHz meter reaches four servers at once, two of which are killed meanwhile: two Prometheus servers that
scrape /multirate, and by remote write a Prometheus and a VictoriaMetrics."""

import contextlib
import os
import signal
import subprocess
import time

from peers import exporter, get, query, temporary, wait_until
from servers import TICK, Prometheus, Rapl, VictoriaMetrics, check_energy, compare, own, scrape

SECONDS = int(os.environ.get("MULTIRATE_SECONDS", 60))
KILLED = int(os.environ.get("MULTIRATE_KILLED", 20))
TROUBLES = ("out_of_order", "duplicate_timestamp", "out_of_bounds")


class Scraping(Prometheus):
    """A Prometheus that scrapes /multirate every second as a named consumer."""

    def __init__(self, directory, name, target):
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {
                    "job_name": "multirate",
                    "metrics_path": "/multirate",
                    "params": {"consumer": [name]},
                    "static_configs": [{"targets": [target]}],
                }
            ],
        }
        super().__init__(directory, name, config)

    def kill(self):
        """Between two scrapes: samples in transit to a killed Prometheus would be lost."""

        def scraped():
            return float(query(self.url, "timestamp(up)")[0]["value"][1])

        before = scraped()
        wait_until("it has scraped", lambda: scraped() > before)
        time.sleep(0.4)
        self.stop(signal.SIGKILL)


def promtool(target):
    """promtool and prometheus_client accept both formats."""
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


def check_losses(target, asked=0):
    """Nothing was lost. A killed receiver may have stored samples without a response, and refuses their repetition."""
    lost = own(target, "exporter_history_dropped_samples_total{")
    lost.update(own(target, "exporter_clock_dropped_samples_total{"))
    assert len(lost) >= 6
    lost.update(own(target, "exporter_remote_write_samples_dropped_total{"))
    refused = [lost.pop(series) for series in list(lost) if "http_400" in series]
    assert not any(lost.values()) and sum(refused) <= asked, (lost, refused)


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        sent = Prometheus(directory, "sent", {}, "--web.enable-remote-write-receiver")
        victoria = VictoriaMetrics(directory, "victoria")
        for server in (sent, victoria):
            stack.callback(server.stop)
            server.start()
        urls = [f"  - url: {server.url}/api/v1/write\n" for server in (sent, victoria)]
        # Each listed consumer has its own counters.
        listed = "multirate: {consumers: [steady, killed, truth]}\n"
        board = stack.enter_context(Rapl(directory, listed + "remote_write:\n" + "".join(urls)))
        target = stack.enter_context(exporter(*board.arguments()))
        scraping = [Scraping(directory, name, target) for name in ("steady", "killed")]
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
            # All servers run for a minute; then one of each kind is down for a while.
            if second == SECONDS:
                middle = time.time()
                check_losses(target)
                killed.kill()
                sent.kill()
            time.sleep(max(0, begin + second + 1 - time.time()))
            scrape(target, "truth", every)
        killed.start()
        sent.start()
        time.sleep(10)
        # Taken before the scrape, which may take long: the truth covers everything until then.
        end = time.time() - 4
        scrape(target, "truth", every)
        # Samples wait five seconds at most before they are sent.
        time.sleep(5)
        cpu_after, missed_after = own(target, "process_cpu"), own(target, "exporter_source_missed_polls")

        check_energy(every)
        for name, until in (("a minute", middle - 2), ("all of it", end)):
            for server in (steady, killed, sent, victoria):
                count = compare(server, every, begin, until)
                rate = count / (until - begin)
                print(f"{name}, {server.name}: {count} samples found again, {rate:.0f} a second")
                assert count > 0
        for server in scraping:
            for trouble in TROUBLES:
                assert server.counter(f"prometheus_target_scrapes_sample_{trouble}_total") == 0, trouble
        check_losses(target, 2000)
        seconds = end + 9 - begin + 2
        used = sum(cpu_after.values()) - sum(cpu.values())
        print(
            f"the exporter took {100 * used / seconds:.1f} % of a core; "
            f"missed polls: {sum(missed_after.values()) - sum(missed.values()):.0f} of {seconds / TICK:.0f}"
        )


main()
