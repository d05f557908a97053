"""Speed, measured by hand: ratios against a peer within one run. Nothing here is a test."""
