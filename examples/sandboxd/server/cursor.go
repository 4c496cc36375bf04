package server

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// A position is a place in a list that is ordered by time, sandbox and number.
type position struct {
	time    time.Time
	sandbox string
	seq     int64
}

// before reports whether other comes after p in the list.
func (p position) before(other position) bool {
	return cmp.Or(p.time.Compare(other.time), cmp.Compare(p.sandbox, other.sandbox), cmp.Compare(p.seq, other.seq)) < 0
}

// cursor is p as clients hold it. What is in it is not theirs to know.
func (p position) cursor() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s %d", p.time.UnixMicro(), p.sandbox, p.seq))
}

// cursorOf reads a cursor; an empty one is before everything.
func cursorOf(text string) (position, error) {
	if text == "" {
		return position{}, nil
	}
	bad := refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "cursor: is not one that this server gave")
	plain, err := base64.RawURLEncoding.DecodeString(text)
	parts := strings.Split(string(plain), " ")
	if err != nil || len(parts) != 3 {
		return position{}, bad
	}
	micros, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil {
		return position{}, bad
	}
	seq, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil {
		return position{}, bad
	}
	return position{time.UnixMicro(micros).UTC(), parts[1], seq}, nil
}
