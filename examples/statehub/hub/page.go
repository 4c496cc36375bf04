package hub

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"time"

	"github.com/sand-boxer/sandboxer"
)

//go:embed page/*
var pageFiles embed.FS

// pages are what people see. They are complete as they are sent: no script,
// no other file, no other host.
type pages struct {
	templates *template.Template
	style     template.CSS
	policy    string // of their content: nothing but our own style sheet
}

func parsePages() (*pages, error) {
	style, err := pageFiles.ReadFile("page/style.css")
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(style)
	p := &pages{style: template.CSS(style)}
	p.policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	p.templates, err = template.New("").Funcs(template.FuncMap{
		"cut": cut, "brief": brief, "clock": clock, "moment": moment, "many": many, "class": class,
	}).ParseFS(pageFiles, "page/*.html")
	return p, err
}

// A frame is what all pages have.
type frame struct {
	Style   template.CSS
	Refresh int // seconds after which a browser loads the page again; 0 is never
	Legend  []sandboxer.State
	Now     time.Time
}

func (p *pages) frame(refresh int, now time.Time) frame {
	return frame{Style: p.style, Refresh: refresh, Legend: sandboxer.States(), Now: now}
}

// show answers with a page, complete or not at all.
func (p *pages) show(w http.ResponseWriter, status int, name string, data any) error {
	var page bytes.Buffer
	if err := p.templates.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", p.policy)
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // who does not read it has left
	return nil
}

// mostRows is how many sandboxes a page shows.
const mostRows = 200

// A timeline is what the first page shows.
type timeline struct {
	frame
	Problems          problems
	By, Project, Host string
	State, Since      string
	RefreshChoices    []int
	States            []sandboxer.State
	Span              string
	Ticks             []tick
	Groups            []group
	Counts            []count
	Shown, Total      int
	Filtered          bool
}

func (h *Hub) timelinePage(w http.ResponseWriter, r *http.Request) error {
	now := time.Now().UTC()
	p := queryOf(r.URL, "by", "project", "host", "state", "since", "refresh")
	by := p.choice("by", string(sandboxer.ByConsumer), string(sandboxer.ByHost))
	f := filter{project: p.text("project"), host: p.text("host"), state: p.text("state"), since: p.since("since", now)}
	page := timeline{
		frame: h.pages.frame(p.number("refresh", 0, 1, 3600), now), Problems: p.problems, By: by,
		Project: f.project, Host: f.host, State: f.state, Since: p.text("since"),
		States: with(sandboxer.States(), sandboxer.State(f.state)), RefreshChoices: []int{5, 15, 60}, Filtered: f != filter{},
	}
	page.RefreshChoices = with(page.RefreshChoices, page.Refresh)
	if len(page.Problems) > 0 {
		page.Refresh = 0
		return h.pages.show(w, http.StatusBadRequest, "timeline.html", page)
	}
	f.limit = mostRows
	found, err := h.store.histories(r.Context(), f)
	if err != nil {
		return err
	}
	if page.Total, err = h.store.count(r.Context(), f); err != nil {
		return err
	}
	s := spanOf(found, f.since, now)
	page.Shown, page.Ticks, page.Span = len(found), s.ticks(), moment(s.from)[:19]+" to "+moment(s.to)[:19]
	page.Groups = groupsOf(found, sandboxer.MeterBy(by), s, sandboxer.Window{Since: f.since, Until: now})
	page.Counts = countsOf(page.Groups)
	return h.pages.show(w, http.StatusOK, "timeline.html", page)
}

// with is a list that also offers what was chosen, if anything was.
func with[T comparable](list []T, chosen T) []T {
	var none T
	if chosen == none || slices.Contains(list, chosen) {
		return list
	}
	return append(list, chosen)
}
