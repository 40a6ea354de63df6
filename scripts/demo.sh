#!/usr/bin/env bash
# Three questions about demo/harbour_report.txt, from the full cache and from a fifth of its bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$(scripts/get_model.sh)
exec build/curdkv run -m "$model" -f demo/harbour_report.txt --compare-full -n 20 \
  -q "What is the name of the harbour engineer?" \
  -q "What was the total cost of the rebuilding?" \
  -q "What is the name of the quarry the granite came from?"
