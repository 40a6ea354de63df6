#!/usr/bin/env bash
# with_model.sh COMMAND...: runs a test with CURDKV_TEST_MODEL set to the default model, which is fetched if need be.
set -euo pipefail
CURDKV_TEST_MODEL=$("$(dirname "$0")/../../scripts/get_model.sh")
export CURDKV_TEST_MODEL
exec "$@"
