"""The release binary reads a TP-Link Kasa plug and a strip whose frames python-kasa encrypts and decrypts."""

import json
import re
import socketserver
import struct
import threading

from kasa.transports.xortransport import XorEncryption

from peers import exporter, get, temporary, wait_until

STRIP = "8006AF"


class Device(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, sockets):
        super().__init__(("127.0.0.1", 0), Handler)
        self.sockets = sockets
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    def answer(self, request):
        if "system" in request:
            children = [{"id": f"{STRIP}{n:02}", "state": 1, "alias": f"Küche {n}"} for n in range(self.sockets)]
            info = {"err_code": 0, "model": "HS300(US)", "mac": "C0:06:C3:00:00:02", "deviceId": STRIP, "feature": "TIM:ENE"}
            return {"system": {"get_sysinfo": info | ({"children": children} if children else {})}}
        assert request["emeter"] == {"get_realtime": {}}, request
        if not self.sockets:
            measured = {"current": 0.5, "voltage": 230.5, "power": 100.25, "total": 133.082}
        else:
            n = int(request["context"]["child_ids"][0].removeprefix(STRIP))
            measured = {"slot_id": n, "current_ma": 50, "voltage_mv": 121302, "power_mw": 1500 + n, "total_wh": 86}
        return {"emeter": {"get_realtime": measured | {"err_code": 0}}}


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        while head := self.rfile.read(4):
            request = XorEncryption.decrypt(self.rfile.read(struct.unpack(">I", head)[0]))
            self.wfile.write(XorEncryption.encrypt(json.dumps(self.server.answer(json.loads(request)))))


def main():
    plug, strip = Device(0), Device(6)
    devices = [{"host": plug.host, "name": "plug", "power_total": True}, {"host": strip.host, "name": "strip"}]
    wanted = {"plug": 100.25} | {f"strip/{n}": (1500 + n) / 1000 for n in range(6)}
    with temporary() as directory:
        config = directory / "config.yaml"
        config.write_text(json.dumps({"kasa": {"devices": devices}}))
        with exporter("--config", config) as metrics:

            def powers():
                text, _ = get(f"http://{metrics}/metrics")
                found = re.findall(r'^power_watts\{.*rail="([^"]+)".*source="kasa"\} (\S+)$', text, flags=re.MULTILINE)
                return text if {rail: float(watts) for rail, watts in found} == wanted else None

            text = wait_until("all sockets are read", powers)
            assert re.search(r"^power_total_watts\S* 100.25$", text, flags=re.MULTILINE), text
            assert re.search(r'^voltage_volts\{.*rail="strip/5".*\} 121.302$', text, flags=re.MULTILINE), text
    print(f"{len(wanted)} sockets of a plug and a strip are read")


main()
