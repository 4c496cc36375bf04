package statehub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sand-boxer/sandboxer"
)

const (
	// maxRequest bounds the body of a request.
	maxRequest = 1 << 20
	// maxMessage bounds an event's message, which may hold the end of a log.
	maxMessage = 4 << 10
)

// post sends the event in the configured shape.
func (s *Sink) post(ctx context.Context, e sandboxer.Event) error {
	r := request{method: http.MethodPost, url: s.base + s.cfg.Paths.Events, contentType: contentTypeCloudEvent}
	var document any = cloudEvent(s.cfg.Source, e)
	if s.cfg.Shape == ShapeProgress {
		r.url, r.contentType = s.base+s.cfg.Paths.Progress, contentTypeJSON
		document = progress(e)
	}
	var err error
	if r.body, err = encode(document); err == nil && s.cfg.Shape == ShapeProgress {
		r.body, err = withFields(r.body, s.cfg.Fields)
	}
	if err == nil {
		err = r.fits()
	}
	if err != nil {
		return &sandboxer.DeliveryError{Err: r.failed(sandboxer.ErrInvalid, err.Error()), Permanent: true}
	}
	a, err := s.send(ctx, r)
	if err != nil {
		return err
	}
	return a.err()
}

// suffix is what the types of an event end with: the state it came to, or why
// something else changed.
func suffix(e sandboxer.Event) string {
	if e.From != e.State {
		return string(e.State)
	}
	return string(e.Reason)
}

// encode is json.Marshal that leaves <, > and & as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// fits reports a body that no hub need take.
func (r request) fits() error {
	if len(r.body) > maxRequest {
		return fmt.Errorf("it has %d bytes, and a request at most %d", len(r.body), maxRequest)
	}
	return nil
}
