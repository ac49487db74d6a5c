"""When something may be done: pure, from configuration and an instant."""
