"""What stands on the bench, real or simulated."""
