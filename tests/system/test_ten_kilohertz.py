"""A meter that is read ten thousand times a second loses no sample on the way to a consumer with time stamps of microseconds, and
what consumers with milliseconds do not get, a scraper and a Prometheus by remote write, is counted to the last sample.

What this machine is too slow for is counted by the exporter (missed polls), and is no loss."""

import contextlib
import os
import time
import urllib.request

from peers import get, managed_exporter, temporary, wait_until
from servers import TICK, Prometheus, Rapl, check_energy, compare, own, scrape

SECONDS = int(os.environ.get("TEN_KILOHERTZ_SECONDS", 10))
INTERVAL_US = 100
HEADERS = {"X-Prometheus-Scrape-Timeout-Seconds": "60"}
OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0", **HEADERS}
FINE = "consumer=fine&resolution=us&name[]=energy_joules_total"


def fine_scrape(target, every):
    """Adds the time stamps, in microseconds, of the package's new samples; returns whether there were any."""
    text, _ = get(f"http://{target}/multirate?{FINE}", OPENMETRICS)
    lines = [line.rsplit(" ", 2) for line in text.splitlines() if line.startswith("energy") and "package-0" in line]
    every.extend(round(float(seconds.split(".")[0])) * 10**6 + int(seconds.split(".")[1]) for _, _, seconds in lines)
    assert all(len(seconds.split(".")[1]) == 6 for _, _, seconds in lines), lines[:1]
    return bool(lines)


def losses(target, kind, consumer):
    return own(target, f'exporter_{kind}_samples_total{{consumer="{consumer}"}}').popitem()[1]


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        sent = Prometheus(directory, "sent", {}, "--web.enable-remote-write-receiver")
        stack.callback(sent.stop)
        sent.start()
        board = stack.enter_context(Rapl(directory))
        config = directory / "config.yaml"
        settings = (
            "device_type: x86\nhistory: {seconds: 60, bytes: 67108864}\nmultirate: {consumers: [fine, truth]}\n"
            f"remote_write:\n  - url: {sent.url}/api/v1/write\n"
        )
        config.write_text(f"{settings}interval: {INTERVAL_US / 1e6:.4f}\n")
        target, management = stack.enter_context(managed_exporter(*board.arguments()))
        fine, every, begin, cpu = [], {}, time.time(), own(target, "process_cpu")
        largest = 0
        while time.time() < begin + SECONDS:
            fine_scrape(target, fine)
            scrape(target, "truth", every)
            largest = max(largest, *own(target, "exporter_history_bytes").values())
            time.sleep(0.2)
        end = time.time()
        memory = own(target, "process_resident_memory_bytes").popitem()[1]
        used = sum(own(target, "process_cpu").values()) - sum(cpu.values())
        # One more reading, an hour before the next: then both consumers have come to the same end.
        config.write_text(f"{settings}interval: 3600\n")
        urllib.request.urlopen(urllib.request.Request(f"http://{management}/reload", method="POST"), timeout=30)
        readings = len(fine)
        wait_until("the last reading is there", lambda: not fine_scrape(target, fine))
        wait_until("the last reading is there", lambda: scrape(target, "truth", every) == 0)
        missed = sum(own(target, "exporter_source_missed_polls_total").values())

        assert readings > 0 and all(a < b for a, b in zip(fine, fine[1:])), "stamps do not ascend"
        # The last reading is the one after the reload.
        ticks = (fine[-2] - fine[0]) / INTERVAL_US
        assert len(fine) - 2 + missed >= ticks - 5, f"{len(fine)} readings and {missed} missed in {ticks} ticks"
        for consumer in ("fine", "truth"):
            for kind in ("history_dropped", "clock_dropped"):
                assert losses(target, kind, consumer) == 0, (kind, consumer)
        assert losses(target, "history_merged", "fine") == 0
        # Every sample that the fine consumer could have got was delivered to the other one, or counted.
        coarse = every["energy_joules_total"][(("device_type", "x86"), ("hostname", "edge-01"), ("rail", "package-0"), ("source", "rapl"))]
        merged = losses(target, "history_merged", "truth")
        series = sum(len(labels) for labels in every.values())
        delivered = sum(len(samples) for labels in every.values() for samples in labels.values())
        assert len(coarse) < len(fine) and merged > 0
        # The first reading of each of the two starts has no power.
        powers = sum(len(labels) for name, labels in every.items() if name.startswith("power"))
        assert delivered + merged == len(fine) * series - 2 * powers, (delivered, merged, len(fine), series, powers)
        check_energy(every)
        time.sleep(6)
        found = compare(sent, every, begin + 1, end - 1)
        dropped = own(target, "exporter_remote_write_samples_dropped_total{")
        assert not any(count for series, count in dropped.items() if "merged" not in series), dropped
        print(
            f"{len(fine)} readings of {ticks:.0f} ticks, {missed:.0f} of which were missed; 0 lost; {merged:.0f} samples merged; "
            f"{found} found again by remote write; {100 * used / (end - begin):.0f} % of a core, "
            f"{memory / 1e6:.1f} MB, of which {largest / 1e6:.1f} MB of history"
        )


main()
