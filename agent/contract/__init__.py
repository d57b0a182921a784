"""What kiosk and fleet share: names, keys, messages, metrics. Imports nothing of either."""
