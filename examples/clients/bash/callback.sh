#!/usr/bin/env bash
# Starts an operation at a provider and waits for its result: the URL goes to the provider, the result comes here. Needs curl and jq.
#
#   SLUICE_URL=http://localhost:8081 SLUICE_TOKEN=… ./callback.sh CONNECTION '{"payment": "pay_1"}'
set -euo pipefail
sluice=${SLUICE_URL:-http://localhost:8081}

ask() {
    curl --silent --show-error --fail-with-body --max-time 90 --header "Authorization: Bearer $SLUICE_TOKEN" \
        --header 'Content-Type: application/json' "$@"
}

order=$(jq --null-input --arg connection "$1" --argjson input "$2" '{connection: $connection, input: $input, expires_in: "1h"}')
callback=$(ask "$sluice/v1/callbacks" --data "$order")
echo "give this URL to the provider: $(jq --raw-output .url <<<"$callback")"
while [ "$(jq --raw-output .state <<<"$callback")" = pending ]; do
    callback=$(ask "$sluice/v1/callbacks/$(jq --raw-output .id <<<"$callback")?wait=60")
done
jq --raw-output '"\(.id) \(.state) \(.result | tojson)"' <<<"$callback"
