"""What operators do to the rollout, for the routes and the command line alike."""
