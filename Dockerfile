# Saccade's server, as a user without rights. Three images from one file:
#   docker build -t saccade .                                    # CPU
#   docker build -t saccade-cuda --build-arg DEVICE=cuda13 .     # NVIDIA GPU, driver 580 or newer
#   docker build -t saccade-cuda --build-arg DEVICE=cuda12 .     # NVIDIA GPU, driver 525 or newer; cuda is another name
FROM python:3.12-slim-bookworm AS build
ARG DEVICE=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt constraints-cuda12.txt constraints-cuda13.txt README.md LICENSE ./
COPY src ./src
COPY model ./model
COPY server ./server
COPY clients ./clients
COPY checkpoints ./checkpoints
RUN python -m venv /opt/saccade \
    && case "$DEVICE" in \
         cpu) set -- ".[server,redis]" ;; \
         cuda) set -- -c constraints-cuda12.txt ".[server,redis,cuda12]" ;; \
         cuda12|cuda13) set -- -c "constraints-$DEVICE.txt" ".[server,redis,$DEVICE]" ;; \
         *) echo "DEVICE is $DEVICE: give cpu, cuda12 or cuda13" >&2; exit 1 ;; \
       esac \
    && /opt/saccade/bin/pip install --no-cache-dir -c constraints.txt "$@"

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="Saccade" \
      org.opencontainers.image.description="Online streaming inference for event cameras" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 saccade \
    && install -d -o saccade -g saccade /home/saccade/.cache /home/saccade/.local/state
COPY --from=build /opt/saccade /opt/saccade
ENV PATH=/opt/saccade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/home/saccade/.cache
USER 10001
WORKDIR /home/saccade
EXPOSE 8000
# Live while it compiles; /readyz tells when it serves.
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
# A container's own network is not the public one: publish the port as you see fit.
ENTRYPOINT ["saccade", "serve", "--host", "0.0.0.0", "--insecure"]
