"""The process that speaks to the outside: upload and MQTT. It has no microphone."""
