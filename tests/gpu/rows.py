"""The rows of `weft bench --json`, from standard input, on a line."""
import json
import sys

text = sys.stdin.read()
try:
    rows = json.loads(text)
except ValueError:
    sys.exit(text.strip()[-300:])
for r in rows:
    print(
        f"{r['test']} {r['tokens_per_s']:.1f} +- {r['stddev']:.1f} tokens/s,",
        f"{r['gb_per_s']:.0f} of {r['limit_gb_per_s']:.0f} GB/s, {r['tflop_per_s']:.0f} TFLOP/s;",
        f"a step {r['step_us']:.0f} us, predicted {r['predicted_us']:.0f};" if r["step_us"] else "",
        f"first token {r['first_token_s']:.2f} s;",
        *(
            f"{m['all_mib']:.0f} MiB: weights {m['weights_mib']:.0f}, 16-bit copies {m['weight_copies_mib']:.0f}, "
            f"KV cache {m['kv_cache_mib']:.0f}, workspace {m['workspace_mib']:.0f}"
            for m in r.get("memory", [])
        ),
        end="  ",
    )
