FROM scratch AS runtime
COPY dist/store /store
ENTRYPOINT ["/store"]
