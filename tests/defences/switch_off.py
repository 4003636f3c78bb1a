"""Shows that the tests of docs/sessions.md test something: switches each defence off in turn and has its test fail.

Run it in a clean tree, as `./test --defences [NAME ..]`; it puts every file back. A test that passes without its defence,
or a defence that is not found in the code any more, ends it with 1.
"""

import pathlib
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cargo_test(name: str) -> subprocess.CompletedProcess:
    """Runs the one test of that name, wherever it is."""
    driver = (ROOT / "hsm-drivers/pkcs11/tests/tokens/sessions.rs").read_text()
    where = ["--package", "claviger-driver-pkcs11", "--test", "tokens"] if f"fn {name}(" in driver else [
        "--package", "claviger", "--test", "suite"]
    command = ["cargo", "test", "--locked", *where, "--", name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def tries_to_fail(defence: dict) -> str:
    """What became of the test without the defence."""
    before = {}
    try:
        for edit in defence["edits"]:
            path = ROOT / edit["file"]
            text = path.read_text()
            before.setdefault(path, text)
            if edit["find"] not in text:
                return f"{edit['file']} holds no `{edit['find']}`"
            path.write_text(text.replace(edit["find"], edit["put"]))
        ran = cargo_test(defence["test"])
    finally:
        for path, text in before.items():
            path.write_text(text)
    told = ran.stdout + ran.stderr
    if "could not compile" in told:
        return "it does not compile without its defence:\n" + told
    if ran.returncode == 0:
        return "it passes without its defence"
    return "" if "test result: FAILED" in told else "it did not run:\n" + told


def main() -> int:
    defences = tomllib.loads((ROOT / "tests/defences/defences.toml").read_text())["defence"]
    wanted = sys.argv[1:]
    wrong = 0
    for defence in defences:
        if wanted and not any(defence["test"].startswith(name) for name in wanted):
            continue
        found = tries_to_fail(defence)
        print(f"{defence['test']}: {found or 'fails without: ' + defence['what']}", flush=True)
        wrong += bool(found)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
