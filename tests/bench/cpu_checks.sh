#!/bin/bash
# What the CPU backend promises of loading, threads and batches, measured: tests/bench/cpu_checks.sh WEFT MODEL.gguf
# The model a 1B one in q4_0 on an idle machine of at least two cores; each line says what was asked and what came.
set -euo pipefail
weft=$1 model=$2
ids=$(seq -s, 1 16)
speed() { "$@" --backend cpu --ctx 512 -r 1 --json 2>/dev/null | sed -n 's/.*"tokens_per_s": \([0-9.]*\).*/\1/p'; }
median() { sort -n | sed -n "$((($1 + 1) / 2))p"; }
ratio() { awk "BEGIN { printf \"%.$3f\", $1 / $2 }"; }

cat "$model" >/dev/null  # warm: in the system's cache
for _ in 1 2 3 4 5; do
  /usr/bin/time -f '%e %M' "$weft" eval "$model" --precision fast --backend cpu --ids "$ids" -n 1 2>&1 >/dev/null | tail -1
done | sort -n | sed -n 3p | while read -r seconds kib; do
  echo "load: 16 tokens of prompt to the first token and the end of the process in $seconds s (0.5 asked)"
  echo "memory: $(ratio "$((kib * 1024))" "$(stat -c %s "$model")" 2) of the file resident at most (1.15 asked)"
done

# name, asked, runs of one token after the other; then the same in another way, in turn
compare() {
  local name=$1 asked=$2 one=$3 other=$4
  for _ in 1 2 3 4 5; do ratio "$(speed $other)" "$(speed $one)" 3; echo; done | median 5 |
    sed "s/.*/$name: & of it ($asked asked)/"
}
bench="$weft bench $model -p 0 -n 32"
compare "batch 8, in all" 4 "$bench" "$bench --batch 8"
compare "8 threads asked for" 0.95 "$bench" "$bench --threads 8"
compare "the same on one core" 0.95 "taskset -c 0 $bench" "taskset -c 0 $bench --threads 8"
