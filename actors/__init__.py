"""One stage a file: its config above its class. No Ray here, so every stage runs and tests without a cluster."""
