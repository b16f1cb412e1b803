"""Models behind an HTTP API: continuous batching, OpenAI's completions, a page to play with."""
