"""The production services on loopback, without Docker: what `iml stack` starts and ends."""
