package server_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/server"
)

// metrics are the server's numbers, by series.
func (r *rig) metrics() map[string]float64 {
	r.t.Helper()
	text := r.get("/metrics").want(r.t, 200).body
	all, err := exposition(text)
	if err != nil {
		r.t.Fatalf("%v in\n%s", err, text)
	}
	return all
}

// counted is how often each operation had each status, by the server's word.
func (r *rig) counted() map[string]int {
	r.t.Helper()
	all := map[string]int{}
	for series, value := range r.metrics() {
		if labels, ok := strings.CutPrefix(series, "sandboxd_requests_total"); ok {
			all[labels] = int(value)
		}
	}
	return all
}

// Every request is counted once, with what its client got to see.
func TestEveryRequestIsCounted(t *testing.T) {
	w, g := newWorld(t), newGate()
	w.fault = g.at("provision", "container")
	r := w.start(t, server.Config{})
	leaving(t, r, g)
	until(t, "the client's leave", func() bool { return r.counted()[`{operation="createSandbox",status="499"}`] == 1 })
	r.get("/v1/sandboxes").want(t, 200)
	r.send("HEAD", "/v1/sandboxes", "").want(t, 200)
	r.get("/v1/sandboxes/none").want(t, 404)
	r.get("/v1/sandboxes?x=1").want(t, 400)
	r.get("/v2").want(t, 404)
	r.send("PUT", "/v1/sandboxes", "").want(t, 405)
	r.get("/v1/sandboxes", "Host", "evil.example").want(t, 403)
	_, leave := r.follow("/v1/events")
	leave()
	until(t, "the stream's end", func() bool { return r.counted()[`{operation="listEvents",status="200"}`] == 1 })
	want := map[string]int{
		`{operation="createSandbox",status="499"}`: 1, `{operation="listSandboxes",status="200"}`: 2, `{operation="listSandboxes",status="400"}`: 1,
		`{operation="getSandbox",status="404"}`: 1, `{operation="none",status="404"}`: 1, `{operation="none",status="405"}`: 1,
		`{operation="none",status="403"}`: 1, `{operation="listEvents",status="200"}`: 1,
	}
	got := r.counted()
	delete(got, `{operation="getMetrics",status="200"}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counted: %s", diff)
	}
}

// All of /metrics is what Prometheus reads, whatever happened before.
func TestMetricsAreAnExposition(t *testing.T) {
	w := newWorld(t)
	r := w.start(t, server.Config{})
	r.metrics()
	s := r.create()
	r.send("POST", "/v1/sandboxes/"+s.ID+"/recreate", "", "If-Match", "*").want(t, 200)
	r.send("POST", "/v1/sandboxes/"+s.ID+"/recreate", "", "If-Match", `"x"`).want(t, 412)
	r.send("DELETE", "/v1/sandboxes/"+s.ID, "").want(t, 200)
	r.send("POST", "/v1/sandboxes", `{"profile":"\"\n\\"}`).want(t, 404)
	r.get("/v2").want(t, 404)
	all := r.metrics()
	for _, series := range []string{`sandboxd_work_seconds_count{kind="recreate",outcome="done"}`, `sandboxd_request_seconds_bucket{operation="none",le="+Inf"}`} {
		if all[series] != 1 {
			t.Errorf("%s is %v, want 1", series, all[series])
		}
	}
}

// exposition reads Prometheus' text form strictly: a family's help and type
// come once and before its samples, which stand together, each once; counters
// and histograms do not shrink or contradict themselves.
func exposition(text string) (map[string]float64, error) {
	const name, label = `[a-zA-Z_:][a-zA-Z0-9_:]*`, `[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`
	help := regexp.MustCompile(`^# HELP (` + name + `) [^\n]*$`)
	kind := regexp.MustCompile(`^# TYPE (` + name + `) (counter|gauge|histogram)$`)
	sample := regexp.MustCompile(`^(` + name + `)(\{` + label + `(?:,` + label + `)*\})? ([^ ]+)$`)
	if !strings.HasSuffix(text, "\n") {
		return nil, errors.New("the last line does not end")
	}
	all, helped, kinds, family := map[string]float64{}, map[string]bool{}, map[string]string{}, ""
	buckets := map[string]float64{} // the last of each histogram
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := help.FindStringSubmatch(line); m != nil {
			if helped[m[1]] {
				return nil, fmt.Errorf("%s is explained twice", m[1])
			}
			helped[m[1]], family = true, m[1]
			continue
		}
		if m := kind.FindStringSubmatch(line); m != nil {
			if m[1] != family || kinds[family] != "" {
				return nil, fmt.Errorf("%q does not follow its help, or comes twice", line)
			}
			kinds[family] = m[2]
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%q is no line of an exposition", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		suffix, ok := strings.CutPrefix(m[1], family)
		if _, twice := all[m[1]+m[2]]; twice || err != nil || !ok || kinds[family] == "" || value < 0 {
			return nil, fmt.Errorf("%q: a sample of another family, or twice, or no number: %v", line, err)
		}
		all[m[1]+m[2]] = value
		if kinds[family] != "histogram" {
			if suffix != "" {
				return nil, fmt.Errorf("%q is not of %s", line, family)
			}
			continue
		}
		labels, bound, isBucket := strings.Cut(strings.TrimSuffix(m[2], "}"), `,le="`)
		switch {
		case suffix == "_bucket" && isBucket:
			if value < buckets[labels] {
				return nil, fmt.Errorf("%q: fewer than in the bucket before", line)
			}
			if buckets[labels] = value; bound == `+Inf"` {
				buckets[labels+" all"] = value
			}
		case suffix == "_count" && !isBucket:
			if all, ok := buckets[labels+" all"]; !ok || all != value {
				return nil, fmt.Errorf("%q: not as many as in the last bucket, %v", line, all)
			}
			clear(buckets)
		case suffix != "_sum" || isBucket:
			return nil, fmt.Errorf("%q is not of a histogram", line)
		}
	}
	for f := range helped {
		if kinds[f] == "" {
			return nil, fmt.Errorf("%s has no type", f)
		}
	}
	return all, nil
}

// The check itself finds what is wrong.
func TestExpositionIsStrict(t *testing.T) {
	const head = "# HELP a b\n# TYPE a counter\n"
	for _, text := range []string{
		"a 1", "a 1\n", head + "b 1\n", head + "a one\n", head + "a 1\na 1\n", head + "a{x=1} 1\n", head + "a{x=\"\\x\"} 1\n", head + head, head + "\n",
		"# HELP a b\n", "# HELP h b\n# TYPE h histogram\nh_bucket{o=\"x\",le=\"1\"} 2\nh_bucket{o=\"x\",le=\"+Inf\"} 1\n",
		"# HELP h b\n# TYPE h histogram\nh_bucket{o=\"x\",le=\"+Inf\"} 1\nh_sum{o=\"x\"} 1\nh_count{o=\"x\"} 2\n",
	} {
		if _, err := exposition(text); err == nil {
			t.Errorf("%q passes", text)
		}
	}
}
