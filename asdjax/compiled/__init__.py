"""Compiled programs: what runs, what it moves, what it costs."""
