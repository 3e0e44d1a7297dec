# One static-enough binary on a small base. Build: docker build -t plimsoll .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p plimsoll-server

FROM debian:bookworm-slim
RUN useradd --system --home /var/lib/plimsoll plimsoll && mkdir -p /var/lib/plimsoll && chown plimsoll /var/lib/plimsoll
COPY --from=build /src/target/release/plimsoll /usr/local/bin/plimsoll
USER plimsoll
VOLUME /var/lib/plimsoll
EXPOSE 9092 9644
# Clients outside the container need an advertised address: -e or --set advertised.listeners=...
ENTRYPOINT ["plimsoll"]
CMD ["serve", "--listener", "PLAINTEXT://0.0.0.0:9092", "--http-listener", "0.0.0.0:9644", "--data-dir", "/var/lib/plimsoll"]
