"""Checks what an installer downloaded before anything of it runs. Carried inside the installers, so it stands alone.

    verify.py FOLDER PUBLIC-KEY SHA256 NAME

Is FOLDER/NAME the file that FOLDER/manifest.json lists, does the list bear the gateway's signature (Ed25519, RFC 8032),
and is the file the one that the installer itself was told to expect? Says what is wrong and exits with 1 if not.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys

Point = tuple[int, int, int, int]

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)
X = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A
Y = 4 * pow(5, -1, P) % P
BASE: Point = (X, Y, 1, X * Y % P)


def add(a: Point, b: Point) -> Point:
    """The sum of two points in extended coordinates."""
    e, f = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    g, h = 2 * D * a[3] * b[3], 2 * a[2] * b[2]
    w, x, y, z = f - e, h - g, h + g, f + e
    return w * x % P, y * z % P, x * y % P, w * z % P


def times(number: int, point: Point) -> Point:
    """A multiple of a point."""
    total: Point = (0, 1, 1, 0)
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def same(a: Point, b: Point) -> bool:
    """Whether two points are one."""
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def decode(raw: bytes) -> Point | None:
    """The point that 32 bytes stand for, or None."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


def signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that of the message by the holder of the key."""
    if len(public) != 32 or len(signature) != 64:
        return False
    key, commitment = decode(public), decode(signature[:32])
    answer = int.from_bytes(signature[32:], "little")
    if key is None or commitment is None or answer >= L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    return same(times(answer, BASE), add(commitment, times(int.from_bytes(digest, "little") % L, key)))


def problem(place: str, public: str, expected: str, name: str) -> str:
    """What is wrong with the downloaded file, or an empty text."""
    folder = pathlib.Path(place)
    manifest = folder.joinpath("manifest.json").read_bytes()
    fields = [b"intertie manifest 1", manifest]
    message = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    if not signed(bytes.fromhex(public), message, folder.joinpath("manifest.sig").read_bytes()):
        return "the list of files does not bear this gateway's signature"
    listed = {row["name"]: row for row in json.loads(manifest)["files"]}
    if name not in listed or listed[name]["sha256"] != expected:
        return "the gateway now has another version than this installer: fetch the installer again"
    content = folder.joinpath(name).read_bytes()
    if len(content) != listed[name]["size"] or hashlib.sha256(content).hexdigest() != expected:
        return name + " is damaged: its SHA-256 is not the one that the gateway signed"
    return ""


if __name__ == "__main__":
    found = problem(*sys.argv[1:])
    if found:
        sys.exit(found)
