"""The UDP source and the agent, against messages that Google's protobuf makes and reads by the .proto in this repository."""

import contextlib
import importlib
import random
import re
import socket
import sys
import threading
import time

from grpc_tools import protoc

from peers import BINARY, ROOT, LiveBoard, exporter, free_port, get, running, temporary, wait_until

CHARGE = "powerexporter_power_consumption_ampere_seconds_total"
CURRENT = "powerexporter_current_ampere"


def compiled(directory):
    """The message class."""
    outcome = protoc.main(
        ["protoc", f"--proto_path={ROOT / 'proto'}", f"--python_out={directory}", "powermeasurement.proto"]
    )
    assert outcome == 0
    sys.path.insert(0, str(directory))
    return importlib.import_module("powermeasurement_pb2").power_measurement


class Device:
    """Answers each request with the current `answer`, and records the requests."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.port = self.socket.getsockname()[1]
        self.answer = b""
        self.requests = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.live)

    def live(self):
        while not self.stopped.is_set():
            with contextlib.suppress(TimeoutError):
                request, asker = self.socket.recvfrom(2048)
                self.requests.append(request)
                self.socket.sendto(self.answer, asker)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        self.socket.close()


def value(target, series):
    found = re.search(rf"^{re.escape(series)} (\S+)$", get(f"http://{target}/metrics")[0], re.MULTILINE)
    return float(found[1]) if found else None


def the_preset_reads_what_protobuf_writes(power_measurement):
    rng = random.Random(1)
    with Device() as device, temporary() as directory:
        quick = directory / "quick.yaml"
        quick.write_text("interval: 0.01\n")
        with exporter("power-exporter", "127.0.0.1", str(device.port), f"--config={quick}") as target:
            wait_until("it asks", lambda: device.requests)
            assert get(f"http://{target}/")[0] == "OK\n"
            seconds, charge, before, total, restarts = 0.0, 0.0, 0.0, 0.0, 0
            for step in range(60):
                # A restart: it has run for a moment, and counted little. Two at once would be at the same microsecond of
                # its clock, which no device manages and nobody could tell from a total that was misread.
                if step > 5 and seconds > 0.001 and rng.random() < 0.2:
                    before, restarts = before + charge, restarts + 1
                    seconds, charge = 0.001, charge * rng.uniform(0, 0.1)
                    time.sleep(0.05)
                else:
                    charge += rng.uniform(0, 5000)
                    seconds += rng.uniform(0.1, 3)
                message = power_measurement(
                    timestamp=int(seconds * 1e6), energy_consumption=charge, current=rng.uniform(0, 3000)
                )
                datagram = message.SerializeToString()
                if rng.random() < 0.3:  # Fields of a later device: number 4, text; 5, a fixed 32-bit number.
                    datagram += b"\x22\x05later\x2d\x01\x02\x03\x04"
                total = (before + charge) / 1000
                device.answer = datagram
                wait_until(f"step {step} is seen", lambda: abs(value(target, CHARGE) - total) < 1e-9)
                shown = value(target, CURRENT)
                assert abs(shown - message.current / 1000) < 2e-7, (shown, message.current)
            text = get(f"http://{target}/metrics")[0]
            lines = [line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")]
            assert lines == [CHARGE, CURRENT], text
        assert set(device.requests) == {b"DATA_REQUEST"}
        print(f"{len(device.requests)} requests of twelve bytes; {total:.1f} As over {restarts} restarts, as counted here")


def the_agent_writes_what_protobuf_reads(power_measurement):
    with temporary() as directory, LiveBoard(directory) as board:
        port = free_port()
        command = [BINARY, "udp-agent", "--port", port, "--listen", "127.0.0.1", *board.arguments()]
        with running(command), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(1)

            def ask():
                asker.sendto(b"DATA_REQUEST", ("127.0.0.1", port))
                datagram, agent = asker.recvfrom(2048)
                assert agent == ("127.0.0.1", port)
                message = power_measurement.FromString(datagram)
                assert message.SerializeToString() == datagram, "no field too many, in their order"
                return message

            def measured():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    message = ask()
                    return message if message.energy_consumption > 0 else None

            began, first = time.time(), wait_until("it measures", measured)
            first_at = time.time()
            time.sleep(8)
            last, last_at = ask(), time.time()
            passed = (last.timestamp - first.timestamp) / 1e6
            assert abs(passed - (last_at - first_at)) < 0.5, passed
            steps = 1000
            mean = sum(
                LiveBoard.watts(first_at + (last_at - first_at) * (i + 0.5) / steps) / LiveBoard.VOLTS
                for i in range(steps)
            ) / steps
            charge = (last.energy_consumption - first.energy_consumption) / 1000
            assert abs(charge - mean * passed) < 0.05 * mean * passed, (charge, mean * passed)
            expected = LiveBoard.watts(last_at) / LiveBoard.VOLTS * 1000
            assert abs(last.current - expected) < 0.15 * expected, (last.current, expected)
            print(f"agent: {charge:.2f} As in {passed:.1f} s, {mean * passed:.2f} by the board's own curve")


def main():
    with temporary() as directory:
        power_measurement = compiled(directory)
        the_preset_reads_what_protobuf_writes(power_measurement)
        the_agent_writes_what_protobuf_reads(power_measurement)


main()
