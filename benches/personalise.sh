#!/usr/bin/env bash
# How long it takes to personalise cards with sixteen 3DES keys each, through command and daemon: dispersed, under a transport key,
# with check values, the file on disk.
#
#     benches/personalise.sh            # a million cards
#     benches/personalise.sh 7000000
#
# The layout is `city-platform` of `jtt978`, with keys in its spare places. CLAVIGER names the program, if it is not to be built.
set -euo pipefail
cd "$(dirname "$0")/.."
cards=${1:-1000000} listen=127.0.0.1:${PORT:-28443}
[ -n "${CLAVIGER:-}" ] || { cargo build --release --locked; CLAVIGER=target/release/claviger; }
folder=$(mktemp -d)
daemon=
trap '[ -z "$daemon" ] || kill "$daemon"; rm -rf "$folder"' EXIT

serve() {
    "$CLAVIGER" "$@" >"$folder/daemon.log" 2>&1 &
    daemon=$!
    until curl --silent --output /dev/null --cacert "$folder/dev/ca.pem" --cert "$folder/dev/clients/officer.pem" \
        --key "$folder/dev/clients/officer-key.pem" "https://$listen/readyz" 2>/dev/null; do
        kill -0 "$daemon" || { cat "$folder/daemon.log"; exit 1; }
        sleep 0.1
    done
}

as() {
    "$CLAVIGER" --data "$folder/dev" --as "$@"
}

# A development daemon makes certificates and a configuration; the same then serves with a profile of its own.
serve dev --data "$folder/dev" --listen "$listen"
kill "$daemon"
wait "$daemon" || true
mkdir --mode 700 "$folder/dev/schemes"
sed -E 's/(name = "(spare|reserve_1|reserve_2)"), fill = "00"/\1, role = "DULK"/' card-schemes/profiles/jtt978.toml \
    >"$folder/dev/schemes/jtt978.toml"
sed -i '1i schemes = "schemes"' "$folder/dev/claviger.toml"
serve serve --config "$folder/dev/claviger.toml"

for role in DCCK DCMK DACK DAMK DPK DLK DTK DABK DPUK RECORD_ECASH RECORD_PURSE DAUK DLK2 DULK TK; do
    as officer keys generate --tenant demo --scheme jtt978 --role "$role" --version 01 --algorithm 3des >/dev/null
done
awk -v cards="$cards" 'BEGIN {
    print "card_id,city_code,issuer_id,asn"
    for (card = 0; card < cards; card++) printf "C%d,1150,1009115000010000,%016d\n", card, 1150491900000000 + card
}' >"$folder/cards.csv"
begun=$(date +%s%N)
as card-management cards personalise "$folder/cards.csv" --tenant demo --scheme jtt978 --key-set city-platform \
    --transport-key TK/01 --out "$folder/keysets.csv"
took=$(($(date +%s%N) - begun))
awk -v cards="$cards" -v took="$took" -v bytes="$(stat --format %s "$folder/keysets.csv")" \
    -v peak="$(awk '/VmHWM/ { print $2 }' "/proc/$daemon/status")" 'BEGIN {
    printf "%d cards in %.1f s, %d a second, %.1f GB written, %d KiB at most in the daemon\n", cards, took / 1e9, cards / (took / 1e9), bytes / 1e9, peak
}'
