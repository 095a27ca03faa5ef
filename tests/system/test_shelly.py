"""The release binary reads Shelly devices of three generations, simulated by a server that shares no code with it."""

import base64
import hashlib
import http.server
import json
import re
import threading

from prometheus_client.parser import text_string_to_metric_families

from peers import exporter, get, temporary, wait_until

PASSWORD = "pässword, \"quoted\""
WATTS = {"gen1": 31.5, "gen2": 120.25, "gen3": 7.75}


class Device(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, gen, password=None, uses=5):
        super().__init__(("127.0.0.1", 0), Handler)
        self.gen, self.password, self.uses = gen, password, uses
        self.lock = threading.Lock()
        self.nonces = {}
        self.polls = self.challenges = self.wrong = 0
        self.complaints = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def host(self):
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def realm(self):
        return f"shellyplug-{self.gen}-aabbccddee0{self.gen}"

    def identity(self):
        common = {"mac": f"AABBCCDDEE0{self.gen}", "name": None}
        if self.gen == 1:
            return {"type": "SHPLG-S", "auth": self.password is not None, "fw": "v1.14.0", "num_meters": 1, **common}
        protected = self.password is not None
        domain = self.realm if protected else None
        return {"gen": self.gen, "model": "S3PL", "app": "Plug", "auth_en": protected, "auth_domain": domain, **common}

    def status(self):
        """Energy grows by 1 Wh with every poll."""
        watts = WATTS[f"gen{self.gen}"]
        if self.gen == 1:
            meter = {"power": watts, "is_valid": True, "timestamp": 1, "counters": [60.0, 30.0, 6.0], "total": self.polls * 60}
            return {"relays": [{"ison": True, "overpower": False}], "meters": [meter], "tmp": {"tC": 30.5, "tF": 86.9, "is_valid": True}}
        if self.gen == 2:
            phases = {f"{p}_{key}": value for p in "abc" for key, value in (("act_power", watts / 3), ("voltage", 230.0), ("current", 0.2))}
            data = {"id": 0, "total_act": 5000.0 + self.polls, "total_act_ret": 1.5, "a_total_act_energy": 1000.0}
            return {"em:0": {"id": 0, "total_act_power": watts, **phases}, "emdata:0": data, "sys": {"uptime": 1}}
        energy = {"total": 913.252 + self.polls, "by_minute": [1.0, 2.0, 3.0], "minute_ts": 1782936360}
        return {"switch:0": {"id": 0, "output": True, "apower": watts, "voltage": 239.7, "freq": 50.0, "aenergy": energy}}

    def admits(self, header, path):
        if self.password is None:
            return True
        if self.gen == 1:
            right = "Basic " + base64.b64encode(f"admin:{self.password}".encode()).decode()
            self.wrong += header is not None and header != right
            return header == right
        if header is None:
            return False
        scheme, _, rest = header.partition(" ")
        fields = {k: q or t for k, q, t in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', rest)}
        sha = lambda *parts: hashlib.sha256(":".join(parts).encode()).hexdigest()
        expected = sha(
            sha("admin", self.realm, self.password),
            fields["nonce"], fields["nc"], fields["cnonce"], fields["qop"],
            sha("GET", path),
        )
        if scheme != "Digest" or fields["uri"] != path or fields["algorithm"] != "SHA-256" or fields["qop"] != "auth":
            self.complaints.append(header)
        if fields["response"] != expected:
            self.wrong += 1
            return False
        used = self.nonces.get(fields["nonce"])
        if used is None or int(fields["nc"], 16) != used + 1:
            self.complaints.append(f"nonce used {used} times before: {header}")
            return False
        self.nonces[fields["nonce"]] = used + 1
        return used < self.uses


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        device = self.server
        with device.lock:
            if self.path == "/shelly":
                return self.say(200, device.identity())
            if self.path != ("/status" if device.gen == 1 else "/rpc/Shelly.GetStatus"):
                return self.say(404, {"code": 404})
            if not device.admits(self.headers["Authorization"], self.path):
                device.challenges += 1
                return self.say(401, None, self.challenge())
            device.polls += 1
            self.say(200, device.status())

    def challenge(self):
        if self.server.gen == 1:
            return f'Basic realm="{self.server.realm}"'
        nonce = f"{1763746991 + len(self.server.nonces)}"
        self.server.nonces[nonce] = 0
        return f'Digest qop="auth", realm="{self.server.realm}", nonce="{nonce}", algorithm=SHA-256'

    def say(self, status, body, challenge=None):
        text = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


def samples(target):
    text, _ = get(f"http://{target}/metrics")
    assert PASSWORD not in text
    families = text_string_to_metric_families(text)
    return {
        (s.name, s.labels.get("device") or s.labels.get("rail"), s.labels.get("channel")): s.value
        for family in families
        for s in family.samples
    }


def main():
    devices = {"gen1": Device(1, PASSWORD), "gen2": Device(2, PASSWORD), "gen3": Device(3), "wrong": Device(3, "another")}
    with temporary() as directory:
        (directory / "password").write_text(PASSWORD + "\n")
        plug = lambda name: {"host": devices[name].host, "name": name, "password_file": str(directory / "password")}
        first, *others = (plug(name) for name in devices)
        # JSON is valid YAML.
        config = {"device_type": "shelly", "interval": 0.5, "shelly": {**first, "devices": others}}
        (directory / "config.yaml").write_text(json.dumps(config))
        arguments = ["--config", directory / "config.yaml", "--path.sysfs", directory, "--path.procfs", directory]
        with exporter(*arguments) as target:
            wait_until("each was polled often", lambda: all(devices[name].polls >= 12 for name in WATTS))
            found = samples(target)
            for name, channel in (("gen1", "meter:0"), ("gen2", "em:0"), ("gen3", "switch:0")):
                assert found["shelly_power_total_watts", name, channel] == WATTS[name], name
                assert found["power_watts", f"{name}/{channel}", None] == WATTS[name], name
                joules = found["energy_joules_total", f"{name}/{channel}", None]
                # One watt-hour for each poll after the first.
                assert joules >= 10 * 3600 and abs(joules / 3600 - round(joules / 3600)) < 1e-6, (name, joules)
                assert found["exporter_source_up", name, None] == 1, name
                assert found["exporter_source_errors_total", name, None] == 0, name
                assert not devices[name].complaints and not devices[name].wrong, devices[name].complaints
            assert found["power_total_watts", None, None] == WATTS["gen1"]
            assert found["shelly_energy_minute_0_mwh", "gen1", "meter:0"] == 1000.0
            assert found["shelly_power_total_watts", "gen2", "em:0/b"] == WATTS["gen2"] / 3
            assert ("power_voltage_volts", None, None) not in found, "this plug measures no voltage"

            assert devices["gen1"].challenges == 1, "Basic goes along unasked"
            assert 2 <= devices["gen2"].challenges <= devices["gen2"].polls / 4, "a nonce serves five times"
            assert found["exporter_source_up", "wrong", None] == 0
            assert devices["wrong"].wrong == 1, "a wrong password is not insisted on"
            print({name: device.polls for name, device in devices.items()}, "polls")


main()
