"""One chat request: what was asked, the replies to it, and their OpenAI shapes."""
