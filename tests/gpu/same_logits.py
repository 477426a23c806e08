"""How far logits written by `weft eval` are from those of the first file, in standard deviations of it."""
import sys

from check_models import read

first, *others = (read(path)["logits"] for path in sys.argv[1:])
for path, got in zip(sys.argv[2:], others):
    print(f"{path}: {abs(got - first).max() / first.std():.1e} of the deviation")
