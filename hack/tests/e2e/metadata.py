# SPDX-License-Identifier: Apache-2.0
"""The metadata services of clouds, each as its public documentation has it: sessions, headers, paths, and what it refuses.

Usage: metadata.py CLOUD FOLDER [ADDRESS PORT [CERTIFICATE]]. With an address it listens there, with TLS if it has a
certificate (PEM with its key); without, it serves one connection on standard input and output, as QEMU starts it for each.

The folder holds `user-data`, and `hostname` if the machine is to have a name of its own, and gets `asked`, a line for each request, and `told`, what the machine said when it was up. A
file `trouble` in it holds words: `starting` (the first request of all gets an error, as services that are only just starting
give), `slow` (a byte a second), `garbage` (no HTTP), `huge` (without an end), `elsewhere` (a redirect to somebody else), `broken`
(always an error), `empty` (no user-data), `absent` (the first request of all finds nothing), `busy` (the second request of all is one too many).
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
GCE = "/computeMetadata/v1/instance/"


PUBLIC = {"10.144.133.4": "198.51.100.14", "10.144.133.6": "198.51.100.16"}


def named(name):
    file = FOLDER / "hostname"
    return file.read_text().strip() if file.exists() else name



# What each has: the path of the user-data, a prefix and what is below it as plain text, JSON by path, headers that each
# request needs, and for sessions the path, the header that asks and the one that says.
CLOUDS = {
    "aws": {
        "user_data": "/2019-10-01/user-data",
        "texts": (
            "/2021-01-03/meta-data/",
            {
                "instance-id": "i-0123456789abcdef0",
                "hostname": named("ip-10-0-0-7.eu-central-1.compute.internal"),
                "placement/region": "eu-central-1",
                "placement/availability-zone": "eu-central-1a",
                "instance-type": "m7i.large",
                "public-ipv4": "198.51.100.5",
                "network/interfaces/macs/": "52:54:00:12:34:56/\n52:54:00:12:34:57/",
                "network/interfaces/macs/52:54:00:12:34:56/public-ipv4s": "198.51.100.5\n198.51.100.6",
                "tags/instance/": "Name\nowner",
                "tags/instance/Name": "web one",
                "tags/instance/owner": "ops",
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
        "json": {
            "/v1/instance": {
                "id": 12345678,
                "label": named("web"),
                "region": "us-iad",
                "type": "g6-standard-1",
                "tags": ["blue", "web"],
            },
            "/v1/network": {
                "interfaces": [],
                "ipv4": {"public": ["198.51.100.10/32", "198.51.100.11/32"], "private": ["192.168.1.2/17"], "shared": []},
                "ipv6": {"slaac": "2001:db8::10/128", "link_local": "fe80::10/128", "ranges": [], "shared_ranges": []},
            },
        },
        "session": ("/v1/token", "metadata-token-expiry-seconds", "metadata-token"),
    },
    "alibaba": {
        "user_data": "/latest/user-data",
        "texts": (
            "/latest/meta-data/",
            {
                "instance-id": "i-bp13z",
                "hostname": named("web"),
                "region-id": "cn-hangzhou",
                "zone-id": "cn-hangzhou-i",
                "instance/instance-type": "ecs.g6.large",
                "eipv4": "198.51.100.12",
            },
        ),
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
            {
                "vmId" + IMDS: "02aab8a4-74ef",
                "name" + IMDS: named("web"),
                "location" + IMDS: "westus",
                "zone" + IMDS: "",
                "vmSize" + IMDS: "Standard_A3",
                "tags" + IMDS: "owner:ops;role:web",
            },
        ),
        "json": {
            "/metadata/instance/network?api-version=2021-01-01": {
                "interface": [
                    {
                        "ipv4": {
                            "ipAddress": [
                                {"privateIpAddress": address, "publicIpAddress": PUBLIC.get(address, "")} for address in addresses
                            ],
                            "subnet": [{"address": "10.144.133.0", "prefix": "24"}],
                        },
                        "ipv6": {"ipAddress": [{"privateIpAddress": address} for address in ipv6]},
                        "macAddress": mac,
                    }
                    for mac, addresses, ipv6 in [
                        ("525400123458", ["10.144.133.6"], []),
                        ("525400123457", ["10.144.133.4", "10.144.133.5"], ["2001:db8:4::4"]),
                    ]
                ]
            }
        },
        "headers": {"metadata": "true"},
    },
    "cloudstack": {
        "user_data": "/latest/user-data",
        "texts": (
            "/latest/meta-data/",
            {
                "instance-id": "f3e6c1d2",
                "local-hostname": named("web"),
                "availability-zone": "Zone1",
                "service-offering": "Small",
                "public-ipv4": "198.51.100.13",
            },
        ),
    },
    "digitalocean": {
        "user_data": "/metadata/v1/user-data",
        "texts": ("/metadata/v1/", {"id": "2756294", "hostname": named("web"), "region": "nyc3"}),
        "json": {
            "/metadata/v1.json": {
                "droplet_id": 2756294,
                "tags": ["blue", "web"],
                "interfaces": {
                    "public": [
                        {
                            "ipv4": {"ip_address": "169.254.169.15", "netmask": "255.255.255.0", "gateway": "169.254.169.2"},
                            "ipv6": {"ip_address": "2001:DB8:0800:0010::17D:2001", "cidr": 64, "gateway": "2001:DB8:0800:0010::1"},
                            "anchor_ipv4": {"ip_address": "10.17.0.9", "netmask": "255.255.0.0", "gateway": "10.17.0.1"},
                            "mac": "52:54:00:12:34:57",
                            "type": "public",
                        }
                    ],
                    "private": [
                        {
                            "ipv4": {"ip_address": "10.132.255.113", "netmask": "255.255.0.0", "gateway": "10.132.0.1"},
                            "mac": "52:54:00:12:34:56",
                            "type": "private",
                        }
                    ],
                },
                "dns": {"nameservers": ["2001:4860:4860::8844", "8.8.8.8"]},
            }
        },
    },
    "equinix": {
        "user_data": "/userdata",
        "json": {
            "/metadata": {
                "id": "5de2fa5a",
                "hostname": named("web"),
                "tags": ["blue"],
                "metro": "am",
                "facility": "am6",
                "plan": "c3.small.x86",
                "private_subnets": ["10.0.0.0/8"],
                "network": {
                    "bonding": {"mode": 4, "link_aggregation": "bonded", "mac": "0c:c4:7a:b5:85:16"},
                    "interfaces": [
                        {"name": "eth0", "mac": "0c:c4:7a:b5:85:16", "bond": "bond0"},
                        {"name": "eth1", "mac": "0c:c4:7a:b5:85:17", "bond": "bond0"},
                    ],
                    "addresses": [
                        {
                            "address_family": family,
                            "address": address,
                            "cidr": cidr,
                            "gateway": gateway,
                            "public": public,
                            "management": management,
                        }
                        for family, address, cidr, gateway, public, management in [
                            (4, "198.51.100.7", 31, "198.51.100.6", True, True),
                            (6, "2001:db8:1::3", 127, "2001:db8:1::2", True, True),
                            (4, "10.80.156.1", 31, "10.80.156.0", False, True),
                            (4, "203.0.113.9", 32, "203.0.113.9", True, False),
                        ]
                    ],
                },
                "phone_home_url": "https://metadata.platformequinix.com/phone-home",
            }
        },
        "check_in": ("POST", "/phone-home"),
    },
    "exoscale": {
        "user_data": "/1.0/user-data",
        "texts": (
            "/1.0/meta-data/",
            {
                "instance-id": "587a3e8f",
                "local-hostname": named("web"),
                "availability-zone": "ch-gva-2",
                "service-offering": "Medium",
                "public-ipv4": "198.51.100.17",
            },
        ),
    },
    "gcp": {
        "user_data": "/computeMetadata/v1/instance/attributes/user-data",
        "texts": (
            GCE,
            {
                "id": "4567890123",
                "hostname": named("web.c.p.internal"),
                "zone": "projects/1/zones/europe-west1-b",
                "machine-type": "projects/1/machineTypes/e2-micro",
            },
        ),
        "json": {
            GCE + "tags?alt=json": ["blue", "web"],
            "/computeMetadata/v1/instance/network-interfaces/?recursive=true&alt=json": [
                {
                    "accessConfigs": [{"externalIp": "198.51.100.9", "type": "ONE_TO_ONE_NAT"}],
                    "dnsServers": ["169.254.169.254"],
                    "forwardedIps": ["198.51.100.10"],
                    "gateway": "10.240.0.1",
                    "ip": "10.240.0.2",
                    "ipAliases": ["10.240.1.0/24", "10.240.2.7/32"],
                    "ipv6s": ["2001:db8:5::1"],
                    "mac": "52:54:00:12:34:57",
                    "mtu": 1460,
                    "network": "projects/1/networks/default",
                    "subnetmask": "255.255.240.0",
                    "targetInstanceIps": [],
                },
                {"ip": "10.250.0.2", "mac": "52:54:00:12:34:56", "mtu": 1460},
            ]
        },
        "headers": {"metadata-flavor": "Google"},
    },
    "hetzner": {
        "user_data": "/hetzner/v1/userdata",
        "texts": (
            "/hetzner/v1/metadata/",
            {
                "instance-id": "42",
                "hostname": named("web"),
                "region": "eu-central",
                "availability-zone": "fsn1-dc14",
                "public-ipv4": "198.51.100.21",
                "network-config": "config:\n- mac_address: 52:54:00:12:34:56\n  name: eth0\n  subnets:\n"
                "  - ipv4: true\n    type: dhcp\n  - address: 2001:db8:c0c:1::1/64\n    ipv6: true\n"
                "    type: static\n  type: physical\nversion: 1\n",
            },
        ),
    },
    "openstack": {
        "user_data": "/openstack/latest/user_data",
        "texts": (
            "/latest/meta-data/",
            {"instance-id": "i-00000001", "instance-type": "m1.small", "public-ipv4": "198.51.100.22"},
        ),
        "json": {
            "/openstack/latest/meta_data.json": {
                "uuid": "d8e02d56-2648-49a3-bf97-6be8f1204f38",
                "availability_zone": "nova",
                "hostname": named("web.novalocal"),
                "name": "web",
                "meta": {"owner": "ops", "role": "web"},
            }
        },
    },
    "oracle": {
        "user_data": "/opc/v2/instance/metadata/user_data",
        "encoded": True,
        "texts": (
            "/opc/v2/instance/",
            {
                "id": "ocid1.instance.oc1.phx.a",
                "hostname": named("web"),
                "canonicalRegionName": "us-phoenix-1",
                "availabilityDomain": "EMIr:PHX-AD-1",
                "shape": "VM.Standard.E4.Flex",
            },
        ),
        "json": {
            "/opc/v2/instance/freeformTags": {"owner": "ops"},
            "/opc/v2/vnics/": [
                {
                    "ipv6Addresses": ["2001:db8:6::1"],
                    "macAddr": mac,
                    "privateIp": address,
                    "subnetCidrBlock": "10.0.3.0/24",
                    "virtualRouterIp": "10.0.3.1",
                    "vlanTag": tag,
                    "vnicId": f"ocid1.vnic.oc1.phx.{tag}",
                }
                for mac, address, tag in [("52:54:00:12:34:57", "10.0.3.6", 11), ("52:54:00:12:34:56", "10.0.3.7", 12)]
            ]
        },
        "headers": {"authorization": "Bearer Oracle"},
    },
    "scaleway": {
        "user_data": "/user_data/cloud-init",
        "json": {
            "/conf?format=json": {
                "id": "4fbc0d1b",
                "hostname": named("web"),
                "tags": ["blue"],
                "commercial_type": "DEV1-S",
                "location": {"zone_id": "par1"},
                "public_ip": {"address": "198.51.100.8"},
                "private_ip": None,
                "ipv6": None,
                "public_ips_v4": [
                    {"address": "198.51.100.8", "netmask": "32", "gateway": "62.210.0.1", "family": "inet", "provisioning_mode": "dhcp"},
                    {"address": "198.51.100.18", "netmask": "32", "gateway": "62.210.0.1", "family": "inet", "provisioning_mode": "manual"},
                ],
                "public_ips_v6": [
                    {"address": "2001:db8:2::1", "netmask": "64", "gateway": "fe80::1", "family": "inet6", "provisioning_mode": "manual"},
                ],
                "private_nics": [{"id": "9a1b", "mac_address": "52:54:00:12:34:57", "state": "available"}],
            }
        },
        "low_port": True,
        "check_in": ("PATCH", "/state"),
    },
    "upcloud": {
        "user_data": "/metadata/v1/user_data",
        "texts": ("/metadata/v1/", {"instance_id": "00f1a0ce", "hostname": named("web"), "region": "de-fra1"}),
        "json": {
            "/metadata/v1.json": {
                "network": {
                    "interfaces": [
                        {"index": index, "ip_addresses": [{"address": address, "dhcp": True}], "type": kind}
                        for index, address, kind in [
                            (1, "198.51.100.23", "public"),
                            (2, "10.5.0.2", "utility"),
                            (3, "2001:db8:7::1", "public"),
                        ]
                    ],
                },
                "tags": ["blue"],
            }
        },
    },
    "vultr": {
        "user_data": "/user-data/user-data",
        "texts": ("/v1/", {"instance-v2-id": "a747bfz6", "hostname": named("web"), "region/regioncode": "EWR"}),
        "json": {
            "/v1.json": {
                "hostname": "web",
                "interfaces": [
                    {
                        "ipv4": {
                            "additional": [{"address": "198.51.100.20", "netmask": "255.255.254.0"}],
                            "address": "198.51.100.19",
                            "gateway": "198.51.100.1",
                            "netmask": "255.255.254.0",
                        },
                        "ipv6": {"additional": [], "address": "2001:db8:3::64", "network": "2001:db8:3::", "prefix": "64"},
                        "mac": "52:54:00:12:34:57",
                        "network-type": "public",
                    },
                    {
                        "ipv4": {"additional": [], "address": "10.99.0.10", "gateway": "", "netmask": "255.255.0.0"},
                        "ipv6": {"additional": []},
                        "mac": "52:54:00:12:34:56",
                        "network-type": "private",
                    },
                ],
            }
        },
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
    asked = len((FOLDER / "asked").read_text().splitlines())
    if "starting" in words and asked == 1:
        connection.answer("503 Service Unavailable")
    elif "absent" in words and asked == 1:
        connection.answer("404 Not Found")
    elif "busy" in words and asked == 2:
        connection.answer("429 Too Many Requests", more="Retry-After: 1\r\n")
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
