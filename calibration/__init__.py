"""What makes a reading a measurement: corrections, their uncertainties, and the budget."""
