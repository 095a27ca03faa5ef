"""config-server on a real etcd that has TLS, users and roles: logs in, logs in again, and says it when it may not."""

import json
import urllib.request

from peers import ROOT, ConfigServer, etcd, temporary

CONFIG = {"device_type": "generic", "interval": 1, "metrics": {}}
PASSWORD = "of this test"


class Root:
    """etcd's root, who gives out rights."""

    def __init__(self, address):
        self.address, self.token = address, None

    def ask(self, path, **question):
        headers = {"Content-Type": "application/json"} | ({"Authorization": self.token} if self.token else {})
        request = urllib.request.Request(f"http://{self.address}/v3/{path}", json.dumps(question).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def lock_up(self):
        """Users, of whom `fleet` may do what it wants under /fleet/ and nothing else."""
        for name in ("root", "fleet"):
            self.ask("auth/user/add", name=name, password=PASSWORD)
            self.ask("auth/role/add", name=name)
            self.ask("auth/user/grant", user=name, role=name)
        # From /fleet/ to /fleet0, in base64.
        permission = {"permType": "READWRITE", "key": "L2ZsZWV0Lw==", "range_end": "L2ZsZWV0MA=="}
        self.ask("auth/role/grant", name="fleet", perm=permission)
        self.ask("auth/enable")
        self.token = self.ask("auth/authenticate", name="root", password=PASSWORD)["token"]


def works(server):
    path = "/config/edge-01"
    assert server.ask("PUT", path, CONFIG)[0] == 200
    assert server.ask("GET", path)[1] == CONFIG
    assert [d["device_id"] for d in server.ask("GET", "/devices")[1]["devices"]] == ["edge-01"]
    assert server.ask("DELETE", path)[0] == 200
    assert server.ask("GET", "/health")[0] == 200


def with_users():
    with etcd() as (address, _), temporary() as directory:
        (directory / "password").write_text(PASSWORD + "\n")
        login = directory / "login.yml"
        login.write_text("basic_auth: {username: fleet, password_file: password}\n")
        option = f"--store.http.config.file={login}"
        root = Root(address)
        with ConfigServer(f"etcd://{address}/fleet", option) as server:
            # Without users there is nobody to log in.
            status, answer, _ = server.ask("GET", "/health")
            assert status == 503 and "authentication is not enabled" in answer["message"], answer
            root.lock_up()
            works(server)
            # What changes a user makes all tokens old.
            root.ask("auth/user/add", name="another", password=PASSWORD)
            works(server)
            root.ask("auth/user/changepw", name="fleet", password="another")
            status, answer, _ = server.ask("GET", "/health")
            assert status == 503 and "fleet" in answer["message"] and PASSWORD not in answer["message"], answer
            (directory / "password").write_text("another")
            works(server)
        with ConfigServer(f"etcd://{address}/elsewhere", option) as server:
            status, answer, _ = server.ask("GET", "/health")
            assert status == 503 and "permission denied" in answer["message"], answer
        with ConfigServer(f"etcd://{address}/fleet") as server:
            status, answer, _ = server.ask("GET", "/health")
            assert status == 503 and "user name is empty" in answer["message"], answer
    print("logged in to an etcd with users")


def with_tls():
    certificates = ROOT / "tests/tls"
    with etcd(certificates / "server") as (address, _), temporary() as directory:
        trust = directory / "trust.yml"
        trust.write_text(f"tls_config: {{ca_file: {certificates / 'ca.pem'}}}\n")
        with ConfigServer(f"etcds://{address}/fleet", f"--store.http.config.file={trust}") as server:
            works(server)
        with ConfigServer(f"etcds://{address}/fleet") as server:
            status, answer, _ = server.ask("GET", "/health")
            assert status == 503 and "tls_config.ca_file" in answer["message"], answer
    print("an etcd by TLS is trusted by its authority alone")


def main():
    with_users()
    with_tls()


main()
