# vlad as a service, from the package registries alone. Two images of one file:
#
#   docker build -t vlad .                     exported detectors (`vlad export`), with onnxruntime and without torch
#   docker build -t vlad:full --target full .  also folders of `vlad fit` and models by name
#
# TORCH_INDEX chooses the wheels of torch for the second: the PyTorch project's index of CPU wheels makes it small, that of a CUDA version
# or none (the default index, CUDA wheels on x86-64) makes it run on a GPU (`docker run --gpus all`). BASE is any image with Python 3.11 or
# newer and its venv module.
#
# Both run as user 10001 with a read-only root: `docker run --read-only --tmpfs /tmp -v ./models:/models:ro -p 8000:8000 vlad`.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /opt/vlad && /opt/vlad/bin/pip install --quiet "pip>=25.1"
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
RUN /opt/vlad/bin/pip install --quiet --constraint constraints.txt --group serve-exported
COPY prompts prompts
COPY eval/anchors.yaml eval/anchors.yaml
COPY eval/configs eval/configs
COPY demos/examples demos/examples
COPY vlad vlad
RUN /opt/vlad/bin/pip install --quiet --no-deps .

FROM build AS build-full
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then /opt/vlad/bin/pip install --quiet --constraint constraints.txt --index-url "$TORCH_INDEX" torch torchvision; fi
RUN /opt/vlad/bin/pip install --quiet --constraint constraints.txt ".[serve,export,vlm,formats]"

FROM ${BASE} AS run
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin vlad && mkdir -p /models /results && chown vlad /results
ENV PATH=/opt/vlad/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HF_HOME=/tmp/hub MPLCONFIGDIR=/tmp/matplotlib
USER 10001
WORKDIR /home/vlad
VOLUME ["/models", "/results"]
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Every folder of /models is a model of the service. Whoever reaches the port may ask; `... vlad serve /models --host 0.0.0.0 --keys FILE`
# lets in those who have a key (`vlad serve --new-key NAME`).
ENTRYPOINT ["vlad"]
CMD ["serve", "/models", "--host", "0.0.0.0", "--results", "/results/results.sqlite"]

FROM run AS full
COPY --from=build-full /opt/vlad /opt/vlad

FROM run AS exported
COPY --from=build /opt/vlad /opt/vlad
