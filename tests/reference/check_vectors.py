#!/usr/bin/env python3
"""Runs the reference over a folder of test vectors.

    check_vectors.py VECTORS_FOLDER

Each vector file the reference concerns is replayed through a running
key_blocks.py, in the same way as a test-suite would use it. Prints, for each
file, how many of its cases were checked, and exits non-zero on any mismatch.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from psec import mac as psec_mac

import reference

Case = dict[str, Any]

DIFFERENTIAL_ROUNDS = 200
SM4_STANDARD_ITERATIONS = 1_000_000


class Mismatch(Exception):
    """The reference and a vector disagree."""


class Oracle:
    """A running reference process."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("key_blocks.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def reply(self, op: str, **fields: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"op": op, **fields}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def ask(self, op: str, **fields: Any) -> Any:
        reply = self.reply(op, **fields)
        if "ok" not in reply:
            raise Mismatch(f"{op} refused: {reply['error']}")
        return reply["ok"]

    def close(self) -> None:
        self._process.communicate()


def same(what: str, got: Any, expected: Any) -> None:
    if got != expected:
        raise Mismatch(f"{what}: got {got}, expected {expected}")


def alg_of(case: Case) -> str:
    return case["alg"].split()[0].lower()


def be(number: int, size: int) -> str:
    return f"{number:0{2 * size}X}"


# --- one checker for each file ----------------------------------------------
#
# A checker returns False for a case that the reference does not cover.


def check_dispersion(oracle: Oracle, case: Case) -> bool:
    alg, variant = alg_of(case), case.get("variant", "")
    rule = "raw16" if variant.startswith("16-byte") else "f_notf"
    parity = "odd" if variant.startswith("odd-parity") else "none"

    def disperse(factors: list[str], key_parity: str) -> str:
        return oracle.ask(
            "disperse", alg=alg, rule=rule, parity=key_parity, key=case["mk"], factors=factors
        )

    same("expected", disperse(case["factors"], parity), case["expected"])
    for level, key in enumerate(case.get("intermediate", []), start=1):
        same(f"level {level}", disperse(case["factors"][:level], parity), key)
    if "unadjusted" in case:
        same("unadjusted", disperse(case["factors"], "none"), case["unadjusted"])
    return True


def purse_inputs(case: Case) -> dict[str, str]:
    """MAC and TAC inputs of a whole transaction, from its fields."""
    amount, stamp = case["amount"], case["date"] + case["time"]
    place = case["txn_type"] + case["terminal"]
    if case["op"] == "purchase":
        return {
            "sk": case["rand"] + case["offline_sn"] + case["ttc"][4:],
            "mac1": amount + place + stamp + case.get("auth_id", ""),
            "mac2": amount,
            "tac": amount + place + case["ttc"] + stamp,
        }
    before, sign = int(case["balance_before"], 16), 1 if case["op"] == "load" else -1
    after = be(before + sign * int(amount, 16), 4)
    final = after + case["online_sn"] + amount + place + stamp
    return {
        "sk": case["rand"] + case["online_sn"] + "8000",
        "mac1": case["balance_before"] + amount + place,
        "mac2": amount + place + stamp,
        "mac3" if case["op"] == "unload" else "tac": final,
    }


def check_purse(oracle: Oracle, case: Case) -> bool:
    if "." in case["op"]:
        return check_purse_step(oracle, case)
    alg, inputs = alg_of(case), purse_inputs(case)
    for name, value in inputs.items():
        same(f"{name}_input", value, case.get(f"{name}_input", value))
    session = oracle.ask("session", alg=alg, key=case["key"], input=inputs["sk"])
    same("session_key", session, case["session_key"])
    for name in ("mac1", "mac2", "mac3"):
        if name in case:
            mac = oracle.ask("purse_mac", alg=alg, session_key=session, message=inputs[name])
            same(name, mac, case[name])
    if "expected_tac" in case:
        same("tac", card_tac(oracle, alg, case["dtk"], inputs["tac"]), case["expected_tac"])
    if "tac_alternatives" in case:
        check_tac_alternatives(oracle, case, inputs["tac"])
    return True


def check_purse_step(oracle: Oracle, case: Case) -> bool:
    """The published single steps, which give a session key or ask for one."""
    alg = alg_of(case)
    if case["op"] == "load.session_key":
        same("input", case["rand"] + case["online_sn"] + "8000", case["sk_input"])
        session = oracle.ask("session", alg=alg, key=case["dlk"], input=case["sk_input"])
        same("expected", session, case["expected"])
        return True
    fields = {
        "load.mac1": ("balance", "amount", "txn_type", "terminal"),
        "load.mac2": ("amount", "txn_type", "terminal", "date", "time"),
        "purchase.mac1": ("amount", "txn_type", "terminal", "date", "time"),
    }[case["op"]]
    message = "".join(case[name] for name in fields)
    same("mac_input", message, case["mac_input"])
    mac = oracle.ask("purse_mac", alg=alg, session_key=case["sk"], message=message)
    same("expected", mac, case["expected"])
    return True


def card_tac(oracle: Oracle, alg: str, key: str, message: str) -> str:
    rule = "full" if alg == "sm4" else "xor_halves"
    return oracle.ask("tac", alg=alg, key_rule=rule, card_key=key, message=message)


def check_tac_alternatives(oracle: Oracle, case: Case, message: str) -> None:
    full = oracle.ask("mac", alg="sm4", algorithm=1, padding=2, key=case["dtk"], message=message)
    same("tac_full_block", full, case["tac_full_block"])
    rules = {
        "rightmost4": ("full", "right4"),
        "xor_fold_16_to_8_left4": ("full", "fold8_left4"),
        "xor_fold_16_to_4": ("full", "fold4"),
        "sm4_key_is_(L^R)||~(L^R)_left4": ("fold_complement", "left4"),
    }
    same("names of alternatives", set(case["tac_alternatives"]), set(rules))
    for name, (key_rule, truncate) in rules.items():
        tac = oracle.ask(
            "tac",
            alg="sm4",
            key_rule=key_rule,
            truncate=truncate,
            card_key=case["dtk"],
            message=message,
        )
        same(name, tac, case["tac_alternatives"][name])


def check_grey(oracle: Oracle, case: Case) -> bool:
    place = case["txn_type"] + case["terminal"]
    stamp = case["date"] + case["time"]
    if case["op"] == "grey_lock":
        first_input = case["card_rand"] + case["offline_sn"] + case["ttc"][4:]
        middle = oracle.ask("session", alg="3des", key=case["dpk"], input=first_input)
        same("intermediate_key", middle, case["intermediate_key"])
        second_input = case["terminal_rand"] + "80000000"
        session = oracle.ask("session", alg="des", key=middle, input=second_input)
        check_session_macs(oracle, case, session, {"mac1": place + stamp})
    elif case["op"] == "grey_online_unlock":
        session_input = case["card_rand"] + case["online_sn"] + "8000"
        session = oracle.ask("session", alg="3des", key=case["dugk"], input=session_input)
        inputs = {
            "mac1": case["balance"] + case["offline_sn"] + place,
            "mac2": case["unlock_amount"] + place + stamp,
        }
        check_session_macs(oracle, case, session, inputs)
    else:
        message = case["amount"] + place + case["ttc"] + stamp
        same("tac_input", message, case["tac_input"])
        same("tac", card_tac(oracle, "3des", case["dtk"], message), case["expected_tac"])
    return True


def check_session_macs(oracle: Oracle, case: Case, session: str, inputs: dict[str, str]) -> None:
    same("session_key", session, case["session_key"])
    for name, message in inputs.items():
        same(f"{name}_input", message, case[f"{name}_input"])
        mac = oracle.ask("purse_mac", alg="des", session_key=session, message=message)
        same(name, mac, case[name])


def check_messaging(oracle: Oracle, case: Case) -> bool:
    alg = alg_of(case)
    if "rand" in case:
        check_external_authenticate(oracle, case)
    elif "mac_key" in case:
        check_pin_reload(oracle, case)
    elif "padded" in case:
        check_encrypted_command(oracle, case)
    else:
        header, data = case["mac_input"][:8], case["mac_input"][10:]
        result = oracle.ask("sm", alg=alg, key=case["key"], iv=case["iv"], header=header, data=data)
        same("expected_mac", result["mac"], case["expected_mac"])
        same("apdu", result["apdu"], case["mac_input"] + case["expected_mac"])
        same("apdu_prefix", case.get("apdu_prefix", case["mac_input"]), case["mac_input"])
    return True


def check_encrypted_command(oracle: Oracle, case: Case) -> None:
    alg = alg_of(case)
    if "new_key" in case:
        data = case["key_header"] + case["new_key"]
    else:
        data = case.get("plaintext") or case["pin"]
    header = case["mac_input"][:8]
    result = oracle.ask(
        "sm", alg=alg, key=case["key"], iv=case["iv"], header=header, data=data, encrypt=True
    )
    same("ciphertext", result["ciphertext"], case["ciphertext"])
    same("expected_mac", result["mac"], case["expected_mac"])
    apdu = case["mac_input"] + case["expected_mac"]
    same("apdu", result["apdu"], apdu)
    same("apdu as given", case.get("apdu", apdu), apdu)
    padded = oracle.ask("block", alg=alg, key=case["key"], data=result["ciphertext"], decrypt=True)
    same("padded", padded, case["padded"])


def check_external_authenticate(oracle: Oracle, case: Case) -> None:
    alg = alg_of(case)
    challenge = case["rand"].ljust(16, "0")
    response = oracle.ask("block", alg=alg, key=case["key"], data=challenge)
    if alg == "sm4":
        same("sm4", response, case["sm4"])
        response = xor_hex(response[:16], response[16:])
    same("expected", response, case["expected"])


def check_pin_reload(oracle: Oracle, case: Case) -> None:
    mac_key = xor_hex(case["key"][:16], case["key"][16:])
    same("mac_key", mac_key, case["mac_key"])
    mac = oracle.ask("purse_mac", alg="des", session_key=mac_key, message=case["pin"])
    same("expected_mac", mac, case["expected_mac"])
    lc = be(len(case["pin"]) // 2 + 4, 1)
    same("apdu", "805E0000" + lc + case["pin"] + mac, case["apdu"])


def xor_hex(left: str, right: str) -> str:
    return be(int(left, 16) ^ int(right, 16), len(left) // 2)


def check_psam(oracle: Oracle, case: Case) -> bool:
    alg, factors = alg_of(case), case["factors_root_to_card"]
    card_key = oracle.ask("disperse", alg=alg, key=case["master_key"], factors=factors)
    same("dpk", card_key, case["dpk"])
    body = "".join(
        case[name]
        for name in (
            "rand",
            "offline_sn",
            "amount",
            "txn_type",
            "date",
            "time",
            "key_version",
            "alg_id",
        )
    ) + "".join(reversed(factors))
    same("8070", "80700000" + be(len(body) // 2, 1) + body + "08", case["expected_apdu_8070"])
    session_input = case["rand"] + case["offline_sn"] + case["ttc"][4:]
    session = oracle.ask("session", alg=alg, key=card_key, input=session_input)
    same("session_key", session, case["session_key"])
    stamp = case["date"] + case["time"]
    message = case["amount"] + case["txn_type"] + case["terminal"] + stamp
    mac1 = oracle.ask("purse_mac", alg=alg, session_key=session, message=message)
    same("mac1", mac1, case["mac1"])
    same("8070 response", case["ttc"] + mac1, case["expected_response_8070"])
    same("8054 data", case["ttc"] + stamp + mac1, case["card_8054_data"])
    mac2 = oracle.ask("purse_mac", alg=alg, session_key=session, message=case["amount"])
    same("mac2", mac2, case["mac2"])
    same("8072", "8072000004" + mac2, case["expected_apdu_8072"])
    return True


def clearing_input(record: dict[str, Any], extra: int = 0) -> str:
    amount = record["amount"] + extra
    place, stamp = record["tt"] + record["psam"], record["date"] + record["time"]
    if "online_sn" not in record:
        return be(amount, 4) + place + be(record["ttc"], 4) + stamp
    after = record["balance_before"] + amount
    return be(after, 4) + be(record["online_sn"], 2) + be(amount, 4) + place + stamp


def check_clearing(oracle: Oracle, case: Case) -> bool:
    alg, record = alg_of(case), case["record"]
    key = oracle.ask("disperse", alg=alg, key=case["tac_master_key"], factors=case["factors"])
    same("dtk", key, case["dtk"])
    message = clearing_input(record)
    same("tac_input", message, case["tac_input"])
    same("tac", card_tac(oracle, alg, key, message), case["expected_tac"])
    if "negative" in case:
        wrong = card_tac(oracle, alg, key, clearing_input(record, extra=1))
        same("amount_plus_1", wrong, case["negative"]["amount_plus_1"])
    return True


def check_keyset(oracle: Oracle, case: Case) -> bool:
    alg, blob = alg_of(case), ""
    if "keys" not in case:
        key = oracle.ask("disperse", alg=alg, key=case["tk"], factors=case["factors"])
        same("expected", key, case["expected"])
        return True
    for entry in case["keys"]:
        name, master = entry["name"], entry["master_key"]
        key = oracle.ask("disperse", alg=alg, key=master, factors=case["factors"])
        same(f"{name} card_key", key, entry["card_key"])
        wrapped = oracle.ask("block", alg=alg, key=case["tk"], data=key)
        same(f"{name} wrapped", wrapped, entry["wrapped"])
        for size in (3, 8):
            kcv = oracle.ask("kcv", alg=alg, key=key, fn="ecb", input="zero", take=size)
            same(f"{name} kcv{size}", kcv, entry[f"kcv{size}"])
        blob += wrapped + entry["kcv3"]
    same("blob", blob, case["expected_blob_16_plus_3"])
    return True


def check_mac(oracle: Oracle, case: Case, alg: str) -> bool:
    mac = oracle.ask(
        "mac",
        alg=alg,
        algorithm=case["mac_algorithm"],
        padding=case.get("padding", 4),
        key=case["key"],
        key2=case.get("key2", ""),
        message=case["message"],
    )
    same("full_block", mac, case.get("full_block", mac))
    same("mac_bits", case.get("mac_bits", 4 * len(case["expected"])), 4 * len(case["expected"]))
    same("expected", mac[: len(case["expected"])], case["expected"])
    return True


def check_iso_mac(oracle: Oracle, case: Case) -> bool:
    by_key_length = {16: "des", 32: "3des", 48: "3des"}
    alg = by_key_length[len(case["key"])]
    return check_mac(oracle, case, "aes" if "AES" in case.get("cipher", "") else alg)


def check_gb_mac(oracle: Oracle, case: Case) -> bool:
    return check_mac(oracle, case, "sm4")


def check_hash(oracle: Oracle, case: Case) -> bool:
    message = case["message"]
    if case["op"] == "SM3":
        same("expected", oracle.ask("sm3", message=message), case["expected"])
    elif case["op"] == "HMAC-SM3":
        mac = oracle.ask("hmac", hash="sm3", key=case["key"], message=message)
        same("expected", mac, case["expected"])
    else:
        return check_kdf(oracle, case)
    return True


def check_kdf(oracle: Oracle, case: Case) -> bool:
    """The GM KDF is SM3 over the input and a counter from 1."""
    rounds = -(-case["out_len"] // 32)
    out = "".join(
        oracle.ask("sm3", message=case["message"] + be(counter, 4))
        for counter in range(1, rounds + 1)
    )
    same("expected", out[: 2 * case["out_len"]], case["expected"])
    return True


def check_sm4_mode(oracle: Oracle, case: Case) -> bool:
    mode, key = case["mode"], case["key"]
    if mode.startswith("ECB x"):
        return check_sm4_iterations(case)
    if mode == "CMAC":
        mac = oracle.ask("mac", alg="sm4", algorithm=5, key=key, message=case["message"])
        same("expected", mac, case["expected"])
        return True
    if mode not in ("ECB", "CBC", "GCM"):
        return False
    plain = case["plaintext"]
    fields = {
        "alg": "sm4",
        "mode": mode.lower(),
        "key": key,
        "iv": case["iv"],
        "aad": case.get("aad", ""),
    }
    expected = case.get("expected") or case["expected_ciphertext"] + case["expected_tag"]
    same("encrypted", oracle.ask("cipher", data=plain, **fields), expected)
    same("decrypted", oracle.ask("cipher", data=expected, decrypt=True, **fields), plain)
    if mode == "GCM":
        altered = expected[:-1] + ("0" if expected[-1] != "0" else "1")
        reply = oracle.reply("cipher", data=altered, decrypt=True, **fields)
        same("altered tag refused", "error" in reply, True)
    return True


def check_sm4_iterations(case: Case) -> bool:
    """In process: a million requests would measure the pipe, not the cipher."""
    cipher = reference.cipher_for("sm4", bytes.fromhex(case["key"]))
    block = bytes.fromhex(case["plaintext"])
    for _ in range(SM4_STANDARD_ITERATIONS):
        block = cipher.encrypt(block)
    same("expected", block.hex().upper(), case["expected"])
    return True


def check_sm2(oracle: Oracle, case: Case) -> bool:
    if case["op"] == "SM2 sign":
        return check_sm2_signature(oracle, case)
    if case["op"].startswith("SM2 verify"):
        check_sm2_verdicts(
            oracle, case["public_key"], {"e": case["e"]}, case["signature_der"], "signature_der"
        )
        return True
    if case["op"] == "point compression":
        points = [
            reference.decode_point(bytes.fromhex(case[name])) for name in ("public_key", "expected")
        ]
        same("decompressed", points[1], points[0])
        return True
    return False


def check_sm2_signature(oracle: Oracle, case: Case) -> bool:
    signed = {"message": case["message"], "id_bytes": case["id_bytes"]}
    same("public", oracle.ask("sm2_public", private_key=case["private_key"]), case["public_key"])
    made = oracle.ask("sm2_sign", private_key=case["private_key"], k=case["k"], **signed)
    same("r", made["r"], case["expected_r"])
    same("s", made["s"], case["expected_s"])
    same("e", made["e"], case.get("e", made["e"]))
    same("der", made["signature_der"], case.get("expected_der", made["signature_der"]))
    public = reference.decode_point(bytes.fromhex(case["public_key"]))
    za = reference.sm2_za(public, bytes.fromhex(case["id_bytes"])).hex().upper()
    same("za", za, case["za"])
    check_sm2_verdicts(oracle, case["public_key"], signed, made["signature"], "signature")
    fresh = oracle.ask("sm2_sign", private_key=case["private_key"], **signed)
    check_sm2_verdicts(oracle, case["public_key"], signed, fresh["signature"], "signature")
    return True


def check_sm2_verdicts(
    oracle: Oracle, public: str, signed: dict[str, str], signature: str, form: str
) -> None:
    """Valid as it is, invalid with any one thing changed."""

    def verdict(key: str, value: str, content: dict[str, str]) -> bool:
        fields = {"public_key": key, form: value, **content}
        return oracle.ask("sm2_verify", **fields)["valid"]

    same("valid", verdict(public, signature, signed), True)
    flipped = be(int(signature, 16) ^ 1, len(signature) // 2)
    same("altered s", verdict(public, flipped, signed), False)
    same("altered key", verdict(public[:-2] + "00", signature, signed), False)
    if "e" in signed:
        other = {"e": be(int(signed["e"], 16) ^ 1, 32)}
    else:
        other = {**signed, "message": signed["message"] + "00"}
    same("altered content", verdict(public, signature, other), False)
    if form == "signature":
        r, s, n = signature[:64], signature[64:], be(reference.SM2_N, 32)
        complement = be(reference.SM2_N - int(r, 16), 32)
        for name, value in {
            "r = 0": be(0, 32) + s,
            "s = 0": r + be(0, 32),
            "r = n": n + s,
            "s = n": r + n,
            "r + s = n": r + complement,
        }.items():
            same(name, verdict(public, value, signed), False)


def check_kcv(oracle: Oracle, case: Case) -> bool:
    rule, key = case["rule"], case["key"]
    if "SM3" in rule:
        same("expected", oracle.ask("sm3", message=key)[:16], case["expected"])
        return True
    alg = alg_of(case)
    if "decrypt" in rule:
        plain = oracle.ask("block", alg=alg, key=key, data=case["input"], decrypt=True)
        same("expected", plain, case["expected"])
        return True
    fn = "cmac" if "CMAC" in rule else "ecb"
    block = "ones" if "01^16" in rule else "zero"
    for name in ("full", "expected", "expected4", "expected8"):
        if name in case:
            size = len(case[name]) // 2
            kcv = oracle.ask("kcv", alg=alg, key=key, fn=fn, input=block, take=size)
            same(name, kcv, case[name])
    return True


def check_key_block(oracle: Oracle, case: Case) -> bool:
    kbpk, plain = case["kbpk"], case["plaintext_with_length_and_pad"]
    block = case.get("key_block") or case["expected_key_block"]
    local = "key_block" not in case
    if block[0] == "E" or local:
        fields = {"alg": "sm4" if local else "aes", "kbpk": kbpk}
        same("payload", oracle.ask("key_block_open", block=block, header_size=16, **fields), plain)
        same("block", oracle.ask("key_block_seal", header=block[:16], payload=plain, **fields), block)
    else:
        same("key", oracle.ask("key_block_unwrap", kbpk=kbpk, block=block), case["expected_key"])
    return True


def check_envelope(oracle: Oracle, case: Case) -> bool:
    if "c1_x" not in case:
        # Structures around a ciphertext, which the reference does not know.
        return False
    names = {"x": "c1_x", "y": "c1_y", "hash": "c3", "ciphertext": "c2"}
    expected = {name: case[field] for name, field in names.items()}
    key = case["session_key"]
    sealed = oracle.ask("sm2_encrypt", public_key=case["public_key"], message=key, k=case["k"])
    same("ciphertext", sealed, expected)
    same("key", oracle.ask("sm2_decrypt", private_key=case["private_key"], **expected), key)
    return True


CHECKERS: dict[str, Callable[[Oracle, Case], bool]] = {
    "pboc-dispersion": check_dispersion,
    "pboc-purse-3des": check_purse,
    "pboc-purse-sm4": check_purse,
    "pboc-grey-lock": check_grey,
    "pboc-secure-messaging": check_messaging,
    "psam-purchase": check_psam,
    "clearing-tac": check_clearing,
    "perso-keyset": check_keyset,
    "iso9797-1-mac": check_iso_mac,
    "gbt15852-1-sm4-mac": check_gb_mac,
    "sm3-hmac": check_hash,
    "sm4-modes": check_sm4_mode,
    "sm2": check_sm2,
    "sm2-envelope": check_envelope,
    "tr31": check_key_block,
    "kcv": check_kcv,
}


# --- the reference against the other libraries -------------------------------


def check_against_libraries(oracle: Oracle) -> None:
    """Random requests, answered again by psec and by OpenSSL."""
    rng = random.Random(9797)  # fixed, so that a failure can be repeated
    for _ in range(DIFFERENTIAL_ROUNDS):
        message = rng.randbytes(rng.randrange(70))
        for padding in (1, 2, 3):
            check_psec_macs(oracle, rng, message, padding)
        check_openssl_cbc(oracle, rng)


def check_psec_macs(oracle: Oracle, rng: random.Random, message: bytes, padding: int) -> None:
    key, key2 = rng.randbytes(8), rng.randbytes(8)
    wanted = {
        ("des", 1, ""): psec_mac.generate_cbc_mac(key * 3, message, padding),
        ("3des", 1, ""): psec_mac.generate_cbc_mac(key + key2 + key, message, padding),
        ("des", 3, key2.hex()): psec_mac.generate_retail_mac(key * 3, key2 * 3, message, padding),
    }
    for (alg, algorithm, second), expected in wanted.items():
        first = key + key2 if alg == "3des" else key
        got = oracle.ask(
            "mac",
            alg=alg,
            algorithm=algorithm,
            padding=padding,
            key=first.hex(),
            key2=second,
            message=message.hex(),
        )
        same(f"psec {alg} algorithm {algorithm}", got, expected.hex().upper())


def check_openssl_cbc(oracle: Oracle, rng: random.Random) -> None:
    for alg, key_size in (
        ("des", 8),
        ("3des", 16),
        ("3des", 24),
        ("aes", 16),
        ("aes", 32),
        ("sm4", 16),
    ):
        key = rng.randbytes(key_size)
        size = reference.cipher_for(alg, key).block_size
        iv, plain = rng.randbytes(size), rng.randbytes(size * rng.randrange(5))
        cipher = Cipher(reference.openssl_algorithm(alg, key), modes.CBC(iv))
        expected = cipher.encryptor().update(plain).hex().upper()
        fields = {"alg": alg, "mode": "cbc", "key": key.hex(), "iv": iv.hex()}
        got = oracle.ask("cipher", data=plain.hex(), **fields)
        same(f"openssl {alg} cbc", got, expected)
        back = oracle.ask("cipher", data=got, decrypt=True, **fields)
        same(f"{alg} cbc decrypted", back, plain.hex().upper())


# --- running -----------------------------------------------------------------


def check_file(oracle: Oracle, path: Path) -> bool:
    """Prints one line for the file, and one more for each failure."""
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    passed, failures, uncovered = 0, [], []
    for case in cases:
        try:
            covered = CHECKERS[path.stem](oracle, case)
        except (Mismatch, KeyError, ValueError) as problem:
            failures.append(f"{case['id']}: {type(problem).__name__}: {problem}")
            continue
        passed += covered
        if not covered:
            uncovered.append(case["id"])
    note = f" (not covered: {', '.join(uncovered)})" if uncovered else ""
    print(f"{path.name}: {passed} of {len(cases)}{note}")
    for failure in failures:
        print(f"  FAILED {failure}")
    return not failures


def main(folder: Path) -> int:
    oracle = Oracle()
    try:
        results = [check_file(oracle, folder / f"{name}.json") for name in CHECKERS]
        check_against_libraries(oracle)
        print(f"psec and OpenSSL: {DIFFERENTIAL_ROUNDS} of {DIFFERENTIAL_ROUNDS} rounds agree")
    except Mismatch as problem:
        print(f"FAILED {problem}")
        return 1
    finally:
        oracle.close()
    return 0 if all(results) else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check_vectors.py VECTORS_FOLDER")
    sys.exit(main(Path(sys.argv[1])))
