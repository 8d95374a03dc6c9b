# One image for every part. `thumbloop up` is the default; deploy/compose.yaml runs the parts apart.
FROM python:3.12-slim

# torch's builds without CUDA may be on an index of their own; name it here to save gigabytes.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app
COPY . .
RUN python deploy/setup_env.py \
    && useradd --system --home-dir /data --shell /usr/sbin/nologin thumbloop \
    && install --directory --owner thumbloop --group thumbloop /data

# On all addresses the server wants an API key. docs/tasks/operate.md says how to make one.
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/data \
    THUMBLOOP_DATA_DIR=/data \
    THUMBLOOP_HOST=0.0.0.0 \
    THUMBLOOP_PORT=8000

USER thumbloop
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=5s --start-period=180s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['THUMBLOOP_PORT'] + '/livez', timeout=4)"]

CMD ["thumbloop", "up"]
