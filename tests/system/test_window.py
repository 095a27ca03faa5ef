"""Window statistics show what happens between two scrapes of an ordinary Prometheus: the spike, and every joule."""

import contextlib
import math
import time

from peers import exporter, query, temporary, wait_until
from servers import PACKAGE, Prometheus, Rapl, own, scrape

CONFIG = "history: {window_statistics: true}\n"
SECONDS = 15
# The energy of the largest tick in joules.
SPIKE = 1.01 * 201 * PACKAGE / 1e6


def values(server, expression):
    """The only series: [(stamp in ms, value)]."""
    (series,) = query(server.url, expression)
    return [(round(float(at) * 1000), float(value)) for at, value in series["values"]]


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        board = Rapl(directory, CONFIG)
        # One millisecond in 0.7 s has the energy of two hundred.
        board.spike = (700, 200)
        stack.enter_context(board)
        target = stack.enter_context(exporter(*board.arguments()))
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {
                    "job_name": "edge-power",
                    "params": {"consumer": ["prometheus"]},
                    "static_configs": [{"targets": [target]}],
                }
            ],
        }
        server = Prometheus(directory, "prometheus", config)
        stack.callback(server.stop)
        server.start()
        wait_until("it scrapes", lambda: query(server.url, "power_watts_max"))
        every = {}
        scrape(target, "truth", every)
        begin = time.time()
        while time.time() < begin + SECONDS:
            time.sleep(1)
            scrape(target, "truth", every)

        rail = '{rail="package-0"}'
        names = ("power_watts_min", "power_watts_max", "power_watts_avg", "energy_window_joules", "energy_joules_total")
        shown = {name: values(server, f"{name}{rail}[{SECONDS - 2}s]") for name in names}
        is_rail = lambda labels: ("rail", "package-0") in labels
        ((_, truth),) = ((labels, pairs) for labels, pairs in every["power_watts"].items() if is_rail(labels))
        stamps = [at for at, _ in shown["power_watts_max"]]
        assert len(stamps) > SECONDS / 2 and all(len(pairs) == len(stamps) for pairs in shown.values()), shown
        spikes = exact = counted = 0
        for i in range(1, len(stamps)):
            least, most, mean, joules, total = (shown[name][i][1] for name in names)
            # A scrape is stamped at its start; the window ends at the response, a little later.
            surely = [value for at, value in truth if stamps[i - 1] + 500 <= at <= stamps[i]]
            perhaps = [value for at, value in truth if stamps[i - 1] <= at <= stamps[i] + 500]
            assert min(perhaps) <= least <= min(surely), (i, least)
            assert max(surely) <= most <= max(perhaps), (i, most)
            assert least < mean < most and mean > 0, (i, mean)
            counted += joules
            first, before = shown["energy_joules_total"][0][1], shown["energy_joules_total"][i - 1][1]
            exact += math.isclose(joules, total - before, abs_tol=1e-6)
            # Every joule is in exactly one window. But the meter may tick, by a spike at most, between the reading of the
            # total and the end of the window in the same response.
            assert abs(counted - (total - first)) <= SPIKE, (i, counted, total - first)
            spikes += most > 1000
        assert exact > len(stamps) / 2, exact
        # The spike is in most windows, and in almost none of the scraped values.
        assert spikes > len(stamps) / 2, shown["power_watts_max"]
        seen = sum(value > 1000 for _, value in values(server, f"power_watts{rail}[{SECONDS - 2}s]"))
        assert seen < spikes
        lost = own(target, "exporter_history_dropped_samples_total{")
        assert not any(lost.values()), lost
        print(f"{spikes} of {len(stamps) - 1} windows show a spike of 3 kW in one millisecond, {seen} scraped values do")


main()
