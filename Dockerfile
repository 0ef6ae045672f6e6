# Saccade as a user without rights. Three images from one file:
#   docker build -t saccade .                                    # CPU
#   docker build -t saccade-cuda --build-arg DEVICE=cuda13 .     # NVIDIA GPU, driver 580 or newer
#   docker build -t saccade-cuda --build-arg DEVICE=cuda12 .     # NVIDIA GPU, driver 525 or newer; cuda is another name
FROM python:3.12-slim-bookworm AS build
ARG DEVICE=cpu
WORKDIR /src
COPY pyproject.toml constraints.txt constraints-cuda12.txt constraints-cuda13.txt README.md LICENSE ./
COPY docker/install docker/locked.py ./docker/
COPY src ./src
COPY model ./model
COPY server ./server
COPY clients ./clients
COPY checkpoints ./checkpoints
RUN docker/install python /opt/saccade "$DEVICE"

FROM python:3.12-slim-bookworm
LABEL org.opencontainers.image.title="Saccade" \
      org.opencontainers.image.description="Online streaming inference for event cameras" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --create-home --uid 10001 saccade \
    && install -d -o saccade -g saccade /home/saccade/.cache /home/saccade/.local/state
COPY --from=build /opt/saccade /opt/saccade
COPY --from=build /opt/saccade/share/sbom /usr/share/sbom
COPY docker/health.py /opt/saccade/share/health.py
# What a start compiles and what outlives it: mount both where the root is read-only.
ENV PATH=/opt/saccade/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/home/saccade/.cache \
    XDG_STATE_HOME=/home/saccade/.local/state \
    SACCADE_HOST=0.0.0.0
USER 10001
WORKDIR /home/saccade
EXPOSE 8000
# Live while it compiles; /readyz tells when it serves.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "/opt/saccade/share/health.py"]
STOPSIGNAL SIGTERM
# Without keys (SACCADE_KEYS, SACCADE_KEYS_FILE) it does not serve, unless SACCADE_INSECURE=true says that it may.
ENTRYPOINT ["saccade"]
CMD ["serve"]
