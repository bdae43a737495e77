"""The second door: a web page and a REST API in front of a detector. No detection logic of its own."""
