# docker build -t ssd .
# docker run --rm -it --shm-size=8g -v "$PWD":/workspace ssd dvc repro      (add --gpus all for GPUs)
FROM python:3.11-slim
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* \
 && git config --system --add safe.directory /workspace
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
WORKDIR /workspace
CMD ["dvc", "repro"]
