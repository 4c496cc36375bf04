package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

// A problem is a refusal as RFC 9457 has it. It is an error, so that what
// refuses need not know how an answer is written.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func refusal(status int, format string, args ...any) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(format, args...)}
}

// refuse answers with an error. One that is not a problem is the hub's own
// fault, mostly the disk's: the log has it, and the sender is to come back.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &p):
	case errors.As(err, &tooBig):
		p = refusal(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooBig.Limit)
	case r.Context().Err() != nil:
		return // nobody listens
	default:
		h.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "1")
		p = refusal(http.StatusServiceUnavailable, "the hub cannot use its database now; its log says why")
	}
	h.reply(w, r, "application/problem+json", p.Status, p)
}

// answer writes a JSON document.
func (h *Hub) answer(w http.ResponseWriter, r *http.Request, status int, v any) error {
	h.reply(w, r, "application/json", status, v)
	return nil
}

func (h *Hub) reply(w http.ResponseWriter, r *http.Request, contentType string, status int, v any) {
	document, err := json.Marshal(v)
	if err != nil {
		h.log.ErrorContext(r.Context(), "answer cannot be written", "path", r.URL.Path, "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(append(document, '\n')) // who does not read it has left
}

// methods are what a path answers to.
type methods map[string]func(http.ResponseWriter, *http.Request) error

func (h *Hub) byMethod(m methods) http.Handler {
	allow := slices.Collect(maps.Keys(m))
	if m[http.MethodGet] != nil {
		allow = append(allow, http.MethodHead)
	}
	slices.Sort(allow)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle := m[method]
		if handle == nil {
			w.Header().Set("Allow", strings.Join(allow, ", "))
			h.refuse(w, r, refusal(http.StatusMethodNotAllowed, "%s is not possible at %s, only %s", brief(r.Method), brief(r.URL.Path), strings.Join(allow, ", ")))
			return
		}
		if err := handle(w, r); err != nil {
			h.refuse(w, r, err)
		}
	})
}

// maxBody is the largest body that is read.
const maxBody = 1 << 20

// body reads what was sent, which must be JSON text of the given content type.
func body(w http.ResponseWriter, r *http.Request, contentType string) ([]byte, error) {
	given := r.Header.Get("Content-Type")
	kind, params, err := mime.ParseMediaType(given)
	charset := params["charset"]
	if err != nil || kind != contentType || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return nil, refusal(http.StatusUnsupportedMediaType, "the content type is %q, want %s in UTF-8", brief(given), contentType)
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, refusal(http.StatusUnsupportedMediaType, "the content encoding is %q, want none", brief(coding))
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig):
		return nil, err
	case err != nil: // not the sender's fault: it is to try again
		return nil, refusal(http.StatusRequestTimeout, "the body did not arrive whole: %v", err)
	case !utf8.Valid(text):
		return nil, refusal(http.StatusBadRequest, "the body is not UTF-8")
	}
	return text, nil
}

// health answers whether the database can be read.
func (h *Hub) health(w http.ResponseWriter, r *http.Request) error {
	var tables int
	if err := h.store.reader.QueryRowContext(r.Context(), "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	return h.answer(w, r, http.StatusOK, map[string]string{"status": "ok"})
}
