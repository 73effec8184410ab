# mst as a container: the page and HTTP service by default, any command of mst on request.
#
#   docker build --target cpu -t mst .
#   docker build --target cuda -t mst:cuda .      # needs the NVIDIA Container Toolkit to run: --gpus all
#
# How to run them, with the token: docs/deployment.md.

FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim-bookworm AS base
ENV PATH=/opt/mst/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home mst \
    && install -d -o mst -g mst /data \
    && python -m venv /opt/mst
COPY constraints.txt /tmp/constraints.txt
WORKDIR /data
EXPOSE 8000
VOLUME /data
# The style encoder and large pictures take seconds on a CPU: the service answers health checks meanwhile.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["mst"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000", "--token", "/run/secrets/mst_token", "--folder", "/data", "--no-open"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
# CUDA and cuDNN come as wheels; the driver comes from the host.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel=$(echo /wheels/*.whl) \
    && pip install -c /tmp/constraints.txt "${wheel}[serve,cuda]"
USER 10001

FROM base AS cpu
# ONNX Runtime without CUDA is a quarter of the size. Both are the same module, so the other goes first.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel=$(echo /wheels/*.whl) \
    && pip install -c /tmp/constraints.txt "${wheel}[serve]" \
    && if pip show --quiet onnxruntime-gpu; then \
        version=$(python -c "from importlib.metadata import version; print(version('onnxruntime-gpu'))") \
        && pip uninstall --yes onnxruntime-gpu && pip install "onnxruntime==$version"; fi
USER 10001
