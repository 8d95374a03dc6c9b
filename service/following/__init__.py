"""How a replica follows the rollout: it loads versions and routes requests to them."""
