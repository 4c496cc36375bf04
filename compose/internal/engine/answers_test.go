package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

func TestErrorsCarryTheEnginesWords(t *testing.T) {
	f := start(t, map[string]http.HandlerFunc{
		"/containers/gone/json": func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusNotFound, "No such container: gone")
		},
		"/containers/busy/json":    func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusConflict, "is being removed") },
		"/containers/plain/json":   func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "proxy says no", http.StatusBadGateway) },
		"/containers/silent/json":  func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"/containers/strange/json": says("<html>"),
	})
	c := f.client(t, engine.Limits{})
	for name, want := range map[string]*engine.Error{
		"gone":   {StatusCode: http.StatusNotFound, Message: "No such container: gone"},
		"busy":   {StatusCode: http.StatusConflict, Message: "is being removed"},
		"plain":  {StatusCode: http.StatusBadGateway, Message: "proxy says no"},
		"silent": {StatusCode: http.StatusInternalServerError, Message: "Internal Server Error"},
	} {
		_, err := c.InspectContainer(t.Context(), name)
		got, ok := errors.AsType[*engine.Error](err)
		want.Op = "GET /containers/" + name + "/json"
		if !ok || *got != *want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if engine.IsNotFound(err) != (name == "gone") || engine.IsConflict(err) != (name == "busy") {
			t.Errorf("%s: not found %v, conflict %v", name, engine.IsNotFound(err), engine.IsConflict(err))
		}
	}
	if _, err := c.InspectContainer(t.Context(), "strange"); err == nil || errors.Is(err, engine.ErrUnreachable) {
		t.Errorf("an answer that is no JSON: %v", err)
	}
}

func TestObjectsAreAllOrNothing(t *testing.T) {
	if found, err := start(t, listing()).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err != nil || len(found) != 4 {
		t.Fatalf("%v %v", found, err)
	}
	failures := map[string]http.HandlerFunc{
		"refused": func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusInternalServerError, "database is locked")
		},
		"not found":  func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "page not found") },
		"broken off": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "["); panic(http.ErrAbortHandler) },
		"half JSON":  says(`[{"Id":"c`),
		"empty":      says(""),
		"no list":    says(`"list"`),
	}
	for path := range listing() {
		for name, failure := range failures {
			t.Run(name+path, func(t *testing.T) {
				answers := listing()
				answers[path] = failure
				if found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err == nil || found != nil {
					t.Errorf("%v %v", found, err)
				}
			})
		}
	}
	t.Run("a volume driver is away", func(t *testing.T) {
		answers := listing()
		answers["/volumes"] = says(`{"Volumes":[],"Warnings":["lookup nfs: plugin not found"]}`)
		found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v")
		if err == nil || found != nil || !strings.Contains(err.Error(), "plugin not found") {
			t.Errorf("%v %v", found, err)
		}
	})
}

func TestNothingIsListedWithoutItsLabels(t *testing.T) {
	c := start(t, listing()).client(t, engine.Limits{}) // a server that ignores the filter
	for _, labels := range [][]string{{"k=w"}, {"k=v", "x=y"}, {"k="}} {
		if found, err := c.Objects(t.Context(), labels...); err != nil || len(found) != 0 {
			t.Errorf("by %q: %v %v", labels, found, err)
		}
	}
	if found, err := c.Objects(t.Context(), "o=p", "k=v"); err != nil || len(found) != 1 || found[0].Name != "one" {
		t.Errorf("%v %v", found, err)
	}
	for _, labels := range [][]string{nil, {""}, {"k"}, {"=v"}, {"k=v", ""}} {
		if found, err := c.Objects(t.Context(), labels...); err == nil || found != nil {
			t.Errorf("by %q: %v %v", labels, found, err)
		}
	}
}

func TestNetworksTellIPv6(t *testing.T) {
	for text, want := range map[string]bool{`{"Id":"n1","EnableIPv6":true}`: true, `{"Id":"n1","EnableIPv6":false}`: false, `{"Id":"n1"}`: false} {
		f := start(t, map[string]http.HandlerFunc{"/networks/n1": says(text)})
		if n, err := f.client(t, engine.Limits{}).InspectNetwork(t.Context(), "n1"); err != nil || n.IPv6 != want {
			t.Errorf("%s: %+v %v", text, n, err)
		}
	}
}

func TestListsOfNullAreEmpty(t *testing.T) {
	answers := map[string]http.HandlerFunc{
		"/containers/json": says("null"), "/networks": says("null"), "/volumes": says(`{"Volumes":null}`), "/images/json": says("null"),
	}
	if found, err := start(t, answers).client(t, engine.Limits{}).Objects(t.Context(), "k=v"); err != nil || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
}

func TestImportTakesTheErrorFromTheStream(t *testing.T) {
	for name, test := range map[string]struct{ answer, want string }{
		"id":             {`{"status":"sha256:abc"}` + "\r\n", ""},
		"error":          {`{"status":"Extracting"}{"errorDetail":{"message":"no space left"},"error":"no space left"}`, "no space left"},
		"only a detail":  {`{"errorDetail":{"message":"unexpected EOF"}}`, "unexpected EOF"},
		"only an error":  {`{"error":"old style"}`, "old style"},
		"no id":          {`{"status":"Extracting"}`, "Extracting"},
		"nothing":        {"", "instead of the image's id"},
		"half a message": {`{"status":"sha25`, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Request
			var body []byte
			f := start(t, map[string]http.HandlerFunc{"/images/create": func(w http.ResponseWriter, r *http.Request) {
				got = *r
				body, _ = io.ReadAll(r.Body)
				io.WriteString(w, test.answer)
			}})
			id, err := f.client(t, engine.Limits{}).ImportImage(t.Context(), "reg:5000/a/b:c", strings.NewReader("archive"), "LABEL a=b", "ENV c=d")
			if test.want == "" {
				if err != nil || id != "sha256:abc" {
					t.Errorf("%q %v", id, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q in it", err, test.want)
			}
			query := got.URL.Query()
			if query.Get("repo") != "reg:5000/a/b" || query.Get("tag") != "c" || query.Get("fromSrc") != "-" || fmt.Sprint(query["changes"]) != "[LABEL a=b ENV c=d]" {
				t.Errorf("query %v", query)
			}
			if string(body) != "archive" || got.Method != http.MethodPost {
				t.Errorf("%s with %q", got.Method, body)
			}
		})
	}
}

func TestExecPartsTheOutputs(t *testing.T) {
	long := strings.Repeat("complaint ", 1000)
	output := piece(1, "one ") + piece(2, "first ") + piece(1, "") + piece(2, long) + piece(1, "two") + piece(2, "last")
	c := start(t, execing(output)).client(t, engine.Limits{})
	process, err := c.Exec(t.Context(), "c1", "command")
	if err != nil {
		t.Fatal(err)
	}
	defer process.Close()
	text, err := io.ReadAll(process)
	if err != nil || string(text) != "one two" {
		t.Errorf("%q %v", text, err)
	}
	complaints := process.Stderr()
	if len(complaints) != 4<<10 || !strings.HasSuffix(complaints, "complaint last") {
		t.Errorf("%d bytes of standard error: %q", len(complaints), complaints)
	}
}

func TestExecOutputThatIsNotWhole(t *testing.T) {
	for name, test := range map[string]struct {
		output string
		want   string
	}{
		"ends in a piece":          {piece(1, "whole") + piece(1, "half")[:10], "unexpected EOF"},
		"ends in a header":         {piece(1, "whole") + piece(1, "half")[:3], "unexpected EOF"},
		"ends in an error's piece": {piece(1, "whole") + piece(2, "half")[:10], "unexpected EOF"},
		"the engine gives up":      {piece(1, "whole") + piece(3, "out of file descriptors"), "out of file descriptors"},
		"is not framed":            {piece(1, "whole") + "cannot exec in a stopped container", "not framed"},
	} {
		t.Run(name, func(t *testing.T) {
			process, err := start(t, execing(test.output)).client(t, engine.Limits{}).Exec(t.Context(), "c1", "command")
			if err != nil {
				t.Fatal(err)
			}
			defer process.Close()
			text, err := io.ReadAll(process)
			if !bytes.HasPrefix(text, []byte("whole")) || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q %v, want %q", text, err, test.want)
			}
		})
	}
}

func TestExecThatIsRefused(t *testing.T) {
	answers := execing("")
	answers["/exec/e1/start"] = func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusConflict, "container c1 is paused") }
	f := start(t, answers)
	_, err := f.client(t, engine.Limits{Idle: 1}).Exec(t.Context(), "c1", "command")
	if !engine.IsConflict(err) || !strings.Contains(err.Error(), "is paused") {
		t.Error(err)
	}
	eventually(t, "the stream's connection is closed", func() bool { return f.connections.Load() == 1 })
}

func TestExecThatIsNotAnsweredEndsWithItsContext(t *testing.T) {
	answers := execing("")
	answers["/exec/e1/start"] = func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // only then a server sees that the client has gone
		<-r.Context().Done()
	}
	f := start(t, answers)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.client(t, engine.Limits{Idle: 1}).Exec(ctx, "c1", "command"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	eventually(t, "the stream's connection is closed", func() bool { return f.connections.Load() == 1 })
}
