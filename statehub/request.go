package statehub

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

const (
	// maxAnswer is how much of an answer's body is read.
	maxAnswer = 64 << 10
	// maxExcerpt is how much of it, in bytes, an error shows.
	maxExcerpt = 200
	// bodyPatience is how long an answer's body is waited for: the status has
	// said everything, the rest is for people and for using the connection again.
	bodyPatience = time.Second
)

// A request is one that may be sent twice: the hub knows events by their ids
// and sandboxes by theirs.
type request struct {
	method, url, contentType string
	body                     []byte
}

// failed is an error about the request.
func (r request) failed(sentinel error, reason string) error {
	return fmt.Errorf("%s %s: %w: %s", r.method, r.url, sentinel, reason)
}

// send sends r and waits for the answer's status. Its error says that there
// was none; an answer of any kind is not one.
func (s *Sink) send(ctx context.Context, r request) (answer, error) {
	token, err := s.token()
	if err != nil {
		return answer{}, retried(sandboxer.WithHint(r.failed(sandboxer.ErrUnavailable, err.Error()), "put the token where the configuration says that it is"))
	}
	timed, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	req, err := http.NewRequestWithContext(timed, r.method, r.url, bytes.NewReader(r.body))
	if err != nil {
		return answer{}, &sandboxer.DeliveryError{Err: r.failed(sandboxer.ErrInvalid, err.Error()), Permanent: true}
	}
	s.setHeader(req.Header, r.contentType, token)
	// Without an http.Client in between nothing follows a redirect.
	res, err := s.transport.RoundTrip(req)
	switch {
	case err != nil && ctx.Err() != nil:
		return answer{}, fmt.Errorf("%s %s: %w", r.method, r.url, context.Cause(ctx))
	case err != nil && timed.Err() != nil:
		return answer{}, retried(r.failed(sandboxer.ErrUnavailable, fmt.Sprintf("no answer in %v", s.cfg.Timeout)))
	case err != nil:
		return answer{}, retried(s.unanswered(r, err, token))
	}
	defer res.Body.Close()
	defer time.AfterFunc(bodyPatience, cancel).Stop()
	return answer{
		request: r, status: res.StatusCode, retryAfter: retryAfter(res.Header, time.Now()),
		text:     cut(s.redact(start(res), token), maxExcerpt),
		location: cut(s.redact(bareURL(res.Header.Get("Location")), token), maxExcerpt),
	}, nil
}

func (s *Sink) setHeader(h http.Header, contentType, token string) {
	h.Set("User-Agent", "sandboxer")
	for name, value := range s.cfg.Headers {
		h.Set(name, value)
	}
	if contentType != "" {
		h.Set("Content-Type", contentType)
	}
	if token != "" {
		h.Set("Authorization", "Bearer "+token)
	}
	// Tells net/http, and nobody else, that it may send the request again on a
	// new connection when the hub closed an idle one.
	h["Idempotency-Key"] = nil
}

// start is the beginning of a body, or what came of one that broke off. A
// short one is read to its end, so that the connection can be used again.
func start(res *http.Response) string {
	if res.StatusCode == http.StatusSwitchingProtocols {
		return "" // the bare connection, whose reads end with no context
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return string(text)
}

// unanswered is why there was no answer.
func (s *Sink) unanswered(r request, err error, token string) error {
	reason := cut(s.redact(err.Error(), token), maxExcerpt) // it quotes what is no HTTP
	wrapped := r.failed(sandboxer.ErrUnavailable, reason)
	if _, unverified := errors.AsType[*tls.CertificateVerificationError](err); unverified {
		return sandboxer.WithHint(wrapped, "if the hub's certificate comes from an authority of your own, name its certificate in ca_file")
	}
	return wrapped
}

// redact makes one line of a text that the hub had a part in, and takes the
// token and the values of headers out: some hubs show a request in their answers.
func (s *Sink) redact(text, token string) string {
	text = oneLine(text)
	const least = 4 // shorter ones stand in every other word
	if len(token) >= least {
		text = strings.ReplaceAll(text, token, "[token]")
	}
	for name, value := range s.cfg.Headers {
		if len(value) >= least {
			text = strings.ReplaceAll(text, value, "["+name+"]")
		}
	}
	return text
}

// retried is the error of an event that is to be offered again.
func retried(err error) error { return &sandboxer.DeliveryError{Err: err} }
