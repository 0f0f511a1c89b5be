# syntax=docker/dockerfile:1
# The gateway as an image. From the root of a clone:
#   docker build --file packaging/gateway.Dockerfile --tag intertie .
#   docker run --detach --publish 127.0.0.1:8080:8080 --volume intertie:/var/lib/intertie intertie
FROM python:3.13-slim

COPY locks/runtime.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /tmp/runtime.txt

WORKDIR /opt/intertie
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --no-index --no-deps --no-build-isolation . \
    && useradd --system --uid 64731 --user-group --home-dir /var/lib/intertie --create-home \
      --shell /usr/sbin/nologin intertie \
    && chmod 0700 /var/lib/intertie

USER 64731
WORKDIR /var/lib/intertie
ENV INTERTIE_DATA=/var/lib/intertie INTERTIE_HOST=0.0.0.0 PYTHONUNBUFFERED=1

# Database, books and keys. Local disk.
VOLUME /var/lib/intertie
EXPOSE 8080

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=4)"]

ENTRYPOINT ["intertie"]
CMD ["up"]
