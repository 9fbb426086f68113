"""What a training would take on devices that need not be here: its step compiled for them, never run."""
