FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/slackwater
# With what the deploy tool needs: the chart runs the guard from this image.
COPY requirements-deploytool.lock ./
RUN /opt/slackwater/bin/python -m pip install --only-binary :all: --require-hashes -r requirements-deploytool.lock
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY deploytool deploytool
# What only building needs goes again, and pip last, once it has found nothing missing.
RUN /opt/slackwater/bin/python -m pip install --no-deps --no-build-isolation . \
    && /opt/slackwater/bin/python -m pip uninstall --yes hatchling pathspec pluggy trove-classifiers \
    && /opt/slackwater/bin/python -m pip check \
    && /opt/slackwater/bin/python -m pip uninstall --yes pip

FROM python:3.12-slim
ARG IMAGE_DIGEST=""
# ADMIN_HOST: inside a container loopback would hide the admin socket from the pod's probes and from the deploy tool;
# who may reach it is the network's business, and it takes a key.
ENV PATH=/opt/slackwater/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=3000 \
    ADMIN_HOST=0.0.0.0 \
    ADMIN_PORT=3001 \
    DATA_DIR=/data \
    IMAGE_DIGEST=$IMAGE_DIGEST
COPY --from=build /opt/slackwater /opt/slackwater
RUN install -d -o 10001 -g 10001 -m 0700 /data
WORKDIR /
USER 10001:10001
VOLUME /data
EXPOSE 3000 3001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/api/health/live', timeout=2)"]
ENTRYPOINT ["python", "-m", "service"]
