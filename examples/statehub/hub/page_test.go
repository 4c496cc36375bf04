package hub_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/examples/statehub/hub"
)

// page gets a page and checks what holds for every one of them.
func (r *rig) page(target string, status int) string {
	r.t.Helper()
	a := r.get(target)
	if a.status != status || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		r.t.Fatalf("%s: %d, %s\n%s", target, a.status, a.header.Get("Content-Type"), a.body)
	}
	policy := a.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script") {
		r.t.Errorf("%s: policy %s", target, policy)
	}
	// a style attribute would be refused by the policy, and nothing is loaded
	for _, never := range []string{"<script", " style=", "=\"javascript:", "<link rel=\"stylesheet", "<img", "http://", "ZgotmplZ"} {
		if strings.Contains(a.body, never) {
			r.t.Errorf("%s holds %q", target, never)
		}
	}
	return a.body
}

func TestEmptyPages(t *testing.T) {
	r := newRig(t, hub.Options{})
	for target, says := range map[string]string{
		"/":                 "POST /v1/events",
		"/?by=host":         "Nothing has been sent yet",
		"/?project=shop":    "No sandbox matches",
		"/?project=&state=": "Nothing has been sent yet",
	} {
		if body := r.page(target, http.StatusOK); !strings.Contains(body, says) || strings.Contains(body, "<table") {
			t.Errorf("%s does not say %q:\n%s", target, says, body)
		}
	}
	if body := r.page("/sandboxes/"+idOf(1), http.StatusNotFound); !strings.Contains(body, "is not known") {
		t.Errorf("unknown sandbox: %s", body)
	}
}

func TestTimelinePage(t *testing.T) {
	r := newRig(t, hub.Options{})
	for _, l := range someLives(16, time.Now()) {
		r.must(l.made...)
	}
	rows := func(target string) int {
		return strings.Count(r.page(target, http.StatusOK), `<th scope="row" class="id">`)
	}
	for target, want := range map[string]int{
		"/": 16, "/?by=host": 16, "/?project=billing": 5, "/?host=builder-eu&by=host": 4, "/?state=failed": 1, "/?state=nothing": 0,
		"/?since=1ms": 13, "/?since=24h": 16, "/?refresh=5": 16,
	} {
		if got := rows(target); got != want {
			t.Errorf("%s has %d rows, want %d", target, got, want)
		}
	}
	groups := regexp.MustCompile(`<th scope="rowgroup" colspan="7"><bdi>([^<]*)</bdi><bdi class="soft">([^<]*)</bdi>`)
	for target, want := range map[string]string{
		"/":         "billing/agt:worker-0 2, billing/agt:worker-1 3, search/agt:worker-0 3, search/agt:worker-1 2, shop/agt:worker-0 3, shop/agt:worker-1 3",
		"/?by=host": "builder-eu 4, sandboxer01 6, sandboxer02 6",
	} {
		var got []string
		for _, m := range groups.FindAllStringSubmatch(r.page(target, http.StatusOK), -1) {
			number, _, _ := strings.Cut(m[2], " ")
			got = append(got, m[1]+" "+number)
			if !regexp.MustCompile(`^\d+ sandbox(es)? · [0-9,]+ sandbox-seconds · \d+\.\d{6} EUR$`).MatchString(m[2]) {
				t.Errorf("%s: totals of %s: %s", target, m[1], m[2])
			}
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%s: groups %s, want %s", target, text, want)
		}
	}
	body := r.page("/?by=host&project=shop&state=ready&since=3h&refresh=7", http.StatusOK)
	for _, says := range []string{
		`<meta http-equiv="refresh" content="7">`, `name="project" value="shop"`, `name="since" value="3h"`,
		`<option value="host" selected>`, `<option selected>ready</option>`, `<option value="7" selected>every 7 s</option>`,
	} {
		if !strings.Contains(body, says) {
			t.Errorf("the page does not keep what was asked for: %s", says)
		}
	}
	if body := r.page("/", http.StatusOK); strings.Contains(body, "http-equiv") {
		t.Error("the page loads itself again though nobody asked for it")
	}
	for target, says := range map[string]string{"/?since=no": "since is", "/?by=moon": "consumer, host", "/?refresh=0": "1 to 3600", "/?porject=x": "porject"} {
		if body := r.page(target, http.StatusBadRequest); !strings.Contains(body, says) || strings.Contains(body, "<table") {
			t.Errorf("%s does not say %q", target, says)
		}
	}
}

// TestManySandboxes: the page stays of a size that people can use.
func TestManySandboxes(t *testing.T) {
	r := newRig(t, hub.Options{})
	for _, l := range someLives(210, time.Now()) {
		r.must(l.made[0])
	}
	body := r.page("/", http.StatusOK)
	if n := strings.Count(body, `<th scope="row" class="id">`); n != 200 || !strings.Contains(body, "210 sandboxes, the newest 200 shown") {
		t.Errorf("%d rows", n)
	}
}

// TestFallback: a host that a sandbox has left keeps what was used on it.
func TestFallback(t *testing.T) {
	r := newRig(t, hub.Options{})
	l := newLife(idOf(1), time.Now().Add(-time.Hour)).by("shop", "builder", "first").to(0, "requested", "requested", "").to(time.Second, "provisioning", "routed", "")
	l.next.Host = "second"
	r.must(l.to(time.Minute, "provisioning", "fallback", "first is down").made...)
	body := r.page("/?by=host", http.StatusOK)
	if !strings.Contains(body, `<bdi>first</bdi><bdi class="soft">0 sandboxes · 60 sandbox-seconds</bdi>`) || !strings.Contains(body, `<bdi>second</bdi><bdi class="soft">1 sandbox ·`) {
		t.Errorf("hosts of a sandbox that fell back:\n%s", body)
	}
}

func TestSandboxPage(t *testing.T) {
	r := newRig(t, hub.Options{})
	l := newLife(idOf(1), time.Now().Add(-time.Hour)).by("shop", "builder", "sandboxer01")
	l.next.ErrorCode = "not_ready"
	l.next.Reachability = &sandboxer.Reachability{Address: "local:", Services: []sandboxer.Service{{Name: "api", State: "healthy", Ports: []sandboxer.Port{{Port: 8080}}}}}
	l.up(time.Minute).to(time.Minute, "ready", "ttl_extended", "").to(time.Minute, "failed", "not_ready", "service db: exit code 1")
	r.must(l.made[0], l.made[3], l.made[4])
	r.put(registrationOf(l.made[4]))
	body := r.page("/sandboxes/"+idOf(1), http.StatusOK)
	for _, says := range []string{
		"Events are missing", `<td class="number">2–3</td><td colspan="4">missing</td>`, "service db: exit code 1", "not_ready", "stays <bdi>ready</bdi>",
		"<dt>Actor</dt><dd><bdi>builder</bdi> (agt)</dd>", "<dt>Run</dt><dd><bdi>r1</bdi></dd>", "<dt>Registration</dt><dd>since ", "<bdi>api</bdi>",
		"3 events, 0 duplicates", "/v1/events?sandbox_id=" + idOf(1),
	} {
		if !strings.Contains(body, says) {
			t.Errorf("the page does not say %q", says)
		}
	}
	r.send("DELETE", "/v1/sandboxes/"+idOf(1), "")
	if body := r.page("/sandboxes/"+idOf(1)+"?refresh=60", http.StatusOK); !strings.Contains(body, "<dt>Registration</dt><dd>ended ") {
		t.Error("the page does not say that the registration ended")
	}
	r.put(registrationOf(newLife(idOf(2), time.Now()).up(time.Minute).made[2]))
	if body := r.page("/sandboxes/"+idOf(2), http.StatusOK); !strings.Contains(body, `1–3</td><td colspan="4">missing`) || strings.Contains(body, "<svg class=\"bar\"") {
		t.Error("the page of a sandbox without events does not say that all are missing")
	}
	r.page("/", http.StatusOK)
}

// hostile are texts that a page must show and never obey.
func hostile() []string {
	return []string{
		`<script>alert(1)</script>`, `</style><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`,
		`</title></svg><script>alert(1)</script>`, `javascript:alert(1)`, `{{.Token}}`, "line\nbreak\ttab", "\u202egnp.exe\u202c", "مرحبا بالعالم",
		strings.Repeat("long", 2000), strings.Repeat("界", 3000), "\x00\x01\x7f", `\u003cscript\u003e`, "",
	}
}

// hostileLife has the text wherever a client may write one.
func hostileLife(i int, text string) *life {
	l := newLife(idOf(i), time.Now().Add(-time.Hour))
	l.next.Profile, l.next.Extension, l.next.Host, l.next.ErrorCode = text, text, text, text
	l.next.Consumer = sandboxer.Consumer{Project: text, ActorType: sandboxer.ActorType(text), Actor: text, Run: text}
	l.next.Inputs = map[string]string{text: text}
	l.next.Estimate = &sandboxer.Cost{Currency: text, MicrosPerHour: 1}
	l.next.Reachability = &sandboxer.Reachability{Address: text, Services: []sandboxer.Service{{Name: text, State: text}}}
	return l.to(0, "provisioning", "routed", text).to(time.Minute, sandboxer.State("x"+text), sandboxer.Reason("x"+text), text)
}

func TestHostileTexts(t *testing.T) {
	r := newRig(t, hub.Options{})
	for i, text := range hostile() {
		l := hostileLife(i, text)
		r.must(l.made...)
		r.put(registrationOf(l.made[1]))
		stored := decode[struct{ Events []json.RawMessage }](t, r.get("/v1/events?sandbox_id="+idOf(i)))
		if len(stored.Events) != 2 {
			t.Errorf("%d events with %q", len(stored.Events), text)
		}
		if body := r.page("/sandboxes/"+idOf(i), http.StatusOK); len(body) > 200_000 || strings.Count(body, "<html") != 1 || !strings.HasSuffix(body, "</html>\n") {
			t.Errorf("the page of %q has %d bytes", cut(text), len(body))
		}
	}
	for _, target := range []string{"/", "/?by=host", "/?project=%22%3E%3Cscript%3Ealert(1)%3C/script%3E", "/?state=%3Cscript%3E"} {
		r.page(target, http.StatusOK)
	}
	r.page("/?since=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&%3Cscript%3E=1", http.StatusBadRequest)
	if body := r.page("/", http.StatusOK); strings.ContainsAny(body, "\u202e\u202c") || !strings.Contains(body, "no consumer named") {
		t.Error("letters are turned around, or the consumer without a name is missing")
	}
	r.page("/sandboxes/%3Cscript%3Ealert(1)%3C%2Fscript%3E", http.StatusNotFound)
}

func cut(text string) string { return text[:min(len(text), 40)] }

// TestTimesOfAnyYear: a clock that is wrong by ages breaks nothing.
func TestTimesOfAnyYear(t *testing.T) {
	r := newRig(t, hub.Options{})
	for i, year := range []int{1, 1600, 1969, 2026, 9999} {
		r.must(newLife(idOf(i), time.Date(year, 6, 1, 0, 0, 0, 0, time.UTC)).up(time.Minute).made...)
		r.page("/sandboxes/"+idOf(i), http.StatusOK)
	}
	body := r.page("/", http.StatusOK)
	if n := strings.Count(body, "<line class=\"tick\""); n > 5*8 {
		t.Errorf("%d ticks", n)
	}
	if a := r.get("/v1/usage"); a.status != http.StatusOK {
		t.Errorf("usage: %d %s", a.status, a.body)
	}
}
