"""What the Pi is made of: sound card, clock, board. Nothing here knows what it is used for."""
