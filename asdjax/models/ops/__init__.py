"""Forms of each operation and its gradients, one or more per platform; `models/layers.py` chooses among them.

Maps are (b, f, t, c). Measurements: tests/perf/README.md.
"""
