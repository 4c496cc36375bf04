//go:build unix

package hub_test

import (
	"context"
	"image"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// serve answers on a port of this machine until the test ends.
func (r *rig) serve() (url string) {
	r.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.hub.Serve(ctx, l) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			r.t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

// rowOf is the part of a page that shows one sandbox.
func rowOf(t *testing.T, dom, id string) string {
	t.Helper()
	_, rest, ok := strings.Cut(dom, `<a href="/sandboxes/`+id+`">`)
	if !ok {
		t.Fatalf("no row of %s", id)
	}
	row, _, _ := strings.Cut(rest, "</tr>")
	return row
}

var drawn = regexp.MustCompile(`class="s-([a-z]+)" x="`)

// TestTimelineInChromium looks at the page of a realistic history with a real
// browser: at what it understood, and at the very pixels.
func TestTimelineInChromium(t *testing.T) {
	b := newBrowser(t)
	r := newRig(t, hub.Options{})
	lives := someLives(60, time.Now())
	for _, l := range lives {
		r.must(l.made...)
	}
	url := r.serve()
	dom := b.dom(url + "/")
	for _, l := range lives {
		row := rowOf(t, dom, l.next.SandboxID)
		want, last := map[string]bool{}, ""
		for _, e := range l.made {
			if last = string(e.State); !e.State.Terminal() {
				want[last] = true
			}
		}
		got := map[string]bool{}
		for _, m := range drawn.FindAllStringSubmatch(row, -1) {
			got[m[1]] = true
		}
		for _, s := range sandboxer.States() {
			if want[string(s)] != got[string(s)] {
				t.Errorf("%s: %s is drawn: %v, want %v", l.next.SandboxID, s, got[string(s)], want[string(s)])
			}
		}
		if ended := strings.Contains(row, `class="end" d="M0`); ended != (last == "destroyed") || !strings.Contains(row, "<bdi>"+last+"</bdi>") {
			t.Errorf("%s is %s; its end is drawn: %v", l.next.SandboxID, last, ended)
		}
	}
	_, legend, _ := strings.Cut(dom, `<ul class="legend"`)
	legend, _, _ = strings.Cut(legend, "</ul>")
	for _, s := range sandboxer.States() {
		if !strings.Contains(legend, "</svg>"+string(s)+"</li>") {
			t.Errorf("the legend lacks %s", s)
		}
	}
	const width, height = 1400, 2000
	light := b.picture(url+"/", "timeline-light.png", width, height)
	dark := b.picture(url+"/?by=host", "timeline-dark.png", width, height, "--force-dark-mode")
	lightColours, darkColours := styleColours(t)
	checkColours(t, "light", light, lightColours)
	checkColours(t, "dark", dark, darkColours)
	// one consumer's page of one sandbox
	b.picture(url+"/sandboxes/"+idOf(2), "sandbox-light.png", width, 900)
	b.picture(url+"/sandboxes/"+idOf(3), "sandbox-dark.png", width, 900, "--force-dark-mode")
}

// styleColours reads the colours of both schemes from the style sheet.
func styleColours(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	style, err := os.ReadFile("page/style.css")
	if err != nil {
		t.Fatal(err)
	}
	both := strings.SplitN(string(style), "@media (prefers-color-scheme: dark)", 2)
	if len(both) != 2 {
		t.Fatal("the style sheet has no dark scheme")
	}
	read := func(text string) map[string]string {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colours[m[1]] = m[2]
		}
		return colours
	}
	return read(both[0]), read(both[1])
}

// checkColours counts the pixels of every state's colour, and of the page's.
func checkColours(t *testing.T, scheme string, img image.Image, colours map[string]string) {
	t.Helper()
	least := map[string]int{"page": 1_000_000, "ink": 300}
	for _, s := range sandboxer.States() {
		if !s.Terminal() {
			least[string(s)] = 500
		}
	}
	for name, want := range least {
		got := pixels(t, img, colours[name])
		t.Logf("%s scheme: %d pixels of %s %s", scheme, got, name, colours[name])
		if got < want {
			t.Errorf("%s scheme: %d pixels of %s %s, want at least %d", scheme, got, name, colours[name], want)
		}
	}
}

// TestHostileTextsInChromium: nothing that a client wrote becomes a part of
// the page, and the browser has nothing to complain of.
func TestHostileTextsInChromium(t *testing.T) {
	b := newBrowser(t)
	r := newRig(t, hub.Options{})
	for i, text := range hostile() {
		r.must(hostileLife(i, text).made...)
	}
	url := r.serve()
	for _, page := range []string{"/", "/sandboxes/" + idOf(1), "/sandboxes/" + idOf(4)} {
		dom := b.dom(url + page)
		for _, never := range []string{"<script", "<img", "onerror=\"", "onmouseover=\""} {
			if strings.Contains(dom, never) {
				t.Errorf("%s has %s in its document", page, never)
			}
		}
		if !strings.Contains(dom, "&lt;script&gt;alert(1)&lt;/script&gt;") {
			t.Errorf("%s does not show the text", page)
		}
	}
	b.picture(url+"/", "hostile.png", 1400, 1600)
	b.picture(url+"/sandboxes/"+idOf(10), "hostile-sandbox.png", 1400, 900)
}

// TestEmptyInChromium: the page of a hub that has heard nothing.
func TestEmptyInChromium(t *testing.T) {
	b := newBrowser(t)
	url := newRig(t, hub.Options{}).serve()
	if dom := b.dom(url + "/"); !strings.Contains(dom, "Nothing has been sent yet") {
		t.Error("the page does not say what to do")
	}
	b.picture(url+"/", "empty.png", 1000, 500)
}
