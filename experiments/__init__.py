"""What one does at the bench: sweeps, replay, reports."""
