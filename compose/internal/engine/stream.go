package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// LogOptions vary [Client.Logs]. The zero value is everything written so far.
type LogOptions struct {
	Tail       int  // only so many last lines; 0 is all
	Follow     bool // wait for more until the container ends
	Timestamps bool // put the time in front of each line
}

// Logs streams what a container wrote, standard output and error in one. The caller closes it; the context ends it
// too. Containers whose log driver keeps nothing to read are an error.
func (c *Client) Logs(ctx context.Context, id string, options LogOptions) (io.ReadCloser, error) {
	// Before API 1.42 nothing in the answer tells a terminal's plain output from the framed one.
	container, err := c.InspectContainer(ctx, id)
	if err != nil {
		return nil, err
	}
	path, err := join("containers", container.ID, "logs")
	if err != nil {
		return nil, err
	}
	query := url.Values{
		"stdout":     {"true"},
		"stderr":     {"true"},
		"follow":     {strconv.FormatBool(options.Follow)},
		"timestamps": {strconv.FormatBool(options.Timestamps)},
	}
	if options.Tail > 0 {
		query.Set("tail", strconv.Itoa(options.Tail))
	}
	resp, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return nil, err
	}
	if container.TTY {
		return resp.Body, nil
	}
	return struct {
		io.Reader
		io.Closer
	}{&demux{src: resp.Body}, resp.Body}, nil
}

// demux undoes the framing of a container's output: eight bytes, of which the first names the stream and the last
// four the length, before each piece.
type demux struct {
	src    io.Reader
	stderr io.Writer // nil: Read returns both streams
	left   int       // of the piece in hand
}

// The streams a piece can belong to.
const (
	fromStderr = 2
	fromEngine = 3 // the engine's own words: it could not go on
)

func (d *demux) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.left == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n, err := d.src.Read(p[:min(len(p), d.left)])
	if d.left -= n; d.left > 0 {
		err = cut(err)
	}
	return n, err
}

// next reads a header, and the whole piece if it is not for Read.
func (d *demux) next() error {
	var header [8]byte
	if _, err := io.ReadFull(d.src, header[:]); err != nil {
		return err
	}
	length := int64(binary.BigEndian.Uint32(header[4:]))
	switch {
	case header[0] == fromEngine:
		text, _ := io.ReadAll(io.LimitReader(d.src, min(length, 4<<10))) // a part of the reason is better than none
		return &Error{Op: "stream of output", Message: string(text)}
	case header[0] == fromStderr && d.stderr != nil:
		_, err := io.CopyN(d.stderr, d.src, length)
		return cut(err)
	case header[0] > fromEngine || header[1]|header[2]|header[3] != 0:
		return fmt.Errorf("the engine's stream of output is not framed: it begins with %q", header[:])
	default:
		d.left = int(length)
	}
	return nil
}

// cut is err of a read in the middle of a piece.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// EventFilter says which events to stream. Each given part must match, and each label.
type EventFilter struct {
	Labels []string  // "key=value". Only containers and images show their labels to this filter
	Kinds  []Kind    // of objects that something happens to; empty is all
	Since  time.Time // by the engine's clock, as [Info] tells it: also the recent events, at most 256, after that time
}

// Event is something that happened to an object.
type Event struct {
	Kind       Kind
	Action     string // "start", "die", "oom", "health_status: healthy"
	ID         string
	Attributes map[string]string // the object's labels and name, and facts like "exitCode"
	Time       time.Time         // by the engine's clock
}

// Events streams events from the moment that the iteration begins, or from [EventFilter.Since]. The stream has no end
// of its own: the last pair holds the error that ended it, the context's or [ErrUnreachable] or an [*Error].
func (c *Client) Events(ctx context.Context, filter EventFilter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		resp, err := c.do(ctx, request{method: http.MethodGet, path: "/events", query: filter.query()})
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer resp.Body.Close()
		for events := json.NewDecoder(resp.Body); ; {
			var e event
			if err := events.Decode(&e); err != nil {
				yield(Event{}, unanswered(ctx, "GET /events", err))
				return
			}
			if !yield(e.event(), nil) {
				return
			}
		}
	}
}

func (f EventFilter) query() url.Values {
	wanted := map[string][]string{"label": f.Labels}
	for _, kind := range f.Kinds {
		wanted["type"] = append(wanted["type"], string(kind))
	}
	query := filters(wanted)
	if !f.Since.IsZero() {
		query.Set("since", fmt.Sprintf("%d.%09d", f.Since.Unix(), f.Since.Nanosecond()))
	}
	return query
}

// event is an [Event] as the API writes it.
type event struct {
	Type   Kind
	Action string
	Actor  struct {
		ID         string
		Attributes map[string]string
	}
	TimeNano int64
}

func (e event) event() Event {
	return Event{Kind: e.Type, Action: e.Action, ID: e.Actor.ID, Attributes: e.Actor.Attributes, Time: time.Unix(0, e.TimeNano)}
}

// filters encodes a filter as the API takes it. Keys without values are left out.
func filters(wanted map[string][]string) url.Values {
	for key, values := range wanted {
		if len(values) == 0 {
			delete(wanted, key)
		}
	}
	encoded, _ := json.Marshal(wanted) // cannot fail: strings only
	return url.Values{"filters": {string(encoded)}}
}
