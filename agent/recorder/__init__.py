"""The process that hears the room: capture, spool, retention. It has no network."""
