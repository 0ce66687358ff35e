"""The HTTP server: requests as OpenAI's clients send them in, the engine's answers out. Needs the serve extra."""
