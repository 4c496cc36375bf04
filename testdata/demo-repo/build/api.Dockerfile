FROM scratch
COPY dist/api /api
USER 65532:65532
ENTRYPOINT ["/api"]
