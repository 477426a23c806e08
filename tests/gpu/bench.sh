#!/usr/bin/env bash
# Times the cuda backend on synthetic models of real shapes: SHAPE:TYPE... or a default list. Files are made in /tmp.
set -uo pipefail
cd "$(dirname "$0")/../../.gpu"
export LD_LIBRARY_PATH=$PWD/lib
[[ -x bin/weft ]] || tar xzf weft.tgz
for spec in "${@:-llama-3.2-1b:q4_K llama-3.2-1b:f16 gpt2:f16}"; do
  for one in $spec; do
    shape=${one%%:*} type=${one#*:} file=/tmp/$shape-$type.gguf
    [[ -f $file ]] || python3 synth_gguf.py "$file" --shape "$shape" --type "$type" >/dev/null || continue
    echo "== $one"
    bin/weft bench --backend cuda "$file" -p "${P:-512}" -n "${N:-128}" -r "${R:-5}" --quiet ${BENCH_FLAGS:-}
  done
done
