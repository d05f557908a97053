"""Two runs beside each other: whether they may be compared, how far their rows differ, and what that proves."""
