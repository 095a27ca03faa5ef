"""The release binary reads Tapo and Kasa plugs whose handshakes and encryption are python-kasa's."""

import http.server
import json
import re
import secrets
import threading
from urllib.parse import parse_qs, urlsplit

from kasa.credentials import Credentials
from kasa.transports.klaptransport import KlapEncryptionSession, KlapTransport, KlapTransportV2

from peers import exporter, get, temporary, wait_until

USERNAME, PASSWORD = "Me@Example.com", "pässwörd-of-the-plug"
STRIP = "8006AF"


def of_tapo(sockets):
    """What a Tapo plug, or a strip with this many sockets, answers to each method."""
    if not sockets:
        return {
            "get_device_info": {"model": "P110M", "mac": "F0-A7-31-00-00-01", "device_on": True, "nickname": "S8O8Y2hl"},
            "get_energy_usage": {"today_energy": 173, "month_energy": 6110, "current_power": 74116},
            "get_emeter_data": {"current_ma": 610, "energy_wh": 1469, "power_mw": 74120, "voltage_mv": 121302},
        }
    children = [{"device_id": f"{STRIP}{n:02}", "position": n, "model": "P304M"} for n in range(sockets, 0, -1)]
    answers = {
        "get_device_info": {"model": "P304M", "mac": "A8-6E-84-00-00-01"},
        "get_child_device_list": {"start_index": 0, "sum": sockets, "child_device_list": children},
    }
    for n in range(1, sockets + 1):
        answers[f"{STRIP}{n:02} get_energy_usage"] = {"today_energy": 0, "month_energy": 14}
        answers[f"{STRIP}{n:02} get_current_power"] = {"current_power": 10 + n}
    return answers


class Plug(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, transport, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.transport, self.answer = transport, answer
        self.auth = transport.generate_auth_hash(Credentials(USERNAME, PASSWORD))
        self.seeds = self.session = None
        self.handshakes = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        plug, url = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if url.path == "/app/handshake1":
            plug.handshakes += 1
            plug.seeds = (body, secrets.token_bytes(16))
            proof = plug.transport.handshake1_seed_auth_hash(*plug.seeds, plug.auth)
            return self.reply(plug.seeds[1] + proof, {"Set-Cookie": "TP_SESSIONID=0123ABCD;TIMEOUT=86400"})
        if self.headers["Cookie"] != "TP_SESSIONID=0123ABCD":
            return self.reply(b"", status=403)
        if url.path == "/app/handshake2":
            if body != plug.transport.handshake2_seed_auth_hash(*plug.seeds, plug.auth):
                return self.reply(b"", status=403)
            plug.session = KlapEncryptionSession(*plug.seeds, plug.auth)
            return self.reply(b"")
        # The next number and its cipher, as for a request of its own; then the request is decrypted with these.
        session = plug.session
        session._seq += 1
        session._generate_cipher()
        assert parse_qs(url.query) == {"seq": [str(session._seq)]}, self.path
        request = session.decrypt(body)
        session._seq -= 1
        assert session.encrypt(request) == (body, session._seq), "signature"
        session._seq -= 1
        answer, _ = session.encrypt(json.dumps(plug.answer(json.loads(request))))
        return self.reply(answer)

    def reply(self, body, headers={}, status=200):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def tapo(sockets):
    answers = of_tapo(sockets)

    def of(key):
        return {"error_code": 0, "result": answers[key]} if key in answers else {"error_code": -1002}

    def answer(request):
        if request["method"] == "control_child":
            child = request["params"]
            return {"error_code": 0, "result": {"responseData": of(f"{child['device_id']} {child['requestData']['method']}")}}
        return of(request["method"])

    return answer


def kasa(request):
    """A Kasa plug after an update of its firmware."""
    if "system" in request:
        info = {"err_code": 0, "model": "HS110(UK)", "mac": "50:C7:BF:00:00:01", "feature": "TIM:ENE", "alias": "Küche"}
        return {"system": {"get_sysinfo": info}}
    if "emeter" in request:
        return {"emeter": {"get_realtime": {"current_ma": 50, "voltage_mv": 230000, "power_mw": 11500, "total_wh": 86, "err_code": 0}}}
    return {"err_code": -1, "err_msg": "module not support"}


def main():
    plugs = {
        "plug": Plug(KlapTransportV2, tapo(0)),
        "strip": Plug(KlapTransportV2, tapo(4)),
        "first": Plug(KlapTransport, kasa),
        "both": Plug(KlapTransportV2, kasa),
    }
    devices = [{"host": plug.host, "name": name, "power_total": name == "plug"} for name, plug in plugs.items()]
    wanted = {"plug": 74.12, "first": 11.5, "both": 11.5} | {f"strip/{n}": 10.0 + n for n in range(1, 5)}
    with temporary() as directory:
        config = directory / "config.yaml"
        password = directory / "password"
        password.write_text(f"{PASSWORD}\n")
        login = {"username": USERNAME, "password_file": str(password)}
        config.write_text(json.dumps({"tapo": login | {"devices": devices}}))
        with exporter("--config", config) as metrics:

            def powers():
                text, _ = get(f"http://{metrics}/metrics")
                found = re.findall(r'^power_watts\{.*rail="([^"]+)".*source="tapo"\} (\S+)$', text, flags=re.MULTILINE)
                return text if {rail: float(watts) for rail, watts in found} == wanted else None

            text = wait_until("all sockets are read", powers)
            assert re.search(r"^power_total_watts\S* 74.12$", text, flags=re.MULTILINE), text
            assert re.search(r'^voltage_volts\{.*rail="plug".*\} 121.302$', text, flags=re.MULTILINE), text
            assert {plug.handshakes for plug in plugs.values()} == {1}, "one session each"
    print(f"{len(wanted)} sockets of {len(plugs)} plugs and strips are read")


main()
