"""Prometheus and VictoriaMetrics, as stores that can be killed and started again."""

import json
import math
import signal
import subprocess
import time

from peers import free_port, get, query, wait_until


class Store:
    """A server of its own, in a directory of its own."""

    def __init__(self, directory, name):
        self.name, self.directory = name, directory / name
        self.directory.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.process = None

    def start(self):
        self.log = open(self.directory / "log", "a")
        self.process = subprocess.Popen([str(word) for word in self.command()], stdout=self.log, stderr=self.log)
        wait_until(f"{self.name} is ready", lambda: get(f"{self.url}{self.ready}"))

    @staticmethod
    def equal(stored, sent):
        return stored == sent

    def kill(self):
        self.stop(signal.SIGKILL)

    def stop(self, how=signal.SIGTERM):
        if self.process:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def counter(self, name):
        text, _ = get(f"{self.url}/metrics")
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    @staticmethod
    def plain(labels):
        """Without those that the way to the store added."""
        return tuple(sorted((k, v) for k, v in labels.items() if k not in ("__name__", "job", "instance")))


class Prometheus(Store):
    """A Prometheus that takes remote write, and scrapes what it is told to."""

    ready = "/-/ready"

    def __init__(self, directory, name, scrape_configs=(), interval="1s"):
        super().__init__(directory, name)
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": list(scrape_configs),
        }
        # JSON is YAML.
        (self.directory / "prometheus.yml").write_text(json.dumps(config))

    def command(self):
        return [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-remote-write-receiver",
            "--query.max-samples=100000000",
        ]

    def kill_between_scrapes(self):
        """What is on its way to a Prometheus that dies is lost to any scrape."""

        def scraped():
            return float(query(self.url, "timestamp(up)")[0]["value"][1])

        before = scraped()
        wait_until("it has scraped", lambda: scraped() > before)
        time.sleep(0.4)
        self.stop(signal.SIGKILL)

    def samples(self, name, begin, end):
        """Every sample of a family's series in a window, as {labels: [(stamp in ms, value)]}."""
        window = int(end - begin) + 1
        found = query(self.url, f"{name}[{window}s] @ {end:.3f}")
        return {
            self.plain(series["metric"]): [(round(float(at) * 1000), float(value)) for at, value in series["values"]]
            for series in found
        }


class VictoriaMetrics(Store):
    """A VictoriaMetrics. It keeps some thirteen digits of a value, and when it is killed loses what it took last."""

    ready = "/health"

    @staticmethod
    def equal(stored, sent):
        return math.isclose(stored, sent, rel_tol=1e-11)

    def kill(self):
        """As near as one comes to that without a loss of its own."""
        self.stop(signal.SIGTERM)

    def command(self):
        return [
            "victoria-metrics",
            f"-httpListenAddr={self.address}",
            f"-storageDataPath={self.directory / 'data'}",
            "-retentionPeriod=10y",
            "-search.maxSamplesPerSeries=10000000",
        ]

    def samples(self, name, begin, end):
        """As Prometheus's; by its export, as a query there gives nothing below a second."""
        get(f"{self.url}/internal/force_flush")
        matcher = f"match[]={name}&start={int(begin) - 1}&end={int(end) + 2}"
        text, _ = get(f"{self.url}/api/v1/export?reduce_mem_usage=1&{matcher}")
        result = {}
        for line in text.splitlines():
            series = json.loads(line)
            pairs = [(stamp, value) for stamp, value in zip(series["timestamps"], series["values"]) if value is not None]
            result.setdefault(self.plain(series["metric"]), []).extend(pairs)
        return {labels: sorted(pairs) for labels, pairs in result.items()}
