"""What somebody far away needs to see of a kiosk that isn't well, in one file: no audio, no keys, no passwords."""
