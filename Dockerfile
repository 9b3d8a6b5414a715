# syntax=docker/dockerfile:1
# The image of driver, workers and submitter:
#   docker build -t tfresume:0.1.0 .
#   docker build -t tfresume:0.1.0-gpu --build-arg EXTRAS=gpu,s3,azure .
# With EXTRAS=gpu TensorFlow's CUDA libraries come as Python packages; the nodes bring the driver alone.
ARG PYTHON_VERSION=3.11.11

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
# All stores that an overlay of k8s/ names
ARG EXTRAS=s3,azure
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# Dependencies first: they change less often than the code, and make up nearly all of the image
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir orchestrator launch \
    && touch orchestrator/__init__.py launch/__init__.py \
    && python -m venv /opt/tfresume \
    && /opt/tfresume/bin/pip install --constraint constraints.txt ".[${EXTRAS}]"
COPY orchestrator orchestrator
COPY launch launch
RUN /opt/tfresume/bin/pip install --no-deps --force-reinstall . \
    && find /opt/tfresume -name __pycache__ -prune -exec rm -rf {} +

FROM python:${PYTHON_VERSION}-slim-bookworm
# 1000:1000 and this home are what k8s/ mounts and runs as
RUN groupadd --gid 1000 tfresume \
    && useradd --uid 1000 --gid 1000 --home-dir /home/tfresume --create-home tfresume
COPY --from=build /opt/tfresume /opt/tfresume
COPY configs /opt/tfresume/configs
# KubeRay starts Ray through a login shell, whose profile sets PATH anew
RUN ln -s /opt/tfresume/bin/ray /opt/tfresume/bin/tfresume /usr/local/bin/
ENV PATH=/opt/tfresume/bin:${PATH} \
    HOME=/home/tfresume \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=false
USER 1000:1000
WORKDIR /home/tfresume
# KubeRay replaces this by `ray start`; `docker run IMAGE demo` is the quickest try
ENTRYPOINT ["tfresume"]
CMD ["--help"]
