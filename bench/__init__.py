"""What recorder and courier cost, by the accounting of the operating system: `bench/run`."""
