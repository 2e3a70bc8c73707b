#!/usr/bin/env bash
# A worker of the consumer NAME (a destination of kind pull): fetches a batch, handles it, acks it. Start several: they share the jobs.
# Needs curl and jq.
#
#   SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… ./consume.sh NAME
set -euo pipefail
sluice=${SLUICE_URL:-http://localhost:8081}

ask() {
    curl --silent --show-error --fail-with-body --max-time 60 "$sluice/v1/consumers/$1/$2" \
        --header "Authorization: Bearer $SLUICE_TOKEN" --header 'Content-Type: application/json' --data "$3"
}

while true; do
    if ! batch=$(ask "$1" fetch '{"max": 20, "wait": 30, "visibility": 30}'); then
        echo "$batch" >&2
        sleep 5
        continue
    fi
    lease=$(jq '.lease' <<<"$batch")
    [ "$lease" = null ] && continue
    jq --raw-output '.jobs[] | "\(.id) attempt \(.attempt)"' <<<"$batch" # handle them here
    ask "$1" ack "{\"lease\": $lease}" >/dev/null || echo "the lease ran out: the jobs come again" >&2
done
