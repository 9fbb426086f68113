"""Compiled programs as XLA writes them out: what runs, and what it moves."""
