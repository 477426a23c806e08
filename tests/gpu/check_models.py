"""Runs `weft eval` on golden models and compares logits with their expected.safetensors.

Usage: check_models.py WEFT FOLDER...   Prints a line a model; exit status 1 if any is out of bounds.
Bounds: exact 1e-4 of the logits' standard deviation (whole, in chunks of 7, lowered); fast: KL divergence 1e-3 from the
expected logits; exact greedy ids equal as far as every margin is over 1e-3 of the logits' standard deviation.
"""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

TYPES = {"F64": np.float64, "F32": np.float32, "I64": np.int64, "I32": np.int32}


def read(path):
    with open(path, "rb") as file:
        data = file.read()
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    out = {}
    for name, t in header.items():
        if name == "__metadata__" or t["dtype"] not in TYPES:
            continue
        begin, end = (8 + n + at for at in t["data_offsets"])
        out[name] = np.frombuffer(data[begin:end], TYPES[t["dtype"]]).reshape(t["shape"])
    return out


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def run(weft, folder, ids, *options):
    with tempfile.TemporaryDirectory() as temp:
        out = os.path.join(temp, "logits.safetensors")
        command = [weft, "eval", folder, "--quiet", "--ids", ",".join(map(str, ids)), "--logits", out, *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"status {done.returncode}")
        return read(out)["logits"], done.stdout


def greedy_agrees(weft, folder, backend, expected):
    """Whether greedy ids are the expected ones until a margin is too narrow to say."""
    want, margins = expected["greedy_ids"].ravel(), expected["greedy_margin"].ravel()
    prompt, n = len(want) - len(margins), len(margins)
    _, text = run(weft, folder, want[:prompt], "--backend", backend, "--precision", "exact", "-n", str(n))
    got = [int(i) for i in text.split("greedy ")[1].split(",")]
    narrow = np.flatnonzero(margins < 1e-3 * expected["logits"].std())
    sure = narrow[0] if len(narrow) else n
    return list(want[prompt : prompt + sure]) == got[:sure]


QUANTS = "f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_K q3_K q4_K q5_K q6_K iq4_nl iq4_xs mxfp4".split()


def divergence(want, got):
    p, q = log_softmax(want), log_softmax(got)
    return (np.exp(p) * (p - q)).sum(-1).mean()


def check_quants(weft, folder, backend):
    """Each weight type on the backend against the cpu's exact logits of the same quantized model."""
    ids = read(os.path.join(folder, "expected.safetensors"))["input_ids"].ravel()
    passed = failed = 0
    for kind in QUANTS:
        want, _ = run(weft, folder, ids, "--backend", "cpu", "--precision", "exact", "--quantize", kind)
        cells, good = [], True
        for options, bound in (
            (["exact"], None),
            (["fast"], 1e-4),
            (["fast", "--chunk", "1"], 1e-3),
            (["fast", "--chunk", "7"], 1e-3),
            (["fast", "--chunk", "30"], 1e-3),
        ):
            got, _ = run(weft, folder, ids, "--backend", backend, "--quantize", kind, "--precision", *options)
            if bound is None:
                figure, bound = np.abs(got - want).max() / want.std(), 1e-4
            else:
                figure = divergence(want, got)
            good &= bool(figure <= bound)
            cells.append(f"{figure:.1e}" + ("" if figure <= bound else "!"))
        passed, failed = passed + good, failed + (not good)
        print(f"{kind:16}", *cells, flush=True)
    print(f"weight types: {passed} passed, {failed} failed")
    return failed


def check_split(weft, folder):
    """One layer on the GPU, the rest on the CPU."""
    expected = read(os.path.join(folder, "expected.safetensors"))
    ids, want = expected["input_ids"].ravel(), expected["logits"]
    got, _ = run(weft, folder, ids, "--backend", "auto", "--precision", "exact", "--gpu-layers", "1")
    figure = np.abs(got - want).max() / want.std()
    print(f"split {os.path.basename(folder.rstrip('/'))} {figure:.1e}" + ("" if figure <= 1e-4 else "!"))
    return int(not figure <= 1e-4)


def main():
    weft, folders = sys.argv[1], sys.argv[2:]
    wide = next((folder for folder in folders if "llama_wide" in folder), None)
    passed = failed = 0
    backend = os.environ.get("BACKEND", "cuda")
    for folder in folders:
        expected = read(os.path.join(folder, "expected.safetensors"))
        ids, want = expected["input_ids"].ravel(), expected["logits"]
        cells = []
        good = True
        for options in (["exact"], ["exact", "--chunk", "7"], ["exact", "--fallback"], ["fast"], ["fast", "--chunk", "7"], ["fast", "--chunk", "1"]):
            try:
                got, _ = run(weft, folder, ids, "--backend", backend, "--precision", *options)
                if options[0] == "exact":
                    figure, bound = np.abs(got - want).max() / want.std(), 1e-4
                else:
                    figure, bound = divergence(want, got), 1e-3
                good &= bool(figure <= bound)
                cells.append(f"{figure:.1e}" + ("" if figure <= bound else "!"))
            except RuntimeError as error:
                good = False
                cells.append(str(error)[:300])
        if not greedy_agrees(weft, folder, backend, expected):
            good = False
            cells.append("greedy ids differ!")
        passed, failed = passed + good, failed + (not good)
        print(f"{os.path.basename(folder.rstrip('/')):16}", *cells, flush=True)
    print(f"models: {passed} passed, {failed} failed")
    if wide:
        failed += check_quants(weft, wide, backend)
        failed += check_split(weft, wide) if backend == "cuda" else 0
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
