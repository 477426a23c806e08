#!/usr/bin/env bash
# Collects in .gpu/ what a bare machine with a GPU needs to run tests/gpu/run.sh: the program, the tests of the backends,
# OpenMP's library, and the golden files: ops, and as many models as WEFT_CARRY_MIB leave room for,
# small ones first.
# Usage: tests/gpu/carry.sh [BUILD_FOLDER]
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release} out=.gpu shared=../shared
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
cp "$build/bin/weft" "$build/bin/test_backends" "$out/bin/"
cp "$build"/lib/libweft.so.? "$build/lib/libweft_cuda.so" "$out/lib/"
strip --strip-unneeded "$out"/bin/* "$out"/lib/*
cp "$(ldd "$build/bin/weft" | awk '/libgomp/ { print $3 }')" "$out/lib/"
models=() room=$((${WEFT_CARRY_MIB:-27} * 1024))
while read -r kib folder; do
  if ((room -= kib, room < 0)); then break; fi
  models+=("golden/models/${folder%/}")
done < <(cd "$shared/golden/models" && du -sk llama_wide && du -sk */ | grep -v llama_wide | sort -n)
tar -C "$shared" -czf "$out/golden.tgz" golden/ops "${models[@]}"
cp "$shared/tools/synth_gguf.py" "$shared/data/sotu-valid.txt" "$out/"
tar -C "$out" -czf "$out/weft.tgz" bin lib synth_gguf.py sotu-valid.txt
rm -r "$out/bin" "$out/lib" "$out/synth_gguf.py" "$out/sotu-valid.txt"
du -sh "$out"
