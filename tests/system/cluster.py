"""A cluster of three nodes and a board beside it, as series in a real Prometheus, written there by remote write."""

import contextlib
import json
import struct
import subprocess
import threading
import time
import urllib.request

from peers import free_port, get, wait_until

NAMESPACE = "experiment"
NODES = {"node-a": "10.0.0.1", "node-b": "10.0.0.2", "node-c": "10.0.0.3"}
# Pods of the namespace: node, containers. Their ids are as long as real ones.
PODS = {"web-0": ("node-a", ["1" * 64, "2" * 64]), "web-1": ("node-b", ["3" * 64]), "db-0": ("node-b", ["4" * 64])}
OTHER = ("stranger", "elsewhere", "node-a", "5" * 64)


def counter(rate):
    return lambda at: 1000 + rate * (at % 1e6)


def constant(value):
    return lambda at: value


def series():
    """Every series, as (labels, value at a moment)."""
    every = []

    def add(name, value, **labels):
        every.append(({"__name__": name, **labels}, value))

    for number, (node, ip) in enumerate(NODES.items(), 1):
        exporter = {"instance": f"{ip}:9100", "job": "node"}
        for cpu in ("0", "1"):
            add("node_cpu_seconds_total", counter(0.25 * number), cpu=cpu, mode="user", **exporter)
            add("node_cpu_seconds_total", counter(0.125), cpu=cpu, mode="system", **exporter)
            add("node_cpu_seconds_total", counter(0.5), cpu=cpu, mode="idle", **exporter)
        add("node_memory_MemTotal_bytes", constant(8e9), **exporter)
        add("node_memory_MemFree_bytes", constant(1e9 * number), **exporter)
        add("node_memory_Cached_bytes", constant(1e9), **exporter)
        add("node_memory_Buffers_bytes", constant(5e8), **exporter)
        for device in ("eth0", "lo"):
            add("node_network_receive_bytes_total", counter(1e6 * number), device=device, **exporter)
            add("node_network_transmit_bytes_total", counter(5e5), device=device, **exporter)
        add("node_thermal_zone_temp", constant(40 + number), zone="0", type="x", **exporter)
        add("node_uname_info", constant(1), nodename=f"{node}.kernel", **exporter)
        add("kube_node_info", constant(1), node=node, internal_ip=ip, instance="10.42.9.9:8080")
        add("kubelet_working_pods", constant(10 + number), instance=f"{ip}:10250", config="desired", static="")
        # Scaphandre, Kepler: pods of their own, with addresses of their own.
        for name, address in (("scaphandre", f"10.42.{number}.8"), ("kepler", f"10.42.{number}.9")):
            labels = {"pod": f"{name}-{number}", "namespace": "monitoring", "pod_ip": address, "node": node}
            add("kube_pod_info", constant(1), instance="10.42.9.9:8080", **labels)
        scaphandre = {"instance": f"10.42.{number}.8:8080", "job": "scaphandre"}
        add("scaph_host_power_microwatts", constant(20e6 + number * 1e6), **scaphandre)
        process = "scaph_process_power_consumption_microwatts"
        add(process, constant(3e6), pid="1", exe="systemd", container_id="", **scaphandre)
        add(process, constant(0), pid="2", exe="idle", container_id="", **scaphandre)
    # Kepler to 0.9 with all domains, without uncore, and Kepler from 0.10 on.
    for domain, rate in (("core", 5), ("uncore", 1), ("package", 9), ("dram", 2)):
        add(f"kepler_node_{domain}_joules_total", counter(rate), instance="10.42.1.9:9102", mode="dynamic")
    for domain, rate in (("package", 7), ("dram", 3)):
        add(f"kepler_node_{domain}_joules_total", counter(rate), instance="10.42.3.9:9102", mode="dynamic")
    for zone, rate in (("package", 11), ("core", 6), ("dram", 4)):
        labels = {"zone": zone, "node_name": "node-b", "instance": "10.42.2.9:28282"}
        add("kepler_node_cpu_joules_total", counter(rate), path="/sys/x", **labels)
        add("kepler_node_cpu_watts", constant(rate + 0.5), path="/sys/x", **labels)
    add("tapo_total_wattage", constant(33.5), instance="plugs:9333", node="node-a")
    # This exporter, on a node and on a board of its own.
    add("power_total_watts", constant(21.25), instance="10.0.0.2:9100", hostname="node-b.kernel", device_type="x86")
    add("power_total_watts", constant(6.125), instance="192.0.2.7:9100", hostname="edge-01", device_type="jetson_orin")
    for number, (pod, (node, containers)) in enumerate(PODS.items(), 1):
        pods(add, pod, NAMESPACE, node, containers, number)
    pods(add, OTHER[0], OTHER[1], OTHER[2], [OTHER[3]], 9)
    return every


def pods(add, pod, namespace, node, containers, number):
    ip = NODES[node]
    cadvisor = {"namespace": namespace, "pod": pod, "instance": f"{ip}:10250"}
    scaphandre = {"instance": f"10.42.{ip[-1]}.8:8080", "job": "scaphandre"}
    for index, container in enumerate(containers):
        add("container_cpu_usage_seconds_total", counter(0.1 * number), container=f"c{index}", **cadvisor)
        add("container_memory_working_set_bytes", constant(1e8 * (number + index)), container=f"c{index}", **cadvisor)
        process = {"container_id": f"cri-containerd-{container}", "pid": str(number), "exe": "x", **scaphandre}
        if pod == "db-0":
            # Scaphandre with its own labels.
            process["kubernetes_pod_name"] = pod
            process["kubernetes_pod_namespace"] = namespace
            process["kubernetes_node_name"] = node
        add("scaph_process_power_consumption_microwatts", constant(1e6 * number + 1e5), **process)
        info = {"namespace": namespace, "pod": pod, "container": f"c{index}", "container_id": f"containerd://{container}"}
        add("kube_pod_container_info", constant(1), instance="10.42.9.9:8080", **info)
    for direction, rate in (("receive", 3e5), ("transmit", 1e5)):
        add(f"container_network_{direction}_bytes_total", counter(rate * number), interface="eth0", **cadvisor)
    if node == "node-a":
        for domain, rate in (("package", 2), ("core", 1), ("dram", 0.5)):
            labels = {"pod_name": pod, "container_namespace": namespace, "container_name": "c0"}
            add(f"kepler_container_{domain}_joules_total", counter(rate), instance="10.42.1.9:9102", **labels)
    else:
        for zone, rate in (("package", 2.5), ("core", 1.5), ("dram", 0.25)):
            labels = {"pod_name": pod, "pod_namespace": namespace, "zone": zone, "node_name": node, "pod_id": "x"}
            add("kepler_pod_cpu_joules_total", counter(rate), state="running", instance="10.42.2.9:28282", **labels)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def write_request(every, moments):
    """A WriteRequest (remote write 1.0) of each series at these moments, in snappy's block format, all literal."""
    body = bytearray()
    for labels, value in every:
        text = b"".join(
            field(1, field(1, name.encode()) + field(2, labels[name].encode())) for name in sorted(labels)
        )
        for at in moments:
            sample = b"\x09" + struct.pack("<d", value(at)) + b"\x10" + varint(round(at * 1000))
            text += field(2, sample)
        body += field(1, text)
    packed = bytearray(varint(len(body)))
    for start in range(0, len(body), 0x10000):
        piece = body[start : start + 0x10000]
        packed += bytes([61 << 2]) + struct.pack("<H", len(piece) - 1) + piece
    return bytes(packed)


class Prometheus:
    """A Prometheus that scrapes nothing, takes remote writes, and can be stopped and started again."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "prometheus.yml").write_text(json.dumps({"scrape_configs": []}))
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self.process = None

    def start(self):
        command = [
            "prometheus",
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--web.enable-remote-write-receiver",
            "--log.level=error",
        ]
        self.process = subprocess.Popen(command)
        wait_until("Prometheus is ready", lambda: get(f"{self.url}/-/ready"))

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def write(self, every, moments):
        headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "snappy",
            "X-Prometheus-Remote-Write-Version": "0.1.0",
        }
        request = urllib.request.Request(f"{self.url}/api/v1/write", write_request(every, moments), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 204, answer.status

    def feed_past(self, every, seconds=180, step=5):
        """The last minutes, up to now. Returns the last moment."""
        now = round(time.time(), 3)
        moments = [now - back for back in range(seconds, -1, -step)]
        self.write(every, moments)
        return moments[-1]

    @contextlib.contextmanager
    def fed(self, every, interval=1.0):
        """Fed from now on, in a thread; what cannot be written while Prometheus is down is lost, as it would be."""
        stopped = threading.Event()

        def feed():
            while not stopped.wait(interval):
                with contextlib.suppress(OSError):
                    self.write(every, [round(time.time(), 3)])

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join()
