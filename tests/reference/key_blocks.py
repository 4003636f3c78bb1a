#!/usr/bin/env python3
"""The reference with key blocks and SM2 ciphertexts on top.

Answers as reference.py does, every operation of it and those of its own that
README.md describes. Versions A to D come from psec. psec knows neither version E
(ISO 20038) nor the project-local form of SM4: these are written here on OpenSSL.
"""

from __future__ import annotations

import secrets

from psec import tr31

import reference
from reference import Affine, from_hex, int32, require, sm3, to_hex, xor

MAC_SIZE = 16

# Algorithm ids of the derivation input, by cipher and length of the key.
DERIVATION_IDS = {("aes", 16): 2, ("aes", 24): 3, ("aes", 32): 4, ("sm4", 16): 5}

# Purposes of derived keys.
CBC, MAC, CTR = 0, 1, 2


def derived_key(alg: str, kbpk: bytes, purpose: int) -> bytes:
    """Derivation binding of TR-31:2018: CMACs of counter, purpose, 00, algorithm and bits."""
    require((alg, len(kbpk)) in DERIVATION_IDS, "no such protection key")
    ids = (purpose << 40) + (DERIVATION_IDS[alg, len(kbpk)] << 16) + len(kbpk) * 8
    counters = range(1, -(-len(kbpk) // MAC_SIZE) + 1)
    blocks = (reference.cmac(alg, kbpk, ((i << 56) + ids).to_bytes(8, "big")) for i in counters)
    return b"".join(blocks)[: len(kbpk)]


def counted(alg: str, key: bytes, start: bytes, data: bytes) -> bytes:
    """CTR, one block after the other."""
    out, counter = b"", int.from_bytes(start, "big")
    for block in reference.blocks_of(data, MAC_SIZE):
        stream = reference.cipher_for(alg, key).encrypt(counter.to_bytes(MAC_SIZE, "big"))
        out += xor(block, stream[: len(block)])
        counter = (counter + 1) % (1 << 128)
    return out


def payload_mac(alg: str, kbpk: bytes, header: str, payload: bytes) -> bytes:
    return reference.cmac(alg, derived_key(alg, kbpk, MAC), header.encode("ascii") + payload)


def op_key_block_seal(*, alg: str, kbpk: str, header: str, payload: str) -> str:
    """The whole block; its version, D or E, is the header's first letter."""
    key, plain = from_hex(kbpk), from_hex(payload)
    mac = payload_mac(alg, key, header, plain)
    if header[0] == "E":
        sealed = counted(alg, derived_key(alg, key, CTR), mac, plain)
    else:
        sealed = reference.cbc_encrypt(alg, derived_key(alg, key, CBC), mac, plain)
    return header + to_hex(sealed) + to_hex(mac)


def op_key_block_open(*, alg: str, kbpk: str, block: str, header_size: int) -> str:
    """The payload: length, key, padding."""
    key, header, body = from_hex(kbpk), block[:header_size], bytes.fromhex(block[header_size:])
    sealed, mac = body[:-MAC_SIZE], body[-MAC_SIZE:]
    if header[0] == "E":
        plain = counted(alg, derived_key(alg, key, CTR), mac, sealed)
    else:
        plain = reference.cbc_decrypt(alg, derived_key(alg, key, CBC), mac, sealed)
    require(payload_mac(alg, key, header, plain) == mac, "the MAC does not hold")
    return to_hex(plain)


def op_key_block_wrap(*, kbpk: str, header: str, key: str, shown: int | None = None) -> str:
    """A block by psec; `shown` is the length that the key is made to look like."""
    return tr31.KeyBlock(from_hex(kbpk), header).wrap(from_hex(key), shown)


def op_key_block_unwrap(*, kbpk: str, block: str) -> str:
    """The key of a block by psec."""
    return to_hex(tr31.KeyBlock(from_hex(kbpk)).unwrap(block))


def shared_point(scalar: int, point: Affine) -> bytes:
    product = reference.multiply_add(scalar, point, 0, reference.SM2_G)
    require(product is not None, "point at infinity")
    assert product is not None
    return int32(product[0]) + int32(product[1])


def masked(shared: bytes, data: bytes) -> bytes:
    counters = range(1, -(-len(data) // 32) + 1)
    stream = b"".join(sm3(shared + i.to_bytes(4, "big")) for i in counters)[: len(data)]
    require(any(stream), "the mask is zero")
    return xor(data, stream)


def op_sm2_encrypt(*, public_key: str, message: str, k: str | None = None) -> dict[str, str]:
    number = secrets.randbelow(reference.SM2_N - 1) + 1 if k is None else int(k, 16)
    shared = shared_point(number, reference.decode_point(from_hex(public_key)))
    x, y = reference.multiply_generator(number)
    plain = from_hex(message)
    return {
        "x": to_hex(int32(x)),
        "y": to_hex(int32(y)),
        "hash": to_hex(sm3(shared[:32] + plain + shared[32:])),
        "ciphertext": to_hex(masked(shared, plain)),
    }


def op_sm2_decrypt(*, private_key: str, x: str, y: str, hash: str, ciphertext: str) -> str:
    point = reference.decode_point(from_hex(x) + from_hex(y))
    shared = shared_point(int(private_key, 16), point)
    plain = masked(shared, from_hex(ciphertext))
    require(sm3(shared[:32] + plain + shared[32:]) == from_hex(hash), "the hash does not hold")
    return to_hex(plain)


reference.OPERATIONS |= {
    "key_block_wrap": op_key_block_wrap,
    "key_block_unwrap": op_key_block_unwrap,
    "key_block_seal": op_key_block_seal,
    "key_block_open": op_key_block_open,
    "sm2_encrypt": op_sm2_encrypt,
    "sm2_decrypt": op_sm2_decrypt,
}

if __name__ == "__main__":
    reference.main()
