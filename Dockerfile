FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# The dependencies, in a layer of their own that is rebuilt only when Cargo.toml or Cargo.lock change. Cargo wants the
# file of each target that Cargo.toml names by its path, so each gets a stub. Rollcall's own build of the stubs is then
# thrown away: cargo compares modification times, COPY keeps those of the checkout, and the stub would count as up to date.
COPY Cargo.toml Cargo.lock ./
RUN sed -n 's/^path = "\(.*\)"$/\1/p' Cargo.toml | while read -r file; do \
        mkdir -p "$(dirname "$file")" && echo 'fn main() {}' > "$file"; \
    done \
    && cargo build --release --locked --bin rollcall \
    && cargo clean --release --locked --package rollcall

COPY config config
COPY docs/openapi.json docs/openapi.json
COPY src src
# --frozen: the layer above has fetched everything. The binary must tell its version: a stub would say nothing. The symbols are kept
# apart: they are most of the file. `docker build --target symbols -o . .` writes them to rollcall.debug, for gdb and addr2line.
RUN cargo build --release --frozen --bin rollcall \
    && test -n "$(target/release/rollcall --version)" \
    && objcopy --only-keep-debug target/release/rollcall rollcall.debug \
    && objcopy --strip-all --add-gnu-debuglink=rollcall.debug target/release/rollcall rollcall
# All that the image has: the program, the libraries that it is linked with, and the authorities of the system, for rediss:// and
# auth.jwks_url. No shell, no package manager. Every file has the same time, so that two builds have the same layers.
RUN install -D -t root/usr/local/bin rollcall \
    && ldd rollcall | grep -o '/[^ ]*' | xargs -I{} cp --dereference --parents {} root \
    && cp --dereference --parents /etc/ssl/certs/ca-certificates.crt root \
    && chroot root /usr/local/bin/rollcall --version \
    && find root rollcall.debug -exec touch --date=@0 {} +

FROM scratch AS symbols
COPY --from=build /build/rollcall.debug /

FROM scratch
COPY --from=build /build/root /
ENV PATH=/usr/local/bin

# A number, not a name, so that an orchestrator can check that it is not root. The service writes no files.
USER 10001:10001

# Inside a container, loopback would be reachable by nobody else.
ENV HOST=0.0.0.0 PORT=8080
EXPOSE 8080

# Alive, not ready: a node that waits for Redis must not be restarted for it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 CMD ["rollcall", "healthcheck"]

# Exec form: rollcall is process 1 and gets the SIGTERM of `docker stop` itself, which starts the drain.
ENTRYPOINT ["rollcall"]
CMD ["serve"]

# Last, so that another revision changes no layer.
ARG REVISION=unknown VERSION=unknown
LABEL org.opencontainers.image.title="Rollcall" \
      org.opencontainers.image.description="A presence service: who is online right now" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
