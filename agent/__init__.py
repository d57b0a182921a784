"""What the kiosk runs: the process that hears (`recorder`) and the process that speaks (`courier`)."""

__version__ = "0.1.0"
