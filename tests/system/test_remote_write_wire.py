"""What leaves the real binary by remote write, of both generations, read by Google's protobuf and Rust's snappy: the cases of
prometheus/compliance's sender suites that hold for every request, under their names. (How it behaves when it is answered this or
that is in tests/remote_write.rs.)"""

import contextlib
import http.server
import re
import struct
import threading
import time

import cramjam
from peers import exporter, temporary, wait_until
from remote_write_messages import compiled

STALE = 0x7FF0000000000002
RAIL = 'é "世界" \\ 🚀'
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")
MESSAGES = {"0.1.0": "prometheus.WriteRequest", "2.0.0": "io.prometheus.write.v2.Request"}


class Receiver:
    """Accepts every request and stores it unparsed."""

    def __init__(self):
        requests = self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(200)

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((time.time(), self.path, self.headers, body))
                self.answer(204, {"X-Prometheus-Remote-Write-Samples-Written": "1000000"})

            def answer(self, status, headers={}):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1/write"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Series:
    """One series of one request, of either version."""

    def __init__(self, labels, samples, starts=(), refs=None, metadata=None):
        self.labels, self.samples, self.starts, self.refs, self.metadata = labels, samples, starts, refs, metadata
        self.all = dict(labels)
        self.name = self.all.get("__name__")


def decoded(pb, version, body):
    plain = bytes(cramjam.snappy.decompress_raw(body))
    if version == "0.1.0":
        message = pb.WriteRequest.FromString(plain)
        assert message.SerializeToString() == plain, "something that 1.0 does not know"
        return [], [
            Series([(l.name, l.value) for l in s.labels], [(p.timestamp, p.value) for p in s.samples])
            for s in message.timeseries
        ]
    message = pb.Request.FromString(plain)
    symbols = list(message.symbols)
    result = []
    for s in message.timeseries:
        refs = list(s.labels_refs)
        labels = [(symbols[a], symbols[b]) for a, b in zip(refs[::2], refs[1::2])]
        samples = [(p.timestamp, p.value) for p in s.samples]
        metadata = (s.metadata.type, symbols[s.metadata.help_ref], symbols[s.metadata.unit_ref])
        result.append(Series(labels, samples, [p.start_timestamp for p in s.samples], refs, metadata))
    return symbols, result


def bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


class Checks:
    """Each case is called with a request and its content."""

    def content_type_protobuf(at, headers, body, symbols, series):
        assert headers["Content-Type"].startswith("application/x-protobuf")

    def content_type_with_proto_param(at, headers, body, symbols, series):
        second = headers["X-Prometheus-Remote-Write-Version"] == "2.0.0"
        parameter = ";proto=io.prometheus.write.v2.Request" if second else ""
        assert headers["Content-Type"] == "application/x-protobuf" + parameter

    def content_encoding_snappy(at, headers, body, symbols, series):
        assert headers["Content-Encoding"] == "snappy"

    def version_header_value(at, headers, body, symbols, series):
        assert headers["X-Prometheus-Remote-Write-Version"] in MESSAGES

    def user_agent_present(at, headers, body, symbols, series):
        assert re.match(r"edge-metrics-exporter/\d", headers["User-Agent"])

    def snappy_block_format(at, headers, body, symbols, series):
        assert not body.startswith(b"\xff\x06\x00\x00")

    def protobuf_parseable(at, headers, body, symbols, series):
        assert series

    def label_lexicographic_ordering(at, headers, body, symbols, series):
        for s in series:
            names = [name for name, _ in s.labels]
            assert names == sorted(names), names

    def metric_name_label_present(at, headers, body, symbols, series):
        assert all(s.name for s in series)

    def metric_name_format_valid(at, headers, body, symbols, series):
        assert all(NAME.match(s.name) for s in series)

    def label_name_format_valid(at, headers, body, symbols, series):
        assert all(LABEL.match(name) for s in series for name in s.all)

    def no_duplicate_label_names(at, headers, body, symbols, series):
        assert all(len(s.all) == len(s.labels) for s in series)

    def label_names_not_empty(at, headers, body, symbols, series):
        assert all(name and value for s in series for name, value in s.labels)

    def reserved_label_prefix(at, headers, body, symbols, series):
        assert all(name == "__name__" or not name.startswith("__") for s in series for name in s.all)

    def job_instance_labels_present(at, headers, body, symbols, series):
        assert all(s.all["job"] == "edge" and s.all["instance"] == "here" for s in series)

    def timestamp_milliseconds_format(at, headers, body, symbols, series):
        assert all(1e12 < stamp < 1e16 for s in series for stamp, _ in s.samples)

    def timestamp_recent(at, headers, body, symbols, series):
        assert all(0 <= at * 1000 - stamp < 300_000 for s in series for stamp, _ in s.samples)

    def timestamp_ordering_within_series(at, headers, body, symbols, series):
        for s in series:
            stamps = [stamp for stamp, _ in s.samples]
            assert stamps and all(a < b for a, b in zip(stamps, stamps[1:]))

    def start_timestamp_before_sample_timestamp(at, headers, body, symbols, series):
        for s in series:
            for start, (stamp, _) in zip(s.starts, s.samples):
                assert start == 0 or 1e12 < start <= stamp

    def stale_marker(at, headers, body, symbols, series):
        for s in series:
            assert all(value == value or bits(value) == STALE for _, value in s.samples)

    def empty_string_at_index_zero(at, headers, body, symbols, series):
        assert not symbols or symbols[0] == ""

    def string_deduplication(at, headers, body, symbols, series):
        assert len(set(symbols)) == len(symbols)

    def labels_refs_even_length(at, headers, body, symbols, series):
        assert all(s.refs is None or s.refs and len(s.refs) % 2 == 0 for s in series)

    def labels_refs_valid_indices(at, headers, body, symbols, series):
        assert all(ref < len(symbols) for s in series for ref in s.refs or ())

    def metadata_consistent_across_series(at, headers, body, symbols, series):
        seen = {}
        for s in series:
            assert seen.setdefault(s.name, s.metadata) == s.metadata


def board(directory, url, message):
    rapl = directory / "sys/class/powercap/intel-rapl:0"
    hwmon = directory / "sys/class/hwmon/hwmon0"
    zone = directory / "sys/class/thermal/thermal_zone0"
    for path in (rapl, hwmon, zone, directory / "proc/sys/kernel", directory / "dev"):
        path.mkdir(parents=True)
    (directory / "proc/sys/kernel/hostname").write_text("edge-01\n")
    (rapl / "name").write_text("package-0\n")
    (rapl / "energy_uj").write_text("1000\n")
    (rapl / "max_energy_range_uj").write_text("1000000\n")
    (hwmon / "name").write_text("ina226\n")
    (hwmon / "power1_input").write_text("12345678\n")
    (hwmon / "power1_label").write_text(f"{RAIL}\n")
    (zone / "type").write_text("cold\n")
    (zone / "temp").write_text("-15500\n")
    (directory / "config.yaml").write_text(
        f"device_type: generic\ninterval: 0.02\nremote_write:\n  - url: {url}\n    job: edge\n    instance: here\n"
        f"    protobuf_message: {message}\n    external_labels: {{empty: ''}}\n"
        "    queue_config: {batch_send_deadline: 100ms}\n"
    )
    roots = [f"--path.{flag}={directory / place}" for flag, place in (("sysfs", "sys"), ("procfs", "proc"), ("dev", "dev"))]
    return [f"--config={directory / 'config.yaml'}", *roots], zone / "temp"


def of_all(name, everything):
    return [s for _, series in everything for s in series if s.name == name]


def values(everything, version):
    """Cases about particular values: `negative_value_encoding`, `unicode_in_label_values`, `metadata_type_counter`, …"""
    cold = of_all("temperature_celsius", everything)
    found = {value for s in cold for _, value in s.samples if value == value}
    assert found == {-15.5}, found
    marks = [bits(value) for s in cold for _, value in s.samples if value != value]
    assert marks == [STALE, STALE], f"one when the sensor failed, one at the end: {marks}"
    power = [s for s in of_all("power_watts", everything) if s.all["source"] == "hwmon"]
    assert power and all(s.all["rail"] == f"ina226:{RAIL}" for s in power), {s.all["rail"] for s in power}
    assert {value for s in power for _, value in s.samples if value == value} == {12.345678}
    energy = of_all("energy_joules_total", everything)
    assert energy
    if version == "2.0.0":
        help = "Electric energy since the exporter started, by source and rail, in joules."
        assert {s.metadata for s in energy} == {(1, help, "joules")}
        assert {s.metadata[0] for s in cold} == {2} and {s.metadata[2] for s in cold} == {"celsius"}
        starts = {start for s in energy for (_, value), start in zip(s.samples, s.starts) if value == value}
        assert starts and 0 not in starts
    stamps = {}
    for _, series in everything:
        for s in series:
            stamps.setdefault(tuple(s.labels), []).extend(stamp for stamp, _ in s.samples)
    for all_of_one in stamps.values():
        assert all(a < b for a, b in zip(all_of_one, all_of_one[1:])), "in order over all requests"


def last(pb, version, receiver):
    """The last received temperature."""
    found = [decoded(pb, version, body) for _, _, _, body in list(receiver.requests)]
    return [value for s in of_all("temperature_celsius", found) for _, value in s.samples][-1]


def generation(directory, pb, version):
    with Receiver() as receiver:
        arguments, temperature = board(directory, receiver.url, MESSAGES[version])
        with exporter(*arguments):
            wait_until("some requests", lambda: len(receiver.requests) > 5)
            # In place and with a constant length: a reader never sees a partial number.
            temperature.open("r+").write("broken\n")
            wait_until("it is marked", lambda: bits(last(pb, version, receiver)) == STALE)
            temperature.open("r+").write("-15500\n")
            wait_until("it is back", lambda: last(pb, version, receiver) == -15.5)
        everything = []
        for at, path, headers, body in receiver.requests:
            assert path == "/api/v1/write"
            symbols, series = decoded(pb, version, body)
            for name, check in vars(Checks).items():
                if not name.startswith("_"):
                    try:
                        check(at, headers, body, symbols, series)
                    except Exception as error:
                        raise AssertionError(f"{name} ({version})") from error
            everything.append((symbols, series))
        values(everything, version)
        checks = sum(not name.startswith("_") for name in vars(Checks))
        print(f"{version}: {checks} cases hold for each of {len(everything)} requests")


def main():
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(temporary())
        pb = compiled(directory)
        for version in MESSAGES:
            generation(directory / version, pb, version)


main()
