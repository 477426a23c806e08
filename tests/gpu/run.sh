#!/usr/bin/env bash
# Tests the cuda backend on a machine with a GPU: golden ops and models, fused and lowered. Run tests/gpu/carry.sh
# first, where weft was built, and bring .gpu/ along. The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/../../.gpu"
export LD_LIBRARY_PATH=$PWD/lib
tar xzf weft.tgz
tar xzf golden.tgz
weft=$PWD/bin/weft log=${OUT:-/tmp}/log
passed=0 failed=0
expect() {  # NAME COMMAND...: counts a command; what it prints is shown where it fails
  local name=$1 text
  shift
  if text=$("$@" 2>&1); then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $name"; tail -n "${LINES_SHOWN:-12}" <<<"$text"; fi
  printf '%s\n%s\n' "== $name" "$text" >>"$log"
}
expect devices "$weft" inspect --devices
expect "device tests" bin/test_backends --gtest_filter='Cuda*' --gtest_brief=1
expect "ops fused" "$weft" check-ops --backend cuda golden/ops
expect "ops lowered" "$weft" check-ops --backend cuda --fallback golden/ops
LINES_SHOWN=30 expect models python3 ../tests/gpu/check_models.py "$weft" golden/models/*/
# The bundled model's perplexity: within 0.1 % of the cpu's.
perplexity() { "$weft" perplexity ../examples/data/union-q8_0.gguf -f sotu-valid.txt --chunks 8 --backend "$1" --quiet | awk '$1 == "perplexity" { print $2 }'; }
same_perplexity() {
  local cuda cpu
  cuda=$(perplexity cuda) cpu=$(perplexity cpu)
  echo "perplexity cuda $cuda, cpu $cpu"
  awk "BEGIN { exit !(($cuda / $cpu - 1) ^ 2 < 1e-6) }"
}
LINES_SHOWN=30 expect perplexity same_perplexity
echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
