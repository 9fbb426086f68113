"""How fast everything runs here: `asdjax bench`."""
