FROM rust:1-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin postrider

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home --home-dir /var/lib/postrider postrider
COPY --from=build /build/target/release/postrider /usr/local/bin/postrider
USER postrider
WORKDIR /var/lib/postrider
ENV POSTRIDER_DATA_DIR=/var/lib/postrider/data
EXPOSE 8080
# The process, not the database: a node whose database is away must not be killed for it.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENTRYPOINT ["postrider"]
# Beyond loopback without authentication is refused: a container that is to be reached from
# outside says `--insecure`, as docker-compose.yml does, and stands behind something that asks.
CMD ["serve"]
