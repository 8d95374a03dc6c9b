"""Simulated users with a hidden taste, who chat and vote through the public API only."""
