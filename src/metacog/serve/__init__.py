"""The engine behind an OpenAI-compatible server."""
