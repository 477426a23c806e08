#!/usr/bin/env bash
# Every speed that backends/cuda/NOTES.md states, in one call on a machine with a GPU: a line a run, with the limit it is
# held against. tests/gpu/carry.sh first, where weft was built. R=5 for medians of five; TYPES: more types of the 8B shape.
set -uo pipefail
cd "$(dirname "$0")/../../.gpu"
export LD_LIBRARY_PATH=$PWD/lib
[[ -x bin/weft ]] || tar xzf weft.tgz
file() { echo "/tmp/${1%%:*}-${1#*:}.gguf"; }
make() {
  for one in "$@"; do
    [[ -f $(file "$one") ]] || python3 synth_gguf.py "$(file "$one")" --shape "${one%%:*}" --type "${one#*:}" >/dev/null &
  done
  wait
}
# SHAPE:TYPE and options of bench
row() {
  local one=$1
  shift
  echo "$one $*: $(bin/weft bench "$(file "$one")" -r "${R:-3}" --json --quiet "$@" 2>&1 | python3 ../tests/gpu/rows.py)"
}
big=llama-3-8b
make $big:q4_K $big:q4_0 $big:q8_0 $big:f16 llama-3.2-1b:f16 gpt2-xl:f16 gpt2:f16
for type in q4_K q4_0 q8_0 f16; do row $big:$type --backend cuda -p 2048 -n 128; done
for one in llama-3.2-1b:f16 gpt2-xl:f16 gpt2:f16; do row $one --backend cuda -p 512 -n 128; done
for type in q4_K q8_0 f16; do row $big:$type --backend cuda -p 512 -n 0; done
row $big:q4_K --backend cuda -p 0 -n 32 --depth 16384
for batch in 8 32; do row $big:q4_K --backend cuda -p 0 -n 64 --batch $batch; done
row $big:q4_K --backend cuda -p 2048 -n 32 --gpu-memory 8G
for layers in 32 24 16 0; do row $big:q4_K --backend auto -p 0 -n 32 --gpu-layers $layers; done
for layers in 33 24 16; do
  bin/weft eval "$(file $big:q4_K)" --ids 1,20,300,4000 --backend auto --gpu-layers $layers --logits /tmp/at$layers.safetensors --quiet
done
python3 ../tests/gpu/same_logits.py /tmp/at33.safetensors /tmp/at24.safetensors /tmp/at16.safetensors
rm -f "$(file $big:f16)" "$(file $big:q8_0)"
for type in ${TYPES:-}; do
  make $big:$type
  row $big:$type --backend cuda -p 2048 -n 32
  rm -f "$(file $big:$type)"
done
