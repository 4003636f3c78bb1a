"""psec (PyPI, over OpenSSL) on the workloads it knows: for each line with a workload's name, a line with the nanoseconds of
processor time that one record took, of some."""

import os
import sys
import time

from psec.des import encrypt_tdes_ecb
from psec.mac import generate_cbc_mac, generate_retail_mac

MASTER = bytes.fromhex("C4D689158AD9FB9D23105B91CE046D0E")
RECORDS = 200


def disperse(factor: bytes) -> bytes:
    return encrypt_tdes_ecb(MASTER, factor + bytes(byte ^ 0xFF for byte in factor))


def tac(factor: bytes, text: bytes) -> bytes:
    key = disperse(factor)
    single = bytes(left ^ right for left, right in zip(key[:8], key[8:]))
    return generate_cbc_mac(single, text, 2, 4)


def retail(factor: bytes, text: bytes) -> bytes:
    key = disperse(factor)
    return generate_retail_mac(key[:8], key[8:], text, 2, 4)


WORKLOADS = {
    "w1-3des-tac": (tac, 22),
    "w4-retail-mac": (retail, 64),
    "3des-fixed-key-mac": (lambda _, text: generate_retail_mac(MASTER[:8], MASTER[8:], text, 2, 4), 64),
    "3des-dispersion": (lambda factor, _: disperse(factor), 0),
}


for line in sys.stdin:
    work, width = WORKLOADS[line.strip()]
    records = [(os.urandom(8), os.urandom(width)) for _ in range(RECORDS)]
    begun = time.thread_time_ns()
    for factor, text in records:
        work(factor, text)
    print((time.thread_time_ns() - begun) / RECORDS, flush=True)
