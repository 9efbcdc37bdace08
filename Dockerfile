# The operator's image: one static binary and nothing else. The build context holds just that binary:
#
#   RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu --bin curfew
#   docker build --file Dockerfile --tag curfew target/x86_64-unknown-linux-gnu/release
FROM scratch
COPY curfew /curfew
USER 65532:65532
ENTRYPOINT ["/curfew"]
