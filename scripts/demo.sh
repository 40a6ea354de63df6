#!/usr/bin/env bash
# Three questions about demo/harbour_report.txt, from the full cache and from adacurdkv with 60 % removed.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$(scripts/get_model.sh)
exec build/curdkv run -m "$model" -f demo/harbour_report.txt --compare-full -n 64 \
  --press adacurdkv --compression-ratio 0.6 \
  -q "Who led the rebuilding of the harbour?" \
  -q "How much did the rebuilding cost in all?" \
  -q "Where did the granite for the new breakwater come from?"
