"""The disk queue: a 1 kHz meter, receivers that are down, an exporter that is killed and restarted meanwhile, and a disk that
is full or read-only."""

import contextlib
import json
import os
import signal
import subprocess
import time

from peers import Exporter, temporary, wait_until
from servers import Prometheus, Rapl, VictoriaMetrics, compare, own, scrape

# The maximum age in seconds of a sample that is neither sent nor on disk.
SYNC = 4
AWAY = int(os.environ.get("QUEUE_AWAY", 20))


def figure(target, name, of=""):
    """The sum of a remote write metric over all receivers, or over one."""
    return sum(value for series, value in own(target, f"exporter_remote_write_{name}").items() if of in series)


def receiver(directory):
    return Prometheus(directory, "prometheus", {}, "--web.enable-remote-write-receiver")


def entries(entries):
    """JSON is YAML."""
    return f"remote_write: {json.dumps(entries)}\n"


def follow(target, every, seconds):
    end = time.time() + seconds
    while time.time() < end:
        time.sleep(0.1)
        scrape(target, "truth", every)


def lost_at_the_end(store, every, begin, end):
    """Compares all samples except those missing at the end; returns the length of the missing part in milliseconds."""
    last = max(samples[-1][0] for family in every.values() for samples in family.values())
    found = 0
    for name in every:
        for samples in store.samples(name, begin, end).values():
            found = max([found, *(stamp for stamp, _ in samples if stamp <= last)])
    count = compare(store, every, begin, found / 1000)
    print(f"{store.name}: {count} samples of the one that was killed; the last {last - found} ms are lost")
    return last - found


def killed():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        stores = [receiver(directory), VictoriaMetrics(directory, "victoria")]
        receivers = [
            {
                "name": store.name,
                "url": f"{store.url}/api/v1/write",
                "queue_directory": str(directory / "queue" / store.name),
                "sync_interval": f"{SYNC}s",
                "queue_config": {"batch_send_deadline": "1s"},
            }
            for store in stores
        ]
        board = stack.enter_context(Rapl(directory, entries(receivers)))
        exporter = Exporter(directory, *board.arguments())
        stack.callback(lambda: print(exporter.text()[-5000:]) if not passed else None)
        passed = False
        stack.callback(exporter.stop)
        for store in stores:
            stack.callback(store.stop)
            store.start()
        exporter.start()
        target = exporter.metrics
        first, second = {}, {}
        begin = time.time() + 2
        follow(target, first, 12)
        # Receivers that accept everything cause no disk writes.
        assert figure(target, "samples_sent_total") > 10_000
        assert figure(target, "queue_written_bytes_total") == 0
        for store in stores:
            store.kill()
        follow(target, first, AWAY)
        written = figure(target, "queue_written_bytes_total")
        samples = sum(len(samples) for family in first.values() for samples in family.values())
        print(f"{written:.0f} bytes written for two receivers in {AWAY} s; {samples} samples in {12 + AWAY} s")
        assert written > 0 and figure(target, "queue_ok") == 2
        exporter.stop(signal.SIGKILL)

        exporter.start()
        target = exporter.metrics
        follow(target, second, 8)
        again = time.time()
        for store in stores:
            store.start()
        # The samples on disk are sent, and those read meanwhile.
        deadline = time.monotonic() + 60
        while figure(target, "queue_bytes{") > 0:
            follow(target, second, 0.5)
            assert time.monotonic() < deadline, "the queue on disk is not sent"
        print(f"sent all that was on disk in {time.time() - again:.1f} s")
        follow(target, second, 3)
        end = time.time()
        follow(target, second, 1)
        time.sleep(2)

        for store in stores:
            assert lost_at_the_end(store, first, begin, end) <= SYNC * 1000
            restarted = min(samples[0][0] for family in second.values() for samples in family.values())
            count = compare(store, second, (restarted - 0.5) / 1000, end)
            print(f"{store.name}: {count} samples of the one that was started again")
        lost = own(target, "exporter_remote_write_samples_dropped_total{")
        # A receiver refuses samples that it had stored without a response when it was killed.
        answers = [lost.pop(series) for series in list(lost) if "http_400" in series]
        assert not any(lost.values()) and sum(answers) <= 4000, (lost, answers)
        passed = True


class SmallDisk:
    """A file system of a few pages."""

    def __init__(self, directory):
        self.path = directory / "disk"
        self.path.mkdir()

    def mount(self, *options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", self.path], check=True)

    def __enter__(self):
        self.mount("size=64k")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.path], check=True)


def full_and_read_only():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        disk = stack.enter_context(SmallDisk(directory))
        store = receiver(directory)
        receivers = [
            {
                "name": "prometheus",
                "url": f"{store.url}/api/v1/write",
                "queue_directory": str(disk.path / "queue"),
                "sync_interval": "1s",
                "queue_config": {"batch_send_deadline": "1s"},
            }
        ]
        board = stack.enter_context(Rapl(directory, entries(receivers), 0.01))
        exporter = Exporter(directory, *board.arguments())
        stack.callback(store.stop)
        stack.callback(exporter.stop)
        exporter.start()
        target = exporter.metrics
        every = {}
        begin = time.time() + 1
        follow(target, every, 2)
        # No receiver runs yet, and the disk fills up soon: the rest stays in memory.
        filler = disk.path / "filler"
        with contextlib.suppress(OSError), open(filler, "wb") as file:
            while True:
                file.write(bytes(1024))
                file.flush()
        wait_until("the disk is full", lambda: follow(target, every, 0.2) or figure(target, "queue_ok") == 0)
        follow(target, every, 4)
        assert exporter.text().count("is kept in memory") == 1, exporter.text()
        assert "No space left on device" in exporter.text()
        # Samples on disk and in memory arrive in order, although nothing more can be written.
        store.start()
        back = time.time()
        newest = lambda: figure(target, "highest_sent_timestamp_seconds")
        wait_until("what is read now is sent", lambda: follow(target, every, 0.5) or newest() > back)
        follow(target, every, 2)
        end = time.time()
        follow(target, every, 1)
        time.sleep(2)
        count = compare(store, every, begin, end)
        assert count > 1000
        assert figure(target, "samples_dropped_total") == 0
        print(f"a disk that is full: {count} samples found again")
        exporter.stop()

        # An exporter that starts with a read-only disk logs that, and sends nevertheless.
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
        exporter.start()
        target = exporter.metrics
        wait_until("it says so", lambda: "Read-only file system" in exporter.text())
        every = {}
        begin = time.time() + 1
        follow(target, every, 4)
        end = time.time()
        follow(target, every, 1)
        time.sleep(2)
        assert compare(store, every, begin, end) > 100


def main():
    killed()
    if os.geteuid() == 0:
        full_and_read_only()
    else:
        print("not root: a full disk was not tried")


main()
