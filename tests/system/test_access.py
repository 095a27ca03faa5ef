"""The web configuration with real peers: Prometheus scrapes with a password and a certificate, curl and promtool agree,
and node_exporter gives the same responses with the same file. Where node_exporter has the exporter's port, it is named."""

import json
import subprocess

from peers import BINARY, ROOT, exporter, free_port, prometheus, query, running, temporary, wait_until

TLS = ROOT / "tests/tls"
PASSWORD = "open sesame"


def web_config(directory, client_auth="RequireAndVerifyClientCert"):
    made = subprocess.run(["htpasswd", "-nbBC", "10", "alice", PASSWORD], check=True, capture_output=True, text=True)
    config = {
        "tls_server_config": {
            "cert_file": str(TLS / "server.pem"),
            "key_file": str(TLS / "server.key"),
            "client_auth_type": client_auth,
            "client_ca_file": str(TLS / "ca.pem"),
            "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            "curve_preferences": ["X25519", "CurveP256"],
        },
        "http_server_config": {"headers": {"X-Frame-Options": "deny", "X-XSS-Protection": "0"}},
        "basic_auth_users": dict([made.stdout.strip().split(":")]),
    }
    path = directory / "web.yml"
    # JSON is valid YAML.
    path.write_text(json.dumps(config))
    return path


def curl(address, *arguments, certificate="named", scheme="https"):
    """The status and the relevant headers; status 0: there was no response."""
    command = ["curl", "--silent", "--max-time", "20", "--cacert", TLS / "ca.pem", "-o", "/dev/null", "-D", "-"]
    if certificate:
        command += ["--cert", TLS / f"{certificate}.pem", "--key", TLS / f"{certificate}.key"]
    done = subprocess.run([*command, *arguments, f"{scheme}://{address}/metrics"], capture_output=True, text=True)
    lines = done.stdout.splitlines()
    status = int(lines[0].split()[1]) if lines else 0
    headers = dict(line.split(": ", 1) for line in lines if ": " in line)
    names = {name.lower(): value.strip() for name, value in headers.items()}
    scheme = names.get("www-authenticate", "").split(" ")[0]
    return status, scheme, names.get("x-frame-options"), names.get("x-xss-protection")


def scrapes(target):
    job = {"scheme": "https", "static_configs": [{"targets": [target]}], "metrics_path": "/metrics"}
    certificate = lambda name: {"ca_file": str(TLS / "ca.pem"), "cert_file": str(TLS / f"{name}.pem"), "key_file": str(TLS / f"{name}.key")}
    login = lambda password: {"username": "alice", "password": password}
    good = {"tls_config": certificate("named"), "basic_auth": login(PASSWORD)}
    jobs = [
        {"job_name": "good", **job, **good},
        {"job_name": "good-http2", **job, **good, "enable_http2": True},
        {"job_name": "wrong-password", **job, **good, "basic_auth": login("guess")},
        {"job_name": "wrong-certificate", **job, **good, "tls_config": certificate("stranger")},
        {"job_name": "no-certificate", **job, **good, "tls_config": {"ca_file": str(TLS / "ca.pem")}},
        {"job_name": "plain", **job, "scheme": "http"},
    ]
    with prometheus(None, jobs=jobs) as url:
        wait_until("the good ones are up", lambda: len(query(url, "up == 1")) == 2)
        # Each target has been scraped several times.
        wait_until("all are scraped", lambda: len(query(url, "count_over_time(up[1m]) > 8")) == len(jobs))
        up = {result["metric"]["job"]: result["value"][1] for result in query(url, "up")}
        assert up == {job["job_name"]: "1" if job["job_name"].startswith("good") else "0" for job in jobs}, up
        worst = query(url, 'min_over_time(up{job=~"good.*"}[1m])')
        assert all(result["value"][1] == "1" for result in worst), "a good scrape failed beside the others"
        assert query(url, 'exporter_build_info{job="good"}'), "nothing was scraped"


def requests():
    """The requests that both exporters get, by name."""
    password = lambda user, password: ("--user", f"{user}:{password}")
    return {
        "right": (password("alice", PASSWORD), {}),
        "wrong": (password("alice", "guess"), {}),
        "unknown": (password("bob", PASSWORD), {}),
        "empty": (password("", ""), {}),
        "none": ((), {}),
        "another scheme": (("-H", "Authorization: Digest x"), {}),
        "not base64": (("-H", "Authorization: Basic !"), {}),
        "no colon": (("-H", "Authorization: Basic YWxpY2U="), {}),
        "scheme in capitals": (("-H", "Authorization: BASIC YWxpY2U6b3BlbiBzZXNhbWU="), {}),
        "TLS 1.2": ((*password("alice", PASSWORD), "--tls-max", "1.2"), {}),
        "another cipher suite": ((*password("alice", PASSWORD), "--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"), {}),
        "no certificate": (password("alice", PASSWORD), {"certificate": None}),
        "another certificate": (password("alice", PASSWORD), {"certificate": "client"}),
        "a certificate of others": (password("alice", PASSWORD), {"certificate": "stranger"}),
        "an expired certificate": (password("alice", PASSWORD), {"certificate": "expired"}),
        "plain": ((), {"scheme": "http"}),
    }


def beside_node_exporter(directory, ours, web):
    theirs = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus-node-exporter",
        "--collector.disable-defaults",
        f"--web.config.file={web}",
        f"--web.listen-address={theirs}",
    ]
    with open(directory / "node_exporter.log", "w") as log, running(command, stderr=log):
        wait_until("node_exporter answers", lambda: curl(theirs, "--user", f"alice:{PASSWORD}")[0] == 200)
        differing = {}
        for name, (arguments, options) in requests().items():
            found, expected = curl(ours, *arguments, **options), curl(theirs, *arguments, **options)
            print(f"{name}: {found}")
            if found != expected:
                differing[name] = (found, expected)
        assert not differing, f"(ours, node_exporter's): {differing}"


def port_of_node_exporter(directory):
    """Where node_exporter has the port, the error and doctor name the process and another port."""
    port = free_port()
    command = ["prometheus-node-exporter", "--collector.disable-defaults", f"--web.listen-address=127.0.0.1:{port}"]
    with open(directory / "node_exporter_port.log", "w") as log, running(command, stderr=log) as node_exporter:
        wait_until("node_exporter answers", lambda: curl(f"127.0.0.1:{port}", scheme="http")[0] == 200)
        who = f"prometheus-node-exporter, process {node_exporter.pid}"
        address = f"127.0.0.1:{port}"
        arguments = ["--web.listen-address", address, "--web.management-address", "127.0.0.1:0"]
        refused = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60)
        print(refused.stderr)
        assert refused.returncode == 1, refused.returncode
        assert f"{who}, has the port" in refused.stderr and f"such as :{port + 10}" in refused.stderr, refused.stderr
        config = directory / "port.yaml"
        config.write_text(f"port: {port}\n")
        doctor = subprocess.run([BINARY, "doctor", "--config", config], capture_output=True, text=True, timeout=60)
        said = f"port {port} is node_exporter's here ({who}): `port: {port + 10}`"
        assert said in " ".join(doctor.stdout.split()), doctor.stdout


def checks(directory, web):
    """promtool and check-config agree."""
    good = web.read_text()
    texts = {
        "good": good,
        "no key": json.dumps({"tls_server_config": {"cert_file": str(TLS / "server.pem")}}),
        "no such file": good.replace("server.pem", "missing.pem"),
        "not the key": good.replace("server.key", "client.key"),
        "an unknown key": good.replace('"cipher_suites"', '"cipher_suite"'),
        "no such suite": good.replace("GCM_SHA256", "GCM_SHA255"),
        "no such curve": good.replace("CurveP256", "CurveP257"),
        "no such way": good.replace("RequireAndVerifyClientCert", "Require"),
        "no such header": good.replace("X-Frame-Options", "X-Frame"),
        "no such value": good.replace('"deny"', '"allow"'),
        "no hash": json.dumps({"basic_auth_users": {"alice": PASSWORD}}),
        "empty": "",
        "nonsense": "[",
    }
    for name, text in texts.items():
        file = directory / "checked.yml"
        file.write_text(text)
        theirs = subprocess.run(["promtool", "check", "web-config", file], capture_output=True, text=True)
        ours = subprocess.run(
            [BINARY, "check-config", "/dev/null", "--web.config.file", file], capture_output=True, text=True
        )
        told = ours.stdout + ours.stderr
        assert (theirs.returncode == 0) == (ours.returncode == 0), f"{name}: {theirs.stderr} {told}"
        assert PASSWORD not in told, told


def main():
    with temporary() as directory:
        web = web_config(directory)
        checks(directory, web)
        port_of_node_exporter(directory)
        with exporter("--path.sysfs=/nonexistent", f"--web.config.file={web}") as ours:
            # The password is checked once, and cached.
            assert curl(ours, "--user", f"alice:{PASSWORD}")[0] == 200
            beside_node_exporter(directory, ours, web)
            scrapes(ours)


main()
