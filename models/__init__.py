"""What decodes and what learns: no Redis, no HTTP, no Celery."""
