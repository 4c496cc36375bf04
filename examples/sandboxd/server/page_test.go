//go:build unix

package server_test

import (
	"fmt"
	"image"
	"image/color"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
	"github.com/sand-boxer/sandboxer/extensiontest"
)

// stateOf is what the page says of a sandbox.
func stateOf(id string) string {
	return fmt.Sprintf(`document.querySelector('[data-sandbox=%q] .state')?.textContent ?? "none"`, id)
}

const linkState = `document.getElementById("link").dataset.link`

// TestPageInChromium watches one life, with the server restarted in between.
func TestPageInChromium(t *testing.T) {
	w, g := newWorld(t, sandboxer.Host{Name: "one", Address: "fake://one", Slots: 3}), newGate()
	w.fault = g.at("provision", "network")
	r := w.start(t, server.Config{})
	origin := "http://" + r.addr
	b := browse(t, origin+"/")
	b.waitFor(linkState, "live")
	b.waitFor(`document.getElementById("none").hidden`, "false")
	b.waitFor(`document.querySelector("#hosts tr")?.innerText`, "one\tfake://one\tyes\t0\t3\t")

	s := r.send("POST", "/v1/sandboxes", body, "Prefer", "respond-async").want(t, http.StatusAccepted).sandbox(t)
	b.waitFor(stateOf(s.ID), "provisioning")
	b.waitFor(`document.querySelector(".progress")?.textContent`, "network: "+s.ID+"-net")
	g.open()
	b.waitFor(stateOf(s.ID), "ready")

	r.stop()
	b.waitFor(linkState, "lost")
	r = w.startAt(t, server.Config{}, r.addr)
	b.waitFor(linkState, "live")
	b.waitFor(stateOf(s.ID), "ready")
	b.waitFor(`document.querySelector("#hosts tr").innerText`, "one\tfake://one\tyes\t1\t2\t")

	at := "/v1/sandboxes/" + s.ID
	r.send("POST", at+"/activate", "").want(t, http.StatusOK)
	b.waitFor(stateOf(s.ID), "active")
	checkSchemes(t, b)
	checkKeyboard(t, b)
	r.send("DELETE", at, "").want(t, http.StatusOK)
	b.waitFor(stateOf(s.ID), "destroyed")
	b.waitFor(`[...document.querySelectorAll("[data-sandbox] rect")].map(r => r.dataset.state).join(" ")`, "requested provisioning ready active destroying")
	b.waitFor(`[...document.querySelectorAll("#events tr")].map(r => r.cells[2].textContent).reverse().join(", ")`,
		"requested, requested → provisioning, provisioning → ready, ready → active, active → destroying, destroying → destroyed")
	b.picture("sandboxes-ended.png")
	b.eval(`document.getElementById("ended").click()`)
	b.waitFor(stateOf(s.ID), "none")
	b.content(origin)
}

// checkSchemes looks at the very pixels: both colour schemes show the state's
// colour on their own ground.
func checkSchemes(t *testing.T, b *browser) {
	t.Helper()
	style, err := os.ReadFile("page/page.css")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitN(string(style), "@media (prefers-color-scheme: dark)", 2)
	for i, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		picture := b.picture("sandboxes-" + scheme + ".png")
		for name, least := range map[string]int{"page": 500_000, "active": 50, "text": 200} {
			m := regexp.MustCompile(`--` + name + `: (#[0-9a-f]{6});`).FindStringSubmatch(parts[i])
			if m == nil {
				t.Fatalf("the %s scheme has no colour %s", scheme, name)
			}
			if n := pixels(t, picture, m[1]); n < least {
				t.Errorf("%s scheme: %d pixels of %s, want at least %d", scheme, n, name, least)
			}
		}
	}
}

func pixels(t *testing.T, img image.Image, hex string) (n int) {
	t.Helper()
	want := color.RGBA{A: 255}
	if _, err := fmt.Sscanf(hex, "#%02x%02x%02x", &want.R, &want.G, &want.B); err != nil {
		t.Fatal(err)
	}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

// checkKeyboard goes through everything that can be used or scrolled.
func checkKeyboard(t *testing.T, b *browser) {
	t.Helper()
	var got []string
	for range 4 {
		got = append(got, b.tab())
	}
	if want := "h-hosts ended h-sandboxes h-events"; strings.Join(got, " ") != want {
		t.Errorf("the focus goes %q, want %q", got, want)
	}
}

// Where tokens are needed the page asks for one, and shows what it may see.
// Nothing that comes from elsewhere becomes a part of the page.
func TestPageAsksForAToken(t *testing.T) {
	w := newWorld(t)
	const hostile = `<img src=x onerror=alert(1)><script>alert(2)</script>`
	w.fault = extensiontest.FailAt("provision", "container", &sandboxer.StageError{Stage: "build", Message: hostile})
	all := people(t, w)
	origin := "http://" + all["nobody"].addr
	b := browse(t, origin+"/")
	b.waitFor(`document.getElementById("door").hidden`, "false")
	b.eval(`document.getElementById("token").value = "` + all["builder"].token + `"; document.querySelector("#door button").click()`)
	b.waitFor(linkState, "live")
	b.waitFor(`document.getElementById("door").hidden`, "true")
	all["writer"].send("POST", "/v1/sandboxes", body).want(t, http.StatusFailedDependency)
	id := all["builder"].send("POST", "/v1/sandboxes", body).problem(t, http.StatusFailedDependency, "provision").Sandbox.ID
	b.waitFor(stateOf(id), "destroyed")
	b.waitFor(`document.getElementById("events").textContent.includes("<img src=x onerror=alert(1)>")`, "true")
	b.waitFor(`document.querySelectorAll("#sandboxes tr").length`, "1")
	b.waitFor(`document.querySelectorAll("img, main script").length`, "0")
	b.content(origin)
}

// Where the hosts cannot be asked for, the page shows the rest and does not complain.
func TestPageWithoutHosts(t *testing.T) {
	r := newWorld(t).start(t, server.Config{})
	target, err := url.Parse("http://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(target)
	pass.ErrorLog = log.New(io.Discard, "", 0) // of streams that the browser left
	asked := make(chan bool, 1000)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/hosts" {
			pass.ServeHTTP(w, r)
			return
		}
		http.Error(w, "broken", http.StatusBadGateway)
		asked <- true
	}))
	t.Cleanup(front.Close)
	b := browse(t, front.URL+"/")
	b.waitFor(linkState, "live")
	<-asked
	b.waitFor(stateOf(r.create().ID), "ready")
	b.content(front.URL)
}

// The page may load nothing, and run only what it came with.
func TestPagePolicy(t *testing.T) {
	r := newWorld(t).start(t, server.Config{})
	a := r.get("/").want(t, http.StatusOK)
	policy := a.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'sha256-", "style-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s: %s", part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(strings.ReplaceAll(a.body, "http://www.w3.org/2000/svg", ""), "://") {
		t.Errorf("the page refers to others, or its policy is lax: %s", policy)
	}
}
