#!/usr/bin/env python3
"""An independent ESP oracle: scapy seals and opens ESP packets (RFC 4303) on request.

One JSON object a line on stdin, one a line on stdout, in the same order; ends with the input. Octet strings are hex.

Requests (members marked ? may be left out):
  { "id": any,
    "op": "seal" | "open" | "info",
    "mode": "tunnel" | "transport",
    "spi": number, "seq": number (low 32 bits; seal only),
    "esn"?: true, "esnHigh"?: number      extended sequence numbers and their high 32 bits (open: what the receiver infers)
    "cipher": "NULL" | "AES-CBC" | "AES-CTR" | "AES-GCM" | "AES-CCM" | "CHACHA20-POLY1305" | "3DES" | "DES",
    "icv"?: number                        octets of ICV of AES-CCM: 8, 12 or 16
    "key"?: hex                           the cipher's key with its salt/nonce behind it (4 octets; CCM 3), as KEYMAT has it
    "auth"?: "NULL" | "HMAC-SHA1-96" | "SHA2-256-128" | "SHA2-384-192" | "SHA2-512-256" | "HMAC-MD5-96" | "AES-CMAC-96",
    "authKey"?: hex,
    "iv"?: hex                            seal only; random without it
    "outer"?: { "src": address, "dst": address, "ttl"?: number, "tos"?: number, "id"?: number, "df"?: bool }   seal in tunnel mode
    "udp"?: { "source": number, "destination": number }     seal only: RFC 3948 encapsulation (open strips it by itself)
    "packet": hex }                       seal: the inner (tunnel) or plain (transport) IP packet; open: the outer IP packet

Replies:
  { "id": same, "ok": true, "packet": hex, "spi": number, "seq": number, "nextHeader"?: number, "padLength"?: number }
      nextHeader and padLength in answer to "open". A transport packet comes back with lengths and IPv4 checksum put right.
  { "id": same, "ok": false, "error": "integrity" | "malformed" | "unsupported" | "request", "message": text }
  info: { "id": same, "ok": true, "scapy": version, "ciphers": [...], "auths": [...] }

Scapy 2.5 leaves the high sequence number out of ESP's integrity check with a separate MAC; it is added here (RFC 4303 section 2.2.1).
AES-GCM is with 16 octets of ICV only, whatever scapy is told.
"""

import hmac
import json
import logging
import struct
import sys

logging.getLogger("scapy").setLevel(logging.ERROR)

import scapy  # noqa: E402
from scapy.layers import ipsec  # noqa: E402
from scapy.layers.inet import IP, UDP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.packet import raw  # noqa: E402

ESP_PROTOCOL = 50
UDP_PROTOCOL = 17


class RequestError(Exception):
    """The request does not say what is needed."""


class ExtendedAuth:
    """A separate MAC whose input ends with the high half of the sequence number, which is not sent (RFC 4303 section 2.2.1)."""

    def __init__(self, algo, high):
        self.algo = algo
        self.icv_size = algo.icv_size
        self.suffix = struct.pack("!L", high)

    def _icv(self, octets, key):
        mac = self.algo.new_mac(key)
        mac.update(octets + self.suffix)
        return mac.finalize()[: self.icv_size]

    def sign(self, esp, key, **_):
        esp.data += self._icv(raw(esp), key)
        return esp

    def verify(self, esp, key, **_):
        octets = raw(esp)
        if not hmac.compare_digest(octets[-self.icv_size :], self._icv(octets[: -self.icv_size], key)):
            raise ipsec.IPSecIntegrityError("the ICV over the extended sequence number differs")


def number(request, name, default=None, bits=32):
    value = request.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise RequestError("%s: expected a number below 2^%d, found %r" % (name, bits, value))
    return value


def octets(request, name, default=None):
    value = request.get(name, default)
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError):
        raise RequestError("%s: expected hex octets, found %r" % (name, value)) from None


def ip_packet(data):
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return IP(data)
    if version == 6 and len(data) >= 40:
        return IPv6(data)
    raise RequestError("packet: expected an IPv4 or IPv6 packet, found %d octets of version %d" % (len(data), version))


def outer_header(outer):
    if not isinstance(outer, dict) or "src" not in outer or "dst" not in outer:
        raise RequestError("outer: expected { src, dst } to seal in tunnel mode, found %r" % (outer,))
    ttl, tos = number(outer, "ttl", 64, 8), number(outer, "tos", 0, 8)
    if ":" in outer["src"]:
        return IPv6(src=outer["src"], dst=outer["dst"], hlim=ttl, tc=tos)
    flags = "DF" if outer.get("df") else 0
    return IP(src=outer["src"], dst=outer["dst"], ttl=ttl, tos=tos, id=number(outer, "id", 0, 16), flags=flags)


def association(request, tunnel):
    mode = request.get("mode")
    if mode not in ("tunnel", "transport"):
        raise RequestError('mode: expected "tunnel" or "transport", found %r' % (mode,))
    udp = request.get("udp")
    high = number(request, "esnHigh", 0)
    extended = bool(request.get("esn"))
    sa = ipsec.SecurityAssociation(
        ipsec.ESP,
        spi=number(request, "spi"),
        crypt_algo=request.get("cipher", "NULL"),
        crypt_key=octets(request, "key", "") or None,
        crypt_icv_size=number(request, "icv", bits=8) if "icv" in request else None,
        auth_algo=request.get("auth", "NULL"),
        auth_key=octets(request, "authKey", "") or None,
        tunnel_header=tunnel if mode == "tunnel" else None,
        nat_t_header=UDP(sport=number(udp, "source", 4500, 16), dport=number(udp, "destination", 4500, 16)) if udp else None,
        esn_en=extended,
        esn=high,
    )
    if sa.crypt_key is not None:
        sa.crypt_algo.check_key(sa.crypt_key)
    if extended and sa.auth_algo.icv_size > 0:
        sa.auth_algo = ExtendedAuth(sa.auth_algo, high)
    return sa


def seal(request):
    data = octets(request, "packet")
    tunnel = outer_header(request.get("outer")) if request.get("mode") == "tunnel" else None
    sa = association(request, tunnel)
    seq = number(request, "seq")
    if seq == 0:
        raise RequestError("seq: expected 1 or more, found 0 (RFC 4303 section 3.3.3)")
    iv = octets(request, "iv") if "iv" in request else None
    packet = sa.encrypt(ip_packet(data), seq_num=seq, iv=iv)
    return {"packet": raw(packet).hex(), "spi": sa.spi, "seq": seq}


def split_esp(data):
    """(IP header octets with options or extensions, ESP octets) of an outer packet, RFC 3948 encapsulation removed."""
    if data[0] >> 4 == 4:
        length, protocol, total = (data[0] & 15) * 4, data[9], struct.unpack("!H", data[2:4])[0]
    else:
        length, protocol, total = 40, data[6], 40 + struct.unpack("!H", data[4:6])[0]
        while protocol in (0, 43, 60) and length + 8 <= len(data):
            protocol, length = data[length], length + 8 + 8 * data[length + 1]
    if total > len(data):
        raise ValueError("the IP header says %d octets, there are %d" % (total, len(data)))
    header, rest = data[:length], data[length:total]
    if protocol == UDP_PROTOCOL:
        rest = rest[8:]
    elif protocol != ESP_PROTOCOL:
        raise ValueError("expected protocol 50 (ESP) or UDP around it, found %d" % protocol)
    if len(rest) < 8:
        raise ValueError("ESP needs 8 octets of header, found %d" % len(rest))
    return header, rest, protocol


def plain_outer(data):
    """The outer packet with ESP directly behind the IP header, as scapy expects it."""
    header, esp, protocol = split_esp(data)
    if protocol == ESP_PROTOCOL:
        packet = ip_packet(data[: len(header) + len(esp)])
    else:
        packet = ip_packet(header)
        packet.remove_payload()
        if packet.version == 4:
            packet.proto = ESP_PROTOCOL
            del packet.len, packet.chksum
        else:
            packet.nh = ESP_PROTOCOL
            del packet.plen
        packet = ip_packet(raw(packet / ipsec.ESP(esp)))
    return packet


def open_packet(request):
    data = octets(request, "packet")
    ip_packet(data)
    packet = plain_outer(data)
    sa = association(request, packet.__class__())
    encrypted = packet[ipsec.ESP]
    if encrypted.spi != sa.spi:
        raise ValueError("expected SPI 0x%08x, found 0x%08x" % (sa.spi, encrypted.spi))
    spi, seq = encrypted.spi, encrypted.seq
    icv = sa.crypt_icv_size or sa.crypt_algo.icv_size or sa.auth_algo.icv_size
    if len(encrypted.data) < sa.crypt_algo.iv_size + 2 + icv:
        raise ValueError("too short for IV, trailer and ICV: %d octets" % len(encrypted.data))
    sa.auth_algo.verify(encrypted, sa.auth_key)
    plain = sa.crypt_algo.decrypt(sa, encrypted, sa.crypt_key, icv, esn_en=sa.esn_en, esn=sa.esn)
    if plain.padlen > len(encrypted.data) - sa.crypt_algo.iv_size - icv - 2:
        raise ValueError("the pad length %d exceeds the payload" % plain.padlen)
    inner = sa.decrypt(packet, verify=True)
    return {"packet": raw(inner).hex(), "spi": spi, "seq": seq, "nextHeader": plain.nh, "padLength": plain.padlen}


def info(_):
    return {"scapy": scapy.VERSION, "ciphers": list(ipsec.CRYPT_ALGOS), "auths": list(ipsec.AUTH_ALGOS)}


OPERATIONS = {"seal": seal, "open": open_packet, "info": info}


def answer(line):
    identity = None
    try:
        request = json.loads(line)
        if not isinstance(request, dict):
            raise RequestError("expected a JSON object, found %s" % type(request).__name__)
        identity = request.get("id")
        operation = OPERATIONS.get(request.get("op"))
        if operation is None:
            raise RequestError("op: expected one of %s, found %r" % (", ".join(OPERATIONS), request.get("op")))
        return {"id": identity, "ok": True, **operation(request)}
    except ipsec.IPSecIntegrityError as error:
        return {"id": identity, "ok": False, "error": "integrity", "message": str(error) or "the ICV differs"}
    except TypeError as error:
        return {"id": identity, "ok": False, "error": "unsupported", "message": str(error)}
    except RequestError as error:
        return {"id": identity, "ok": False, "error": "request", "message": str(error)}
    except json.JSONDecodeError as error:
        return {"id": identity, "ok": False, "error": "request", "message": "not JSON: %s" % error}
    except Exception as error:  # hostile octets reach scapy's dissectors, which raise whatever they like
        return {"id": identity, "ok": False, "error": "malformed", "message": "%s: %s" % (type(error).__name__, error)}


def main():
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(answer(line)), flush=True)


if __name__ == "__main__":
    main()
