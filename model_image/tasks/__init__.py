"""What each route means: from a checked request and a loaded model to an answer."""
