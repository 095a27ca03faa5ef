"""200 WebSockets, 20 of which do not read: the others get every row; memory and threads stay bounded; who is too slow
is told so."""

import asyncio
import json
import pathlib
import socket
import struct

import cluster
import websockets.asyncio.client

from peers import collector, get, temporary, wait_until

READING, IDLE, BOARDS = 180, 20, 60
CONFIG = """
interval: 1
# Five rounds: what is behind by more is lost.
keep: {nodes: 300}
streams: {clients: 210, patience: 60}
queries:
  nodes: {%s}
  pods: {%s}
  names: {nodes: off, containers: off}
"""


def config(directory):
    """One query, so that a round is quick and a row is short."""
    nodes = ["cpu_usage", "memory_usage", "network_usage", "num_processes", "kepler_wattage", "scaph_wattage"]
    nodes += ["wattage_auxilary", "temperature"]
    pods = ["cpu_usage", "memory_usage", "network_usage", "wattage_kepler", "wattage_scaph"]
    off = lambda names: ", ".join(f"{name}: off" for name in names)
    path = directory / "collector.yaml"
    path.write_text(CONFIG % (off(nodes), off(pods)))
    return path


def boards():
    labels = lambda n: {"__name__": "power_total_watts", "hostname": f"board-{n:03}" + "x" * 40, "instance": f"b{n}:9100"}
    return [(labels(n), cluster.constant(n + 0.5)) for n in range(BOARDS)]


def idle_client(address):
    """A WebSocket whose owner never reads, with as little buffer as there can be."""
    host, port = address.split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect((host, int(port)))
    client.sendall(
        f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    return client


def everything(client):
    """All frames of a client that reads after all: the rows, and the close code."""
    data = bytearray()
    while chunk := client.recv(65536):
        data += chunk
        frames = list(parse(data[data.index(b"\r\n\r\n") + 4 :]))
        if frames and frames[-1][0] == 8:
            break
    assert data.startswith(b"HTTP/1.1 101 "), bytes(data[:100])
    rows = [payload.decode() for opcode, payload in frames if opcode == 1]
    return rows, struct.unpack(">H", frames[-1][1][:2])[0], frames[-1][1][2:].decode()


def parse(data):
    while len(data) >= 2:
        opcode, length, start = data[0] & 15, data[1], 2
        if length == 126:
            length, start = struct.unpack(">H", data[2:4])[0], 4
        if len(data) < start + length:
            return
        yield opcode, bytes(data[start : start + length])
        data = data[start + length :]


async def reading(address, everybodys, enough):
    async with websockets.asyncio.client.connect(f"ws://{address}/metrics/nodes") as socket:
        messages = []
        everybodys.append(messages)
        async for message in socket:
            messages.append(message)
            if enough.is_set():
                return


def status(process, name):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(f"{name}:")).split()[1])


def ended(address, reason):
    text, _ = get(f"http://{address}/metrics/self")
    line = next(line for line in text.splitlines() if f'ended_total{{reason="{reason}"}}' in line)
    return int(line.rsplit(" ", 1)[1])


async def crowd(address, process):
    everybodys, enough = [], asyncio.Event()
    before = status(process, "VmRSS")
    idle = [await asyncio.to_thread(idle_client, address) for _ in range(IDLE)]
    tasks = [asyncio.create_task(reading(address, everybodys, enough)) for _ in range(READING)]
    health = lambda: json.loads(get(f"http://{address}/health")[0])
    await asyncio.to_thread(wait_until, "all are there", lambda: health()["streams"] == READING + IDLE)
    most = [0, 0]
    # Until those who do not read have been found out.
    while await asyncio.to_thread(ended, address, "slow") < IDLE:
        assert min(map(len, everybodys)) < 100 * BOARDS, "nobody is found to be slow"
        await asyncio.sleep(0.2)
        most = [max(most[0], status(process, "VmRSS")), max(most[1], status(process, "Threads"))]
    enough.set()
    await asyncio.gather(*tasks)
    print(f"{READING + IDLE} streams: {most[0]} kB resident ({before} kB without them), {most[1]} threads")
    assert most[1] <= 12, most
    assert most[0] - before < 32 * 1024, most
    return everybodys, idle


def main():
    with temporary() as directory, cluster.Prometheus(directory) as prometheus:
        every = boards()
        prometheus.feed_past(every, seconds=5)
        arguments = ["--prometheus.url", prometheus.url, "--config", config(directory)]
        with prometheus.fed(every), collector(*arguments) as (address, process):
            everybodys, idle = asyncio.run(crowd(address, process))
            assert len(everybodys) == READING
            header = everybodys[0][0]
            longest = max(everybodys, key=len)
            for messages in everybodys:
                rows = messages[1:]
                assert messages[0] == header and len(set(rows)) == len(rows)
                start = longest.index(rows[0])
                assert rows[: len(longest) - start] == longest[start : start + len(rows)], "a row is missing or twice"
            print(f"{READING} readers: {len(longest) - 1} rows each, none missing, none twice")
            for client in idle:
                rows, code, reason = everything(client)
                assert rows[0] == header and rows[1:] == longest[longest.index(rows[1]) :][: len(rows) - 1]
                assert code == 1013 and "rows are lost" in reason, (code, reason)
                client.close()
            print(f"{IDLE} that did not read: {len(rows) - 1} rows, then 1013: {reason}")
            wait_until("all are gone", lambda: json.loads(get(f"http://{address}/health")[0])["streams"] == 0)
            assert ended(address, "slow") == IDLE and ended(address, "left") == READING


main()
