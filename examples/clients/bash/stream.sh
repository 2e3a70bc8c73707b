#!/usr/bin/env bash
# Follows jobs as Server-Sent Events; whenever the connection ends it resumes behind the last job that it printed. Needs curl and jq.
#
#   SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… ./stream.sh
set -euo pipefail
sluice=${SLUICE_URL:-http://localhost:8081}

last=""
while true; do
    # A comment comes every 15 s: less than a byte a second for 45 s means a connection that is gone.
    while IFS=': ' read -r name value; do
        case $name in
            id) id=$value ;;
            data) jq --raw-output '"\(.id) \(.record | tojson)"' <<<"$value" && last=$id ;;
        esac
    done < <(curl --silent --show-error --no-buffer --fail-with-body --speed-limit 1 --speed-time 45 "$sluice/v1/jobs/stream" \
        --header "Authorization: Bearer $SLUICE_TOKEN" ${last:+--header "Last-Event-ID: $last"})
    sleep 1
done
