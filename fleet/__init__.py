"""What an admin of the fleet runs, on a machine without a microphone."""
