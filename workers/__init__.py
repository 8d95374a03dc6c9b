"""The Celery side: looks for work, runs updates, and never speaks HTTP."""
