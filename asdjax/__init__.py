"""Anomalous sound detection with six ArcFace backbones per machine type, trained at once on normal recordings."""

__version__ = "0.1.0"
