"""Power meters put to the test with pulse trains: emulated pollers, and the response of any sensor to steps."""
