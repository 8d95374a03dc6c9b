"""The checks of ``thumbloop doctor``."""
