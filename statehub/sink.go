package statehub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A Sink is a [sandboxer.EventSink] that speaks to one State Hub. It is safe
// for concurrent use and starts no goroutine that outlives Close by more than
// the timeout of a request.
type Sink struct {
	cfg       Config // without the token
	base      string // of every URL, with no slash at the end
	token     func() (string, error)
	transport *http.Transport
	log       *slog.Logger

	unregistered atomic.Bool // the hub answered that it has no registration
}

var _ sandboxer.EventSink = (*Sink)(nil)

// New validates cfg and reads its CAFile. It contacts nothing, and does not
// look for the token yet.
func New(cfg Config) (*Sink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	trusted, err := cfg.trusted()
	if err != nil {
		return nil, &sandboxer.FieldError{Field: "ca_file", Reason: err.Error()}
	}
	s := &Sink{
		base: strings.TrimRight(cfg.URL, "/"), token: cfg.tokenSource(),
		transport: newTransport(cfg.Timeout.Std(), trusted), log: cfg.Logger,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	cfg.Token = ""
	s.cfg = cfg
	return s, nil
}

// trusted are the authorities that may vouch for the hub; nil are the system's.
func (c Config) trusted() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system that has none
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("holds no certificate in PEM")
	}
	return pool, nil
}

// newTransport is one that a misbehaving hub cannot make wait or remember.
func newTransport(timeout time.Duration, trusted *x509.CertPool) *http.Transport {
	// Every HTTP/2 request shares one connection: were that one dead, all would
	// time out on it until the system gives it up. With HTTP/1.1 a request that
	// times out takes its connection along.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	const perHub = 16 // more than a client delivers at once
	return &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: timeout}).DialContext, // the dial outlives the request that wanted it
		TLSClientConfig:        &tls.Config{RootCAs: trusted},
		TLSHandshakeTimeout:    timeout,
		MaxIdleConns:           perHub,
		MaxIdleConnsPerHost:    perHub,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // a few bytes could become many
		Protocols:              &protocols,
	}
}

// proxy is the environment's, whose error would quote a password.
func proxy(r *http.Request) (*url.URL, error) {
	u, err := http.ProxyFromEnvironment(r)
	if err != nil {
		return nil, errors.New("the environment's HTTP_PROXY or HTTPS_PROXY is not the address of a proxy")
	}
	return u, nil
}

// Emit registers the sandbox as the event describes it, or deregisters one
// that is destroyed, and sends the event. Nil means that the hub took it.
//
// Otherwise the error is a [*sandboxer.DeliveryError], which says whether and
// when to offer the event again, or wraps the cause of ctx's end. It matches
// [sandboxer.ErrAuth] where the hub refused the token, [sandboxer.ErrInvalid]
// where it refused the event, and [sandboxer.ErrUnavailable] where it is to be
// offered again. It never holds the token.
func (s *Sink) Emit(ctx context.Context, e sandboxer.Event) error {
	e.Time = e.Time.UTC()
	e.Message = cut(strings.ToValidUTF8(e.Message, "\uFFFD"), maxMessage)
	if err := s.keepRegistered(ctx, e); err != nil {
		return err
	}
	return s.post(ctx, e)
}

// Ping asks whether the hub answers, with the token, and changes nothing there:
// a HEAD of where events go. Whether it takes them, only an event shows. The
// error is as that of Emit.
func (s *Sink) Ping(ctx context.Context) error {
	path := s.cfg.Paths.Events
	if s.cfg.Shape == ShapeProgress {
		path = s.cfg.Paths.Progress
	}
	a, err := s.send(ctx, request{method: http.MethodHead, url: s.base + path})
	switch {
	case err != nil:
		return err
	case a.unknown(): // HEAD of what takes POST only
		return nil
	case a.again(), a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return a.err()
	}
	return nil
}

// Close gives idle connections back. No Emit may follow or be running.
func (s *Sink) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}
