#!/usr/bin/env bash
# Reads jobs in order, waits for the next one, and goes on after a restart where it stopped: the place is kept in after.txt, once the
# jobs before it are handled. Needs curl and jq.
#
#   SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… ./pull.sh
set -euo pipefail
sluice=${SLUICE_URL:-http://localhost:8081}

after=$(cat after.txt 2>/dev/null || true)
while true; do
    if ! page=$(curl --silent --show-error --fail-with-body --max-time 60 --get "$sluice/v1/jobs" \
        --header "Authorization: Bearer $SLUICE_TOKEN" --data-urlencode "after=$after" --data wait=30); then
        echo "$page" >&2
        sleep 5
        continue
    fi
    jq --raw-output '.jobs[] | "\(.id) \(.record | tojson)"' <<<"$page" # handle them here
    after=$(jq --raw-output .next <<<"$page")
    echo "$after" >after.new && mv after.new after.txt
done
