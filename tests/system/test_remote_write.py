"""Remote write 2.0 to receivers that know 1.0 alone: nothing is lost on the way back to 1.0, nor when one of them dies; and when
the exporter ends, so do its series. (1.0 to the same receivers is in test_multirate.py, the queue in test_queue.py.)"""

import contextlib
import os
import time

from peers import Exporter, query, temporary, wait_until
from rapl import Rapl, compare, own, scrape
from stores import Prometheus, VictoriaMetrics

SECONDS = int(os.environ.get("REMOTE_WRITE_SECONDS", 10))
KILLED = int(os.environ.get("REMOTE_WRITE_KILLED", 10))


def is_sent(target, name):
    """Nothing that was read a while ago waits any more."""
    (lag,) = own(target, f'exporter_remote_write_lag_seconds{{remote_name="{name}"}}').values()
    return lag < 3


def check_numbers(target):
    dropped = own(target, "exporter_remote_write_samples_dropped_total{")
    # What the one that died had stored and not yet answered for is refused when it comes again, once.
    again = sum(dropped.pop(series) for series in list(dropped) if "http_400" in series and "prometheus" in series)
    assert again <= 2000 and len(dropped) >= 6 and not any(dropped.values()), dropped
    outcomes = own(target, "exporter_remote_write_requests_total{")
    # VictoriaMetrics and Prometheus 2.42 answer 2.0 with 204, and have stored nothing.
    assert sum(count for series, count in outcomes.items() if "not_understood" in series) == 2, outcomes
    assert any("failed" in series for series in outcomes), "one was dead for a while"


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        stores = Prometheus(directory, "prometheus"), VictoriaMetrics(directory, "victoria")
        receivers = [
            {
                "name": store.name,
                "url": f"{store.url}/api/v1/write",
                "protobuf_message": "io.prometheus.write.v2.Request",
                "queue_config": {"batch_send_deadline": "1s"},
            }
            for store in stores
        ]
        board = stack.enter_context(Rapl(directory, remote_write=receivers))
        exporter = Exporter(directory, *board.arguments())
        stack.callback(exporter.stop)
        for store in stores:
            stack.callback(store.stop)
            store.start()
        prometheus, _ = stores
        exporter.start()
        target, every = exporter.address, {}
        wait_until("it is sent", lambda: query(prometheus.url, "power_watts"))
        scrape(target, "truth", every)
        time.sleep(2)
        begin = time.time()
        for second in range(SECONDS + KILLED):
            if second == SECONDS:
                prometheus.kill()
            time.sleep(max(0, begin + second + 1 - time.time()))
            scrape(target, "truth", every)
        prometheus.start()
        for store in stores:
            wait_until(f"{store.name} has everything", lambda: is_sent(target, store.name))
        time.sleep(3)
        scrape(target, "truth", every)
        end = time.time() - 6
        for store in stores:
            count = compare(store, every, begin, end)
            print(f"{store.name}: {count} samples found again, {count / (end - begin):.0f} a second")
            assert count > 0
        check_numbers(target)
        exporter.stop()
        wait_until("the series have ended", lambda: not query(prometheus.url, "power_watts"))
        assert query(prometheus.url, "last_over_time(power_watts[5m])") != []


main()
