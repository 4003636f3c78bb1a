#!/usr/bin/env python3
"""Reference oracle for transit-card cryptography.

Reads one JSON object a line on standard input and answers each with one JSON
object a line on standard output. The operations are described in README.md.

The ciphers and hashes come from pycryptodome (DES, AES), from cryptography,
that is OpenSSL (SM4, SM3, GCM, CMAC, HMAC), and from psec (a second opinion on
every DES CBC-MAC and retail MAC). Only the constructions on top of them, and
the SM2 curve, are written here.
"""

from __future__ import annotations

import json
import secrets
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from Crypto.Cipher import AES, DES
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES as OpenSslTripleDes
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES as OpenSslAes
from cryptography.hazmat.primitives.ciphers.algorithms import SM4 as OpenSslSm4
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.utils import CryptographyDeprecationWarning
from psec import mac as psec_mac

# psec reaches 3DES by its old import path, which the pinned release still has.
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)

GCM_TAG_SIZE = 16
SHORT_MAC_SIZE = 4

# Algorithms whose derivations work on one 16-byte block (f || ~f), as against
# 3DES, which works on two 8-byte ones.
WIDE_BLOCK_ALGS = ("sm4", "aes")


class Refused(ValueError):
    """A request this oracle refuses to answer."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Refused(text)


def from_hex(text: str | None) -> bytes:
    if not isinstance(text, str):
        raise Refused("expected a hex string")
    return bytes.fromhex(text)


def to_hex(data: bytes) -> str:
    return data.hex().upper()


def xor(left: bytes, right: bytes) -> bytes:
    require(len(left) == len(right), "xor of strings of different length")
    return bytes(a ^ b for a, b in zip(left, right))


def complement(data: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in data)


# --- block ciphers ---------------------------------------------------------


class BlockCipher(Protocol):
    """ECB of whole blocks under one key."""

    block_size: int

    def encrypt(self, data: bytes) -> bytes: ...

    def decrypt(self, data: bytes) -> bytes: ...


class SingleDes:
    block_size = 8

    def __init__(self, key: bytes) -> None:
        require(len(key) == 8, "a DES key is 8 bytes")
        self._ecb = DES.new(key, DES.MODE_ECB)

    def encrypt(self, data: bytes) -> bytes:
        return self._ecb.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        return self._ecb.decrypt(data)


class TripleDes:
    """EDE out of single DES: pycryptodome's own DES3 refuses keys whose halves
    are equal, and such keys have to be computable here."""

    block_size = 8

    def __init__(self, key: bytes) -> None:
        require(len(key) in (16, 24), "a 3DES key is 16 or 24 bytes")
        self._first = SingleDes(key[:8])
        self._second = SingleDes(key[8:16])
        self._third = SingleDes(key[16:]) if len(key) == 24 else self._first

    def encrypt(self, data: bytes) -> bytes:
        return self._third.encrypt(self._second.decrypt(self._first.encrypt(data)))

    def decrypt(self, data: bytes) -> bytes:
        return self._first.decrypt(self._second.encrypt(self._third.decrypt(data)))


class Aes:
    block_size = 16

    def __init__(self, key: bytes) -> None:
        require(len(key) in (16, 24, 32), "an AES key is 16, 24 or 32 bytes")
        self._ecb = AES.new(key, AES.MODE_ECB)

    def encrypt(self, data: bytes) -> bytes:
        return self._ecb.encrypt(data)

    def decrypt(self, data: bytes) -> bytes:
        return self._ecb.decrypt(data)


class Sm4:
    block_size = 16

    def __init__(self, key: bytes) -> None:
        require(len(key) == 16, "an SM4 key is 16 bytes")
        # The contexts live as long as the object; they keep no state between
        # calls because only whole blocks are ever given to them.
        cipher = Cipher(OpenSslSm4(key), modes.ECB())
        self._encryptor = cipher.encryptor()
        self._decryptor = cipher.decryptor()

    def encrypt(self, data: bytes) -> bytes:
        self._check(data)
        return self._encryptor.update(data)

    def decrypt(self, data: bytes) -> bytes:
        self._check(data)
        return self._decryptor.update(data)

    def _check(self, data: bytes) -> None:
        require(len(data) % self.block_size == 0, "data is not whole blocks")


CIPHERS: dict[str, Callable[[bytes], BlockCipher]] = {
    "des": SingleDes,
    "3des": TripleDes,
    "aes": Aes,
    "sm4": Sm4,
}


@lru_cache(maxsize=1024)
def cipher_for(alg: str, key: bytes) -> BlockCipher:
    require(alg in CIPHERS, f"unknown algorithm {alg!r}")
    return CIPHERS[alg](key)


# --- modes -----------------------------------------------------------------


def openssl_algorithm(alg: str, key: bytes) -> Any:
    """The same cipher as OpenSSL sees it, for the modes taken from there."""
    cipher_for(alg, key)  # refuses keys of the wrong length
    if alg == "aes":
        return OpenSslAes(key)
    if alg == "sm4":
        return OpenSslSm4(key)
    return OpenSslTripleDes(three_keys(key))


def three_keys(key: bytes) -> bytes:
    """A DES or 3DES key spelt as K1 || K2 || K3, the only length OpenSSL's
    wrappers are going to keep."""
    return {8: key * 3, 16: key + key[:8], 24: key}[len(key)]


def cbc_encrypt(alg: str, key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = cipher_for(alg, key)
    check_cbc_input(cipher, iv, data)
    if alg == "des":
        return DES.new(key, DES.MODE_CBC, iv).encrypt(data)
    if alg == "aes":
        return AES.new(key, AES.MODE_CBC, iv).encrypt(data)
    if alg == "sm4":
        return Cipher(OpenSslSm4(key), modes.CBC(iv)).encryptor().update(data)
    out, previous = [], iv
    for block in blocks_of(data, cipher.block_size):
        previous = cipher.encrypt(xor(block, previous))
        out.append(previous)
    return b"".join(out)


def cbc_decrypt(alg: str, key: bytes, iv: bytes, data: bytes) -> bytes:
    cipher = cipher_for(alg, key)
    check_cbc_input(cipher, iv, data)
    if not data:
        return b""
    # Undoing the chaining is one XOR with the ciphertext shifted by a block.
    return xor(cipher.decrypt(data), iv + data[: -cipher.block_size])


def check_cbc_input(cipher: BlockCipher, iv: bytes, data: bytes) -> None:
    require(len(iv) == cipher.block_size, "the IV is not one block")
    require(len(data) % cipher.block_size == 0, "data is not whole blocks")


def blocks_of(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def gcm_encrypt(alg: str, key: bytes, iv: bytes, aad: bytes, data: bytes) -> bytes:
    encryptor = Cipher(openssl_algorithm(alg, key), modes.GCM(iv)).encryptor()
    encryptor.authenticate_additional_data(aad)
    ciphertext = encryptor.update(data) + encryptor.finalize()
    return ciphertext + encryptor.tag


def gcm_decrypt(alg: str, key: bytes, iv: bytes, aad: bytes, data: bytes) -> bytes:
    require(len(data) >= GCM_TAG_SIZE, "shorter than a GCM tag")
    ciphertext, tag = data[:-GCM_TAG_SIZE], data[-GCM_TAG_SIZE:]
    decryptor = Cipher(openssl_algorithm(alg, key), modes.GCM(iv, tag)).decryptor()
    decryptor.authenticate_additional_data(aad)
    try:
        return decryptor.update(ciphertext) + decryptor.finalize()
    except InvalidTag:
        raise Refused("GCM tag mismatch") from None


# --- padding ---------------------------------------------------------------


def pad_zeros(data: bytes, size: int) -> bytes:
    """Method 1; an empty string still becomes one block of zeros."""
    return data.ljust(max(size, -(-len(data) // size) * size), b"\0")


def pad_80(data: bytes, size: int) -> bytes:
    """Method 2; adds a whole block to a string that was already aligned."""
    return pad_zeros(data + b"\x80", size)


def pad_length(data: bytes, size: int) -> bytes:
    """Method 3; the bit length in a block of its own, then method 1."""
    return (len(data) * 8).to_bytes(size, "big") + pad_zeros(data, size)


def pad_80_if_partial(data: bytes, size: int) -> bytes:
    """80 00.. only where the string is not whole blocks already."""
    return data if data and len(data) % size == 0 else pad_80(data, size)


def pad_none(data: bytes, size: int) -> bytes:
    require(bool(data) and len(data) % size == 0, "unpadded data is not whole blocks")
    return data


PADDINGS: dict[int, Callable[[bytes, int], bytes]] = {
    0: pad_none,
    1: pad_zeros,
    2: pad_80,
    3: pad_length,
    4: pad_80_if_partial,
}


# --- ISO 9797-1 / GB/T 15852.1 MACs ----------------------------------------


def cbc_mac(alg: str, key: bytes, iv: bytes, padded: bytes) -> bytes:
    block_size = cipher_for(alg, key).block_size
    last = cbc_encrypt(alg, key, iv, padded)[-block_size:]
    if alg in ("des", "3des"):
        cross_check(last, lambda: psec_cbc_mac(key, iv, padded))
    return last


def retail_mac(alg: str, key: bytes, key2: bytes, iv: bytes, padded: bytes) -> bytes:
    chained = cbc_mac(alg, key, iv, padded)
    last = cipher_for(alg, key).encrypt(cipher_for(alg, key2).decrypt(chained))
    if alg == "des":
        cross_check(last, lambda: psec_retail_mac(key, key2, iv, padded))
    return last


def psec_cbc_mac(key: bytes, iv: bytes, padded: bytes) -> bytes:
    return psec_mac.generate_cbc_mac(three_keys(key), fold_iv(iv, padded), padding=1)


def psec_retail_mac(key: bytes, key2: bytes, iv: bytes, padded: bytes) -> bytes:
    return psec_mac.generate_retail_mac(
        three_keys(key), three_keys(key2), fold_iv(iv, padded), padding=1
    )


def fold_iv(iv: bytes, padded: bytes) -> bytes:
    """psec always starts from zeros; an IV is the same as an XOR on block 1."""
    return xor(iv, padded[: len(iv)]) + padded[len(iv) :]


def cross_check(result: bytes, second_opinion: Callable[[], bytes]) -> None:
    require(result == second_opinion(), "the two libraries disagree")


def mac_4(alg: str, key: bytes, key2: bytes, iv: bytes, padded: bytes) -> bytes:
    size = cipher_for(alg, key).block_size
    # The standard defines this algorithm for two blocks or more only.
    require(len(padded) >= 2 * size, "algorithm 4 needs at least two blocks")
    key3 = xor(key2, b"\xf0" * len(key2))
    first = cipher_for(alg, key).encrypt(xor(iv, padded[:size]))
    start = cipher_for(alg, key3).encrypt(first)
    chained = cbc_mac(alg, key, start, padded[size:])
    return cipher_for(alg, key2).encrypt(chained)


def cmac(alg: str, key: bytes, message: bytes) -> bytes:
    context = CMAC(openssl_algorithm(alg, key))
    context.update(message)
    return context.finalize()


def lmac(alg: str, key: bytes, iv: bytes, padded: bytes) -> bytes:
    cipher = cipher_for(alg, key)
    size = cipher.block_size
    require(len(key) == size, "algorithm 6 needs a key as long as a block")
    chain_key = cipher.encrypt((1).to_bytes(size, "big"))
    last_key = cipher.encrypt((2).to_bytes(size, "big"))
    chained = iv if len(padded) == size else cbc_mac(alg, chain_key, iv, padded[:-size])
    return cipher_for(alg, last_key).encrypt(xor(chained, padded[-size:]))


def trcbc(alg: str, key: bytes, iv: bytes, message: bytes) -> bytes:
    """The half of the block tells a padded message from an unpadded one."""
    size = cipher_for(alg, key).block_size
    padded = pad_80_if_partial(message, size)
    last = cbc_mac(alg, key, iv, padded)
    return last[: size // 2] if padded == message else last[size // 2 :]


def iso_mac(
    alg: str,
    algorithm: int,
    padding: int,
    key: bytes,
    key2: bytes,
    iv: bytes,
    message: bytes,
) -> bytes:
    if algorithm == 5:
        require(not any(iv), "algorithm 5 has no IV")
        return cmac(alg, key, message)
    if algorithm == 7:
        return trcbc(alg, key, iv, message)
    require(padding in PADDINGS, f"unknown padding {padding!r}")
    padded = PADDINGS[padding](message, cipher_for(alg, key).block_size)
    if algorithm == 1:
        return cbc_mac(alg, key, iv, padded)
    if algorithm == 6:
        return lmac(alg, key, iv, padded)
    require(algorithm in (2, 3, 4), f"unknown MAC algorithm {algorithm!r}")
    require(bool(key2), f"algorithm {algorithm} needs key2")
    if algorithm == 2:
        return cipher_for(alg, key2).encrypt(cbc_mac(alg, key, iv, padded))
    if algorithm == 3:
        return retail_mac(alg, key, key2, iv, padded)
    return mac_4(alg, key, key2, iv, padded)


# --- card MACs -------------------------------------------------------------


def card_mac(alg: str, key: bytes, message: bytes, iv: bytes) -> bytes:
    """The full block of the MAC a card computes: the key's length decides
    between a plain DES chain (8) and the retail MAC (16)."""
    if alg in WIDE_BLOCK_ALGS:
        return cbc_mac(alg, key, iv, pad_80(message, 16))
    require(alg in ("des", "3des"), f"unknown algorithm {alg!r}")
    if alg == "3des" and len(key) == 16:
        return retail_mac("des", key[:8], key[8:], iv, pad_80(message, 8))
    return cbc_mac("des", key, iv, pad_80(message, 8))


def zero_iv(alg: str) -> bytes:
    return bytes(16 if alg in WIDE_BLOCK_ALGS else 8)


# --- derivations -----------------------------------------------------------


def odd_parity(key: bytes) -> bytes:
    return bytes(b if b.bit_count() % 2 else b ^ 1 for b in key)


def disperse_once(alg: str, rule: str, key: bytes, factor: bytes) -> bytes:
    require(len(key) == 16, "a dispersed key is 16 bytes at every level")
    cipher = cipher_for(alg, key)
    if rule == "raw16":
        require(alg in WIDE_BLOCK_ALGS, "raw16 needs a 16-byte block")
        require(len(factor) == 16, "a raw16 factor is 16 bytes")
        return cipher.encrypt(factor)
    require(rule == "f_notf", f"unknown dispersion rule {rule!r}")
    require(alg == "3des" or alg in WIDE_BLOCK_ALGS, f"{alg!r} does not disperse")
    require(len(factor) == 8, "a factor is 8 bytes")
    # ECB makes this two blocks for 3DES and one for a 16-byte cipher.
    return cipher.encrypt(factor + complement(factor))


def tac_key(alg: str, rule: str, card_key: bytes) -> tuple[str, bytes]:
    """The algorithm and key that the TAC is computed with."""
    if rule == "full":
        return alg, card_key
    require(len(card_key) == 16, f"{rule} needs a 16-byte key")
    halves = xor(card_key[:8], card_key[8:])
    if rule == "xor_halves":
        require(alg == "3des", "xor_halves gives a DES key")
        return "des", halves
    require(rule == "fold_complement", f"unknown TAC key rule {rule!r}")
    require(alg in WIDE_BLOCK_ALGS, "fold_complement gives a 16-byte key")
    return alg, halves + complement(halves)


def fold(data: bytes, size: int) -> bytes:
    """Halve by XOR until `size` bytes are left."""
    while len(data) > size:
        middle = len(data) // 2
        data = xor(data[:middle], data[middle:])
    return data


def truncate_to_4(block: bytes, rule: str) -> bytes:
    if rule == "left4":
        return block[:4]
    if rule == "right4":
        return block[-4:]
    if rule == "fold8_left4":
        return fold(block, 8)[:4]
    require(rule == "fold4", f"unknown truncation {rule!r}")
    return fold(block, 4)


# --- SM2 -------------------------------------------------------------------

SM2_P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
SM2_A = SM2_P - 3
SM2_B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
SM2_N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
SM2_G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)
SM2_DEFAULT_ID = to_hex(b"1234567812345678")

Affine = tuple[int, int]
Jacobian = tuple[int, int, int]  # x = X / Z^2, y = Y / Z^3; infinity is Z = 0

INFINITY: Jacobian = (1, 1, 0)


def double(point: Jacobian) -> Jacobian:
    x, y, z = point
    if not z:
        return INFINITY
    zz, yy = z * z % SM2_P, y * y % SM2_P
    s = 4 * x * yy % SM2_P
    m = 3 * (x - zz) * (x + zz) % SM2_P  # 3x^2 + aZ^4 with a = -3
    x3 = (m * m - 2 * s) % SM2_P
    return x3, (m * (s - x3) - 8 * yy * yy) % SM2_P, 2 * y * z % SM2_P


def add(left: Jacobian, right: Jacobian) -> Jacobian:
    (x1, y1, z1), (x2, y2, z2) = left, right
    if not z1:
        return right
    if not z2:
        return left
    zz1, zz2 = z1 * z1 % SM2_P, z2 * z2 % SM2_P
    u1, u2 = x1 * zz2 % SM2_P, x2 * zz1 % SM2_P
    s1, s2 = y1 * zz2 * z2 % SM2_P, y2 * zz1 * z1 % SM2_P
    h, r = (u2 - u1) % SM2_P, (s2 - s1) % SM2_P
    if not h:
        return INFINITY if r else double(left)
    hh = h * h % SM2_P
    hhh, v = h * hh % SM2_P, u1 * hh % SM2_P
    x3 = (r * r - hhh - 2 * v) % SM2_P
    return x3, (r * (v - x3) - s1 * hhh) % SM2_P, z1 * z2 * h % SM2_P


def multiply_add(a: int, left: Affine, b: int, right: Affine) -> Affine | None:
    """a * left + b * right; None is the point at infinity."""
    first, second = (*left, 1), (*right, 1)
    table = {(1, 0): first, (0, 1): second, (1, 1): add(first, second)}
    total = INFINITY
    for bit in range(max(a.bit_length(), b.bit_length()) - 1, -1, -1):
        total = double(total)
        digits = (a >> bit & 1, b >> bit & 1)
        if digits in table:
            total = add(total, table[digits])
    x, y, z = total
    if not z:
        return None
    inverse = pow(z, -1, SM2_P)
    return x * inverse**2 % SM2_P, y * inverse**3 % SM2_P


def multiply_generator(scalar: int) -> Affine:
    point = multiply_add(scalar, SM2_G, 0, SM2_G)
    require(point is not None, "scalar is a multiple of the group order")
    assert point is not None
    return point


def curve_right_side(x: int) -> int:
    return (x * x * x + SM2_A * x + SM2_B) % SM2_P


def decode_point(data: bytes) -> Affine:
    """04||x||y, x||y, or compressed 02/03||x."""
    if len(data) == 33 and data[0] in (2, 3):
        return decompress(int.from_bytes(data[1:], "big"), data[0] & 1)
    if len(data) == 65 and data[0] == 4:
        data = data[1:]
    require(len(data) == 64, "not an SM2 public key")
    x, y = int.from_bytes(data[:32], "big"), int.from_bytes(data[32:], "big")
    require(x < SM2_P and y < SM2_P, "coordinate out of range")
    require(y * y % SM2_P == curve_right_side(x), "point is not on the curve")
    return x, y


def decompress(x: int, parity: int) -> Affine:
    require(x < SM2_P, "coordinate out of range")
    square = curve_right_side(x)
    y = pow(square, (SM2_P + 1) // 4, SM2_P)  # p = 3 mod 4
    require(y * y % SM2_P == square, "point is not on the curve")
    return x, y if y & 1 == parity else SM2_P - y


def sm3(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


def int32(number: int) -> bytes:
    return number.to_bytes(32, "big")


def sm2_za(public: Affine, id_bytes: bytes) -> bytes:
    require(len(id_bytes) < 8192, "the ID is too long for its bit length")
    fields = (SM2_A, SM2_B, *SM2_G, *public)
    entl = (len(id_bytes) * 8).to_bytes(2, "big")
    return sm3(entl + id_bytes + b"".join(map(int32, fields)))


def sm2_digest(public: Affine, id_bytes: str | None, message: str | None, e: str | None) -> bytes:
    """e itself where it is given (a prehash), otherwise SM3(ZA || message)."""
    if e is not None:
        require(message is None and id_bytes is None, "e excludes message and id_bytes")
        digest = from_hex(e)
        require(len(digest) == 32, "e is 32 bytes")
        return digest
    require(message is not None, "neither message nor e")
    signer = from_hex(SM2_DEFAULT_ID if id_bytes is None else id_bytes)
    return sm3(sm2_za(public, signer) + from_hex(message or ""))


def sm2_sign_once(private: int, digest: bytes, k: int) -> tuple[int, int] | None:
    """None when the standard asks for another k."""
    x1, _ = multiply_generator(k)
    r = (int.from_bytes(digest, "big") + x1) % SM2_N
    if r == 0 or r + k == SM2_N:
        return None
    s = pow(1 + private, -1, SM2_N) * (k - r * private) % SM2_N
    return (r, s) if s else None


def sm2_rejection(public: Affine, digest: bytes, r: int, s: int) -> str | None:
    """Why the signature does not verify; None when it does."""
    if not 1 <= r < SM2_N:
        return "r out of range"
    if not 1 <= s < SM2_N:
        return "s out of range"
    t = (r + s) % SM2_N
    if t == 0:
        return "r + s is zero"
    point = multiply_add(s, SM2_G, t, public)
    if point is None:
        return "point at infinity"
    if (int.from_bytes(digest, "big") + point[0]) % SM2_N != r:
        return "signature mismatch"
    return None


def decode_signature(raw: bytes, is_der: bool) -> tuple[int, int]:
    if is_der:
        return decode_dss_signature(raw)
    require(len(raw) == 64, "a raw signature is 64 bytes")
    return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")


# --- operations ------------------------------------------------------------
#
# The keyword arguments of each function are the fields of the request, so an
# unknown or missing field is refused by the call itself.


def op_block(*, alg: str, key: str, data: str, decrypt: bool = False) -> str:
    cipher = cipher_for(alg, from_hex(key))
    return to_hex((cipher.decrypt if decrypt else cipher.encrypt)(from_hex(data)))


def op_cipher(
    *,
    alg: str,
    mode: str,
    key: str,
    data: str,
    iv: str = "",
    aad: str = "",
    decrypt: bool = False,
) -> str:
    require(mode == "gcm" or not aad, "only gcm takes aad")
    if mode == "ecb":
        require(not iv, "ecb takes no iv")
        return op_block(alg=alg, key=key, data=data, decrypt=decrypt)
    if mode == "cbc":
        chain = cbc_decrypt if decrypt else cbc_encrypt
        return to_hex(chain(alg, from_hex(key), from_hex(iv), from_hex(data)))
    require(mode == "gcm", f"unknown mode {mode!r}")
    require(alg in WIDE_BLOCK_ALGS, "gcm needs a 16-byte block")
    seal = gcm_decrypt if decrypt else gcm_encrypt
    return to_hex(seal(alg, from_hex(key), from_hex(iv), from_hex(aad), from_hex(data)))


def op_mac(
    *,
    alg: str,
    algorithm: int,
    key: str,
    message: str,
    padding: int = 0,
    key2: str = "",
    iv: str = "",
) -> str:
    first, second = from_hex(key), from_hex(key2)
    if alg == "des" and algorithm in (2, 3, 4) and len(first) == 16 and not second:
        first, second = first[:8], first[8:]  # K' || K'' as one card key
    size = cipher_for(alg, first).block_size
    start = from_hex(iv) or bytes(size)
    require(len(start) == size, "the IV is not one block")
    mac = iso_mac(alg, algorithm, padding, first, second, start, from_hex(message))
    return to_hex(mac)


def op_hmac(*, hash: str, key: str, message: str) -> str:
    algorithms: dict[str, hashes.HashAlgorithm] = {
        "sm3": hashes.SM3(),
        "sha256": hashes.SHA256(),
    }
    require(hash in algorithms, f"unknown hash {hash!r}")
    context = HMAC(from_hex(key), algorithms[hash])
    context.update(from_hex(message))
    return to_hex(context.finalize())


def op_disperse(
    *,
    alg: str,
    key: str,
    factors: list[str],
    rule: str = "f_notf",
    parity: str = "none",
) -> str:
    require(parity in ("none", "odd"), f"unknown parity {parity!r}")
    require(parity == "none" or alg == "3des", "only DES keys have parity")
    current = from_hex(key)
    for factor in factors:
        current = disperse_once(alg, rule, current, from_hex(factor))
        if parity == "odd":
            current = odd_parity(current)
    return to_hex(current)


def op_session(*, alg: str, key: str, input: str) -> str:
    data = from_hex(input)
    require(len(data) == 8, "a session key input is 8 bytes")
    if alg in WIDE_BLOCK_ALGS:
        data += complement(data)
    return to_hex(cipher_for(alg, from_hex(key)).encrypt(data))


def op_tac(
    *,
    alg: str,
    card_key: str,
    message: str,
    key_rule: str,
    truncate: str = "left4",
) -> str:
    mac_alg, key = tac_key(alg, key_rule, from_hex(card_key))
    block = card_mac(mac_alg, key, from_hex(message), zero_iv(mac_alg))
    return to_hex(truncate_to_4(block, truncate))


def op_purse_mac(*, alg: str, session_key: str, message: str) -> str:
    key = from_hex(session_key)
    # A 16-byte key here would be the card key taken for the session key.
    require(alg in WIDE_BLOCK_ALGS or len(key) == 8, "a DES session key is 8 bytes")
    block = card_mac(alg, key, from_hex(message), zero_iv(alg))
    return to_hex(block[:SHORT_MAC_SIZE])


def op_sm(
    *,
    alg: str,
    key: str,
    iv: str,
    header: str,
    data: str = "",
    encrypt: bool = False,
) -> dict[str, str]:
    card_key, plain = from_hex(key), from_hex(data)
    command = from_hex(header)
    require(len(command) == 4, "a header is CLA INS P1 P2")
    cipher = cipher_for(alg, card_key)
    body = sm_encrypt(cipher, plain) if encrypt else plain
    length = len(body) + SHORT_MAC_SIZE
    require(length <= 255, "too long for a short APDU")
    start = challenge_to_iv(from_hex(iv), cipher.block_size)
    signed = command + bytes([length]) + body
    mac = card_mac(alg, card_key, signed, start)[:SHORT_MAC_SIZE]
    return {
        "ciphertext": to_hex(body) if encrypt else "",
        "mac": to_hex(mac),
        "apdu": to_hex(signed + mac),
    }


def sm_encrypt(cipher: BlockCipher, plain: bytes) -> bytes:
    require(len(plain) <= 255, "too long for a one-byte LD")
    # Unlike the MAC, no padding at all when LD || data is already aligned.
    framed = bytes([len(plain)]) + plain
    return cipher.encrypt(pad_80_if_partial(framed, cipher.block_size))


def challenge_to_iv(challenge: bytes, size: int) -> bytes:
    """A challenge of 4 or 8 bytes is filled with zeros on the right."""
    require(len(challenge) in (4, 8, size), "the IV is 4 or 8 bytes or one block")
    return challenge.ljust(size, b"\0")


def op_kcv(*, alg: str, key: str, take: int, fn: str = "ecb", input: str = "zero") -> str:
    require(input in ("zero", "ones"), f"unknown KCV input {input!r}")
    cipher = cipher_for(alg, from_hex(key))
    block = (b"\1" if input == "ones" else b"\0") * cipher.block_size
    require(fn in ("ecb", "cmac"), f"unknown KCV function {fn!r}")
    full = cipher.encrypt(block) if fn == "ecb" else cmac(alg, from_hex(key), block)
    require(1 <= take <= len(full), "take is longer than a block")
    return to_hex(full[:take])


def op_key_wrap(*, wrapping_key: str, key: str) -> str:
    return to_hex(aes_key_wrap(from_hex(wrapping_key), from_hex(key)))


def op_sm3(*, message: str) -> str:
    return to_hex(sm3(from_hex(message)))


def op_sm2_public(*, private_key: str) -> str:
    private = int.from_bytes(from_hex(private_key), "big")
    require(1 <= private <= SM2_N - 2, "private key out of range")
    return to_hex(b"\4" + b"".join(map(int32, multiply_generator(private))))


def op_sm2_sign(
    *,
    private_key: str,
    message: str | None = None,
    e: str | None = None,
    id_bytes: str | None = None,
    k: str | None = None,
) -> dict[str, str]:
    private = int.from_bytes(from_hex(private_key), "big")
    require(1 <= private <= SM2_N - 2, "private key out of range")
    digest = sm2_digest(multiply_generator(private), id_bytes, message, e)
    pair = None
    while pair is None:
        nonce = secrets.randbelow(SM2_N - 1) + 1 if k is None else int(k, 16)
        require(1 <= nonce < SM2_N, "k out of range")
        pair = sm2_sign_once(private, digest, nonce)
        require(pair is not None or k is None, "this k gives no signature")
    r, s = pair
    return {
        "r": to_hex(int32(r)),
        "s": to_hex(int32(s)),
        "signature": to_hex(int32(r) + int32(s)),
        "signature_der": to_hex(encode_dss_signature(r, s)),
        "e": to_hex(digest),
    }


def op_sm2_verify(
    *,
    public_key: str,
    signature: str | None = None,
    signature_der: str | None = None,
    message: str | None = None,
    e: str | None = None,
    id_bytes: str | None = None,
) -> dict[str, Any]:
    is_der = signature is None
    require(is_der != (signature_der is None), "give signature or signature_der")
    encoded = from_hex(signature_der if is_der else signature)
    encoded_key = from_hex(public_key)
    try:
        public = decode_point(encoded_key)
        r, s = decode_signature(encoded, is_der)
    except ValueError as problem:
        # Bad encodings are what negative tests send: an answer, not an error.
        return {"valid": False, "reason": str(problem)}
    digest = sm2_digest(public, id_bytes, message, e)
    reason = sm2_rejection(public, digest, r, s)
    return {"valid": True} if reason is None else {"valid": False, "reason": reason}


OPERATIONS: dict[str, Callable[..., Any]] = {
    "block": op_block,
    "cipher": op_cipher,
    "mac": op_mac,
    "hmac": op_hmac,
    "disperse": op_disperse,
    "session": op_session,
    "tac": op_tac,
    "purse_mac": op_purse_mac,
    "sm": op_sm,
    "kcv": op_kcv,
    "key_wrap": op_key_wrap,
    "sm2_public": op_sm2_public,
    "sm2_sign": op_sm2_sign,
    "sm2_verify": op_sm2_verify,
    "sm3": op_sm3,
}


def answer(line: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
        require(isinstance(request, dict), "a request is a JSON object")
        operation = OPERATIONS.get(request.pop("op", None))
        if operation is None:
            raise Refused("unknown op")
        return {"ok": operation(**request)}
    except Exception as problem:  # one bad request must not end the process
        return {"error": f"{type(problem).__name__}: {problem}"}


def main() -> None:
    for line in sys.stdin:
        if line.strip():
            sys.stdout.write(json.dumps(answer(line)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
