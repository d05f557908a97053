"""The bench as physics and state machines written from the manuals. Drivers never import this package."""
