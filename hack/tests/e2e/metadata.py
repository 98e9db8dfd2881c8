# SPDX-License-Identifier: Apache-2.0
"""The metadata services of clouds, each as its public documentation has it: sessions, headers, paths, and what it refuses.

Usage: metadata.py CLOUD FOLDER [ADDRESS PORT [CERTIFICATE]]. With an address it listens there, with TLS if it has a
certificate (PEM with its key); without, it serves one connection on standard input and output, as QEMU starts it for each.

The folder holds `user-data`, and gets `asked`, a line for each request, and `told`, what the machine said when it was up. A
file `trouble` in it holds words: `starting` (the first request of all gets an error, as services that are only just starting
give), `slow` (a byte a second), `garbage` (no HTTP), `huge` (without an end), `elsewhere` (a redirect to somebody else), `broken`
(always an error), `empty` (no user-data).
"""

import base64
import json
import pathlib
import socket
import ssl
import sys
import time

CLOUD = sys.argv[1]
FOLDER = pathlib.Path(sys.argv[2])
SESSION = "AQAEAHk2"
IMDS = "?api-version=2021-01-01&format=text"

# What each has: the path of the user-data, a prefix and what is below it as plain text, JSON by path, headers that each
# request needs, and for sessions the path, the header that asks and the one that says.
CLOUDS = {
    "aws": {
        "user_data": "/2019-10-01/user-data",
        "texts": (
            "/2021-01-03/meta-data/",
            {
                "instance-id": "i-0123456789abcdef0",
                "placement/region": "eu-central-1",
                "placement/availability-zone": "eu-central-1a",
                "instance-type": "m7i.large",
            },
        ),
        "session": (
            "/latest/api/token",
            "x-aws-ec2-metadata-token-ttl-seconds",
            "x-aws-ec2-metadata-token",
        ),
    },
    "akamai": {
        "user_data": "/v1/user-data",
        "encoded": True,
        "json": {"/v1/instance": {"id": 12345678, "label": "web", "region": "us-iad", "type": "g6-standard-1"}},
        "session": ("/v1/token", "metadata-token-expiry-seconds", "metadata-token"),
    },
    "alibaba": {
        "user_data": "/latest/user-data",
        "texts": ("/latest/meta-data/", {"instance-id": "i-bp13z", "region-id": "cn-hangzhou", "zone-id": "cn-hangzhou-i"}),
        "session": (
            "/latest/api/token",
            "x-aliyun-ecs-metadata-token-ttl-seconds",
            "x-aliyun-ecs-metadata-token",
        ),
    },
    "azure": {
        "user_data": "/metadata/instance/compute/userData" + IMDS,
        "encoded": True,
        "texts": (
            "/metadata/instance/compute/",
            {"vmId" + IMDS: "02aab8a4-74ef", "name" + IMDS: "web", "location" + IMDS: "westus", "zone" + IMDS: ""},
        ),
        "headers": {"metadata": "true"},
    },
    "cloudstack": {
        "user_data": "/latest/user-data",
        "texts": ("/latest/meta-data/", {"instance-id": "f3e6c1d2", "local-hostname": "web", "availability-zone": "Zone1"}),
    },
    "digitalocean": {
        "user_data": "/metadata/v1/user-data",
        "texts": ("/metadata/v1/", {"id": "2756294", "hostname": "web", "region": "nyc3"}),
    },
    "equinix": {
        "user_data": "/userdata",
        "json": {
            "/metadata": {
                "id": "5de2fa5a",
                "hostname": "web",
                "metro": "am",
                "facility": "am6",
                "plan": "c3.small.x86",
                "network": {"addresses": [{"address": "198.51.100.7"}]},
                "phone_home_url": "https://metadata.platformequinix.com/phone-home",
            }
        },
        "check_in": ("POST", "/phone-home"),
    },
    "exoscale": {
        "user_data": "/1.0/user-data",
        "texts": ("/1.0/meta-data/", {"instance-id": "587a3e8f", "local-hostname": "web", "availability-zone": "ch-gva-2"}),
    },
    "gcp": {
        "user_data": "/computeMetadata/v1/instance/attributes/user-data",
        "texts": ("/computeMetadata/v1/instance/", {"id": "4567890123", "hostname": "web.c.p.internal", "zone": "projects/1/zones/europe-west1-b"}),
        "headers": {"metadata-flavor": "Google"},
    },
    "hetzner": {
        "user_data": "/hetzner/v1/userdata",
        "texts": (
            "/hetzner/v1/metadata/",
            {
                "instance-id": "42",
                "hostname": "web",
                "region": "eu-central",
                "availability-zone": "fsn1-dc14",
                "network-config": "config:\n- mac_address: 52:54:00:12:34:56\n  name: eth0\n  subnets:\n"
                "  - ipv4: true\n    type: dhcp\n  - address: 2001:db8:c0c:1::1/64\n    ipv6: true\n"
                "    type: static\n  type: physical\nversion: 1\n",
            },
        ),
    },
    "openstack": {
        "user_data": "/openstack/latest/user_data",
        "texts": ("/latest/meta-data/", {"instance-id": "i-00000001", "hostname": "web.novalocal", "placement/availability-zone": "nova"}),
    },
    "oracle": {
        "user_data": "/opc/v2/instance/metadata/user_data",
        "encoded": True,
        "texts": ("/opc/v2/instance/", {"id": "ocid1.instance.oc1.phx.a", "hostname": "web", "canonicalRegionName": "us-phoenix-1"}),
        "headers": {"authorization": "Bearer Oracle"},
    },
    "scaleway": {
        "user_data": "/user_data/cloud-init",
        "json": {
            "/conf?format=json": {
                "id": "4fbc0d1b",
                "hostname": "web",
                "commercial_type": "DEV1-S",
                "location": {"zone_id": "par1"},
                "public_ip": {"address": "198.51.100.8"},
            }
        },
        "low_port": True,
        "check_in": ("PATCH", "/state"),
    },
    "upcloud": {
        "user_data": "/metadata/v1/user_data",
        "texts": ("/metadata/v1/", {"instance_id": "00f1a0ce", "hostname": "web", "region": "de-fra1"}),
    },
    "vultr": {
        "user_data": "/user-data/user-data",
        "texts": ("/v1/", {"instance-v2-id": "a747bfz6", "hostname": "web", "region/regioncode": "EWR"}),
    },
    # The other service of Azure, at 168.63.129.16.
    "wireserver": {"check_in": ("POST", "/machine/?comp=health"), "headers": {"x-ms-version": "2012-11-30"}},
}
GOAL = """<?xml version="1.0" encoding="utf-8"?>
<GoalState xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Version>2012-11-30</Version><Incarnation>1</Incarnation>
<Machine><ExpectedState>Started</ExpectedState></Machine><Container><ContainerId>c6d5526c-5ac2</ContainerId>
<RoleInstanceList><RoleInstance><InstanceId>2b3f4c11._web</InstanceId><State>Started</State></RoleInstance></RoleInstanceList>
</Container></GoalState>"""


class Connection:
    """One connection: what is read, what is written, and from which port it came, if that is known."""

    def __init__(self, reader, writer, port=0):
        self.reader, self.writer, self.port = reader, writer, port

    def request(self):
        line = self.reader.readline().decode(errors="replace").split()
        if len(line) != 3:
            return None
        headers = {}
        while (header := self.reader.readline().decode(errors="replace").strip()) != "":
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = self.reader.read(int(headers.get("content-length", 0)))
        return line[0], line[1], headers, body

    def write(self, data):
        self.writer.write(data)
        self.writer.flush()

    def answer(self, status, body=b"", more=""):
        head = f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        self.write(head.encode() + body)


def trouble(connection):
    """Whether the request had no better answer than trouble."""
    file = FOLDER / "trouble"
    words = file.read_text().split() if file.exists() else []
    started = FOLDER / "started"
    if "starting" in words and not started.exists():
        started.touch()
        connection.answer("503 Service Unavailable")
    elif "broken" in words:
        connection.answer("500 Internal Server Error")
    elif "garbage" in words:
        connection.write(b"\0\xff\r\n\r\nHTTP/9 what?\r\n\r\n")
    elif "elsewhere" in words:
        connection.answer("302 Found", more="Location: http://192.0.2.1/\r\n")
    elif "huge" in words:
        connection.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while True:
            connection.write(b"x" * 65536)
    elif "slow" in words:
        connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.write(b"x")
            time.sleep(1)
    else:
        return False
    return True


def user_data(cloud):
    file = FOLDER / "trouble"
    if file.exists() and "empty" in file.read_text().split():
        return None
    data = (FOLDER / "user-data").read_bytes()
    return base64.b64encode(data) if cloud.get("encoded") else data


def serve(connection, method, path, headers, body):
    cloud = CLOUDS[CLOUD]
    with (FOLDER / "asked").open("a") as asked:
        print(method, path, connection.port, file=asked)
    if trouble(connection):
        return None
    if cloud.get("low_port") and connection.port >= 1024:
        return connection.answer("403 Forbidden")
    if "session" in cloud:
        place, asks, says = cloud["session"]
        if (method, path) == ("PUT", place):
            seconds = headers.get(asks, "")
            good = seconds.isdigit() and 1 <= int(seconds) <= 21600 and "x-forwarded-for" not in headers
            return connection.answer("200 OK", SESSION.encode()) if good else connection.answer("400 Bad Request")
        if headers.get(says) != SESSION:
            return connection.answer("401 Unauthorized")
    if any(headers.get(name) != value for name, value in cloud.get("headers", {}).items()):
        return connection.answer("400 Bad Request")
    if (method, path) == cloud.get("check_in"):
        (FOLDER / "told").write_bytes(body)
        return connection.answer("200 OK")
    if method != "GET":
        return connection.answer("405 Method Not Allowed")
    if CLOUD == "wireserver" and path == "/machine/?comp=goalstate":
        return connection.answer("200 OK", GOAL.encode())
    if path == cloud.get("user_data") and (data := user_data(cloud)) is not None:
        return connection.answer("200 OK", data)
    if path in cloud.get("json", {}):
        if CLOUD == "akamai" and headers.get("accept") != "application/json":
            return connection.answer("200 OK", b"id: 12345678\n")
        return connection.answer("200 OK", json.dumps(cloud["json"][path]).encode())
    prefix, texts = cloud.get("texts", ("", {}))
    text = texts.get(path.removeprefix(prefix))
    return connection.answer("404 Not Found") if text is None else connection.answer("200 OK", text.encode())


def converse(connection):
    try:
        while (asked := connection.request()) is not None:
            serve(connection, *asked)
    except OSError:
        pass  # Whoever asked has left.


def listen(address, port, certificate=None):
    family, *_, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    with socket.create_server(place, family=family) as server:
        while True:
            stream, peer = server.accept()
            try:
                if certificate:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(certificate)
                    stream = context.wrap_socket(stream, server_side=True)
            except ssl.SSLError:
                continue  # Whoever asked does not believe the certificate.
            with stream:
                converse(Connection(stream.makefile("rb"), stream.makefile("wb"), peer[1]))


if len(sys.argv) > 3:
    listen(sys.argv[3], int(sys.argv[4]), *sys.argv[5:6])
else:
    converse(Connection(sys.stdin.buffer, sys.stdout.buffer))
