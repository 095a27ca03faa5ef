"""A real Prometheus scrapes the running binary, and its stored values are correct."""

import time

from peers import LiveBoard, exporter, prometheus, query, temporary, wait_until

SECONDS = 25
ENERGY = 'energy_joules_total{source="power_supply",rail="usb"}'


def integral(begin, end, step=0.001):
    steps = int((end - begin) / step)
    return sum(LiveBoard.watts(begin + i * step) * step for i in range(steps))


def main():
    with temporary() as directory, LiveBoard(directory) as board, exporter(*board.arguments()) as target:
        with prometheus([target]) as url:
            wait_until("the target is up", lambda: query(url, "up == 1"))
            time.sleep(SECONDS)

            assert query(url, "min_over_time(up[20s])")[0]["value"][1] == "1", "a scrape failed"
            changes = query(url, "changes(power_total_watts[20s])")
            assert changes and float(changes[0]["value"][1]) >= 15, f"power_total_watts does not move: {changes}"
            labels = changes[0]["metric"]
            assert labels["device_type"] == "generic" and labels["hostname"] == "edge-01", labels

            samples = query(url, f"{ENERGY}[{SECONDS}s]")[0]["values"]
            (begin, before), (end, after) = samples[0], samples[-1]
            counted, expected = float(after) - float(before), integral(begin, end)
            print(f"energy over {end - begin:.1f} s: {counted:.2f} J counted, {expected:.2f} J integrated")
            assert abs(counted / expected - 1) < 0.01, "the energy is off by more than 1 %"


main()
