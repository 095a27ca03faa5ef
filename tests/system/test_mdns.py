"""Names of the local network and `doctor --network` against python-zeroconf, an mDNS responder that shares no code with the exporter.

It runs in a network namespace of its own, whose loopback interface has multicast: as root."""

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading

from zeroconf import ServiceInfo, Zeroconf

from peers import BINARY, Exporter, get, temporary, wait_until

INSIDE = "EDGE_METRICS_TEST_INSIDE"
SHELLY = "shellyplusplugs-aabbccddee02"


class Meter(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"watts": 12.5}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def service(kind, instance, host, port, **text):
    address = [socket.inet_aton("127.0.0.1")]
    return ServiceInfo(f"{kind}.local.", f"{instance}.{kind}.local.", port, properties=text, server=f"{host}.local.", addresses=address)


def main():
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__])
    subprocess.run("ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo", shell=True, check=True)
    meter = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Meter)
    threading.Thread(target=meter.serve_forever, daemon=True).start()
    port = meter.server_address[1]
    responder = Zeroconf(interfaces=["127.0.0.1"])
    try:
        for info in (
            service("_shelly._tcp", SHELLY, SHELLY, 80, gen="2", app="PlusPlugS", ver="1.4.4"),
            service("_http._tcp", SHELLY, SHELLY, 80, gen="2"),
            service("_http._tcp", "meter", "meter", port, devicetype="tasmota"),
            service("_http._tcp", "A server. With a name", "nas", 5000),
        ):
            responder.register_service(info)
        names(port)
        network(port)
    finally:
        responder.close()
        meter.shutdown()


def names(port):
    """Two devices, one of which nobody has."""
    values = [{"power": "/watts"}]
    devices = [{"name": name, "url": f"http://{name}.local:{port}/", "values": values} for name in ("meter", "nobody")]
    with temporary() as directory:
        config = directory / "config.yaml"
        config.write_text(json.dumps({"json": {"devices": devices}}))
        exporter = Exporter(directory, "--config", config)
        try:
            exporter.start()
            power = r'power_watts\{.*rail="meter".*\} 12.5\n'
            wait_until("the meter is read", lambda: re.search(power, get(f"http://{exporter.metrics}/metrics")[0]))
            wait_until("nobody's name is an error", lambda: "nobody has answered to mDNS for nobody.local" in exporter.text())
        except BaseException:
            print(exporter.text())
            raise
        finally:
            exporter.stop()
        assert "within 2.5 s on lo, and the system's resolver does not know it" in exporter.text(), exporter.text()
    print("a name of the local network is found, and one that nobody has is said")


def network(port):
    with temporary() as directory:
        written = directory / "config.yaml"
        command = [BINARY, "doctor", "--network", "--json", "--write", written]
        done = subprocess.run(command, capture_output=True, text=True, cwd=directory)
        found = json.loads(done.stdout)["network"]
        text = written.read_text()
    assert found["error"] is None and found["interfaces"] == "lo" and not found["left_out"], found
    devices = {device["host"]: device for device in found["devices"]}
    assert set(devices) == {f"{SHELLY}.local", "meter.local"}, found
    assert all(device["address"] == "127.0.0.1" for device in devices.values()), found
    assert devices[f"{SHELLY}.local"]["detail"] == "Shelly PlusPlugS, generation 2", found
    assert devices["meter.local"]["device"] == f'{{profile: tasmota, host: "meter.local:{port}"}}', found
    assert found["others"] == 1, found
    assert f'\n    - {{host: "{SHELLY}.local"}}' in text, text
    print("doctor lists a Shelly and a Tasmota, and counts another web server")


main()
