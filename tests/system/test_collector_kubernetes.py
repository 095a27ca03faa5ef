"""The collector in Kubernetes: its manifests, rendered, do not have the faults that the original's had; and the pods of
Scaphandre's containers are learned from the API, by TLS, with the service account's token."""

import csv
import http.server
import io
import json
import pathlib
import shutil
import ssl
import subprocess
import threading
import urllib.parse

import cluster
import yaml

from peers import ROOT, collector, get, temporary, wait_until

MANIFESTS = ROOT / "deploy/kubernetes/collector"


def rendered(directory):
    text = subprocess.run(["kubectl", "kustomize", directory], check=True, capture_output=True, text=True).stdout
    documents = list(yaml.safe_load_all(text))
    found = {document["kind"]: document for document in documents}
    assert len(found) == len(documents), text
    return found


def check_manifests(found, namespace):
    assert all(document["metadata"]["namespace"] == namespace for document in found.values())
    # The service finds the pods.
    deployment, service = found["Deployment"], found["Service"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (container,) = pod["spec"]["containers"]
    (port,) = service["spec"]["ports"]
    assert port["port"] == 8000
    assert {"name": port["targetPort"], "containerPort": 8000} in container["ports"]
    # The environment comes from the ConfigMap, and its keys are names of variables.
    (reference,) = container["envFrom"]
    config = found["ConfigMap"]
    assert reference["configMapRef"]["name"] == config["metadata"]["name"]
    assert set(config["data"]) == {"PROMETHEUSSERVER", "UPDATE_INTERVAL"}
    # Least rights: to list pods, in this namespace.
    assert "ClusterRole" not in found and "ClusterRoleBinding" not in found
    assert found["Role"]["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    binding = found["RoleBinding"]
    assert binding["roleRef"]["name"] == found["Role"]["metadata"]["name"]
    account = found["ServiceAccount"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    assert pod["spec"]["serviceAccountName"] == account
    # Nobody in particular, who can write nothing.
    assert pod["spec"]["securityContext"]["runAsNonRoot"] and pod["spec"]["securityContext"]["runAsUser"] > 0
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": "128Mi"}
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert container["args"] == ["collect"]
    return container["image"], config["data"]


def manifests(directory):
    image, data = check_manifests(rendered(MANIFESTS), "default")
    assert image == "edge-metrics-exporter:0.1.0"
    assert data["PROMETHEUSSERVER"] == "http://metrics-prometheus-server.prometeus.svc"
    # The three parameters are all in the one file.
    copy = directory / "collector"
    shutil.copytree(MANIFESTS, copy)
    file = copy / "kustomization.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["namespace"] = "st-cnae-g5"
    settings["images"][0] |= {"newName": "registry.example/team/exporter", "newTag": "9.9"}
    settings["configMapGenerator"][0]["literals"][0] = "PROMETHEUSSERVER=http://prometheus:9090"
    file.write_text(yaml.safe_dump(settings))
    image, data = check_manifests(rendered(copy), "st-cnae-g5")
    assert image == "registry.example/team/exporter:9.9"
    assert data["PROMETHEUSSERVER"] == "http://prometheus:9090"
    print("the manifests are rendered, and have none of the original's faults")


class Api(http.server.BaseHTTPRequestHandler):
    """The pods of the namespace, in pages of one, for whoever has the token."""

    token = "first"
    protocol_version = "HTTP/1.1"
    asked = 0

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        Api.asked += 1
        if self.headers["Authorization"] != f"Bearer {Api.token}":
            return self.answer(403, {"kind": "Status", "message": "pods is forbidden: User cannot list"})
        if url.path != f"/api/v1/namespaces/{cluster.NAMESPACE}/pods":
            return self.answer(404, {"kind": "Status", "message": "no such thing"})
        page = int(query.get("continue", "page 0").split()[1])
        name, (node, containers) = list(cluster.PODS.items())[page]
        statuses = [{"name": "c", "containerID": f"containerd://{container}"} for container in containers]
        pod = {"metadata": {"name": name}, "spec": {"nodeName": node}, "status": {"containerStatuses": statuses}}
        more = f"page {page + 1}" if page + 1 < len(cluster.PODS) else ""
        self.answer(200, {"kind": "PodList", "metadata": {"continue": more}, "items": [pod]})

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ROOT / "tests/tls/server.pem", ROOT / "tests/tls/server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def service_account(directory):
    account = directory / "serviceaccount"
    account.mkdir()
    (account / "token").write_text("first")
    (account / "namespace").write_text(cluster.NAMESPACE)
    shutil.copy(ROOT / "tests/tls/ca.pem", account / "ca.crt")
    return account


def watts(address):
    text, _ = get(f"http://{address}/pods?size=3")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert all(row["namespace"] == cluster.NAMESPACE for row in rows)
    return {row["name"]: row["wattage_scaph"] for row in rows}


def pods_by_the_api(directory, prometheus):
    # Nobody in Prometheus says which pod a container is in, but for the one of which Scaphandre does.
    every = [(labels, value) for labels, value in cluster.series() if labels["__name__"] != "kube_pod_container_info"]
    prometheus.feed_past(every)
    account = service_account(directory)
    config = directory / "collector.yaml"
    config.write_text(f"interval: 0.5\nkubernetes: {{service_account: {account}}}\n")
    server = api()
    environment = {
        "PROMETHEUSSERVER": prometheus.url,
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.server_port),
    }
    expected = {"db-0": "3.1", "web-0": "2.2", "web-1": "2.1"}
    with collector("--config", config, environment=environment) as (address, _):
        wait_until("pods have Scaphandre's watts", lambda: watts(address) == expected)
        health = lambda: json.loads(get(f"http://{address}/health")[0])
        # The token is replaced, as Kubernetes does from time to time.
        Api.token = "second"
        wait_until("the old one is refused", lambda: "names.kubernetes" in health()["failing"])
        trouble = health()["failing"]["names.kubernetes"]
        assert "status 403: pods is forbidden" in trouble and "needs a role" in trouble, trouble
        # A container is in one pod for ever: who was learned before still comes, round after round.
        asked = Api.asked
        wait_until("it was asked again", lambda: Api.asked > asked + 3)
        assert "names.kubernetes" in health()["failing"]
        assert watts(address) == expected
        (account / "token").write_text("second")
        wait_until("the new one is taken", lambda: watts(address) == expected)
        wait_until("it is well", lambda: health()["status"] == "healthy")
    server.shutdown()
    print(f"pods by the Kubernetes API: {expected}, after {Api.asked} requests")


def main():
    with temporary() as directory, cluster.Prometheus(pathlib.Path(directory)) as prometheus:
        manifests(directory)
        pods_by_the_api(directory, prometheus)


main()
