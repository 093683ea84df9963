#!/usr/bin/env bash
# From made-up tickets to answers over HTTP, in an empty folder: bash run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
port=${PORT:-8000}
python "$here/tickets.py" tasks
adapt run --each "$here/tasks.yaml"
adapt serve --port "$port" > server.log 2>&1 &
server=$!
trap 'kill $server; wait $server || true' EXIT
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/ready"; do
  kill -0 $server || { cat server.log; exit 1; }
  sleep 1
done
INBOX_URL=http://127.0.0.1:$port python "$here/ask.py" \
  "Hi team, my heat pump is broken and I need it today" "The invoice for order 48213 is wrong, no hurry"
