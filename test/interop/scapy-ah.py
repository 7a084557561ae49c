#!/usr/bin/env python3
"""An independent AH oracle: scapy seals and opens AH packets (RFC 4302) on request, many at a time.

One JSON object a line on stdin, one a line on stdout, in the same order. Octet strings are hex.

Requests:
  { "id": any, "op": "seal" | "open", "spi": number, "auth": name of scapy's algorithm, "authKey": hex, "mode": "tunnel" | "transport",
    "esn": true | false, "esnHigh": number, "outer": { "src": address, "dst": address },
    "seq": number of the first packet (seal), "packets": [hex, ...] }
Replies:
  { "id": same, "ok": true, "packets": [hex, or { "error": text } where scapy refuses one, ...] }
  { "id": same, "ok": false, "error": "request", "message": text }
"""

import json
import logging
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy.layers import ipsec  # noqa: E402
from scapy.layers.inet import IP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.packet import raw  # noqa: E402


def ip_packet(data):
    return IP(data) if data[0] >> 4 == 4 else IPv6(data)


def association(request):
    header = None
    if request["mode"] == "tunnel":
        outer = request["outer"]
        header = (IPv6 if ":" in outer["src"] else IP)(src=outer["src"], dst=outer["dst"])
    return ipsec.SecurityAssociation(
        ipsec.AH,
        spi=request["spi"],
        auth_algo=request["auth"],
        auth_key=bytes.fromhex(request["authKey"]),
        tunnel_header=header,
        esn_en=request["esn"],
        esn=request["esnHigh"],
    )


def one(request, sa, index, text):
    try:
        packet = ip_packet(bytes.fromhex(text))
        if request["op"] == "seal":
            return raw(sa.encrypt(packet, seq_num=request["seq"] + index)).hex()
        return raw(sa.decrypt(packet)).hex()
    except Exception as error:  # hostile octets reach scapy's dissectors, which raise whatever they like
        return {"error": "%s: %s" % (type(error).__name__, error)}


def answer(line):
    request = {}
    try:
        request = json.loads(line)
        sa = association(request)
        packets = [one(request, sa, index, text) for index, text in enumerate(request["packets"])]
        return {"id": request["id"], "ok": True, "packets": packets}
    except (KeyError, ValueError, TypeError) as error:
        return {"id": request.get("id"), "ok": False, "error": "request", "message": "%s: %s" % (type(error).__name__, error)}


for request_line in sys.stdin:
    print(json.dumps(answer(request_line)), flush=True)
