"""The parts of a rollout that face a service, a client and a person, and how they are put together."""
