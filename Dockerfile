# An image for cluster nodes: head, workers and evaluators alike. `docker build -t ppodd .`
FROM python:3.11-slim
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /opt/ppodd
COPY setup.py pyproject.toml README.md LICENSE .ci/constraints.txt ./
COPY ppodd ppodd
COPY results results
COPY cluster cluster
COPY tune tune
RUN pip install --constraint constraints.txt ".[sweep,cluster,s3]" && ppodd doctor
WORKDIR /work
CMD ["ppodd", "--help"]
