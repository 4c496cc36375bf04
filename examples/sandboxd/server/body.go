package server

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

const (
	// maxBody is the largest body that is read.
	maxBody = 256 << 10
	// bodyPatience is how long a body may take to arrive.
	bodyPatience = 15 * time.Second
	// writePatience is how long a client may take to read an answer, or one
	// event of a stream.
	writePatience = 30 * time.Second
)

// patient bounds the writing that follows. Where a connection cannot do that
// there is none, as in tests.
func patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writePatience))
}

// hurry bounds how long the body of a request may take to arrive, whether
// somebody reads it or not: before an answer that came without it, net/http
// waits for the rest. With the body's end it takes the bound away, so that
// it does not end what the request then waits for; a body that came too late
// leaves it standing, so that nothing waits for it twice.
func (s *Server) hurry(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.bodyPatience))
	}
}

// readBody decodes the JSON document that was sent. Unknown keys and wrong
// types are refused, all at once.
func readBody(c *call, into any) error {
	kind, params, err := mime.ParseMediaType(c.Request.Header.Get("Content-Type"))
	if charset := params["charset"]; err != nil || kind != api.JSONType || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return refuse(http.StatusUnsupportedMediaType, "media_type", api.ClassUsage, "the content type is %q, want %s", brief(c.Request.Header.Get("Content-Type")), api.JSONType)
	}
	if coding := c.Request.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return refuse(http.StatusUnsupportedMediaType, "media_type", api.ClassUsage, "the content encoding is %q, want none", brief(coding))
	}
	text, err := io.ReadAll(http.MaxBytesReader(c, c.Request.Body, maxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return refuse(http.StatusRequestEntityTooLarge, "too_large", api.ClassUsage, "the body is larger than %d bytes", maxBody)
	case err != nil:
		return refuse(http.StatusRequestTimeout, "invalid", api.ClassUsage, "the body did not arrive whole: %v", err)
	case !utf8.Valid(text) || !json.Valid(text):
		return refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "the body is no JSON document")
	}
	return sandboxer.DecodeStrict("", text, into)
}
