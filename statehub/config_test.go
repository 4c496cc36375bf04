package statehub_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

func TestParseConfigDefaults(t *testing.T) {
	got, err := statehub.ParseConfig("hub.yaml", []byte("url: https://hub.example.net\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := statehub.Config{
		URL: "https://hub.example.net", Shape: statehub.ShapeCloudEvents, Source: "/sandboxer",
		Paths:   statehub.Paths{Events: "/v1/events", Progress: "/progress", Sandboxes: "/v1/sandboxes"},
		Timeout: sandboxer.Duration(10 * time.Second), Register: statehub.RegisterAuto,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(sandboxer.Delivery{}, got.Delivery()); diff != "" {
		t.Errorf("delivery (-want +got):\n%s", diff)
	}
}

// TestDocumentedConfig: the example of docs/statehub.md is complete and valid.
func TestDocumentedConfig(t *testing.T) {
	t.Setenv("HOME", "/home/ci")
	text := blocks(t, "Configuration", "yaml")[0]
	got, err := statehub.ParseConfig("hub.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := statehub.Config{
		URL: "https://hub.example.net", Shape: statehub.ShapeProgress, Source: "/sandboxer/ci",
		Paths:     statehub.Paths{Events: "/v1/events", Progress: "/progress", Sandboxes: "/v1/sandboxes"},
		Headers:   map[string]string{"X-Team": "platform"},
		Fields:    map[string]string{"topic_slug": "sandboxes", "workstream_id": "ws-12"},
		TokenFile: "/home/ci/.config/sandboxer/hub.token", CAFile: "/etc/ssl/private-ca.pem",
		Timeout: sandboxer.Duration(10 * time.Second), Register: statehub.RegisterAuto, PlainHTTP: false,
		GiveUp: sandboxer.Duration(72 * time.Hour), Flush: sandboxer.Duration(2 * time.Second),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	for _, key := range []string{
		"url", "shape", "source", "paths", "headers", "fields", "token_env", "token_file", "ca_file", "timeout", "register", "plain_http", "give_up", "flush",
	} {
		if !strings.Contains(text, key+":") {
			t.Errorf("the example does not show %s", key)
		}
	}
}

// TestParseConfigProblems: each is told with its line, all at once, and
// without what may be a secret.
func TestParseConfigProblems(t *testing.T) {
	t.Setenv("HOME", "/home/ci")
	for name, test := range map[string]struct{ document, want string }{
		"empty":           {"", "hub.yaml: is empty"},
		"no address":      {"shape: progress", "hub.yaml:1: url: is required: write where the hub is, such as https://hub.example.net"},
		"unknown key":     {"url: https://h\ntoken: S3CRET", "hub.yaml:2: token: unknown key: known here are ca_file, fields, flush, give_up, headers, paths, plain_http, register, shape, source, timeout, token_env, token_file, url"},
		"wrong type":      {"url: https://h\ntimeout: [1s]", "hub.yaml:2: timeout: is a list, want text"},
		"not YAML":        {"url: [", "hub.yaml:2: did not find expected node content"},
		"other scheme":    {"url: ftp://h", "hub.yaml:1: url: is not the address of a hub: write https://hub.example.net"},
		"no host":         {"url: https://", "hub.yaml:1: url: is not the address of a hub: write https://hub.example.net"},
		"no scheme":       {"url: hub.example.net", "hub.yaml:1: url: is not the address of a hub: write https://hub.example.net"},
		"space":           {"url: 'https://h/a b'", "hub.yaml:1: url: is not the address of a hub: write https://hub.example.net"},
		"password":        {"url: https://a:S3CRET@h", "hub.yaml:1: url: holds an account or a password: take it out, and name the token's place with token_env or token_file"},
		"bad password":    {"url: https://a:S3CRET%@h", "hub.yaml:1: url: is not the address of a hub: write https://hub.example.net"},
		"query":           {"url: https://h/?key=S3CRET", "hub.yaml:1: url: goes on behind ? or #: only scheme, host, port and path belong into it"},
		"fragment":        {"url: 'https://h/#'", "hub.yaml:1: url: goes on behind ? or #: only scheme, host, port and path belong into it"},
		"port":            {"url: https://h:65536", "hub.yaml:1: url: has a port that is not between 1 and 65535"},
		"shape":           {"url: https://h\nshape: json", `hub.yaml:2: shape: "json" is neither cloudevents nor progress`},
		"source":          {"url: https://h\nsource: a b", `hub.yaml:2: source: "a b" is not a URI reference such as /sandboxer or https://ci.example.net/sandboxer`},
		"path":            {"url: https://h\npaths:\n  events: v1", "hub.yaml:3: paths.events: is not a path such as /v1/events: it begins with a slash and has no part behind ? or #"},
		"path with query": {"url: https://h\npaths:\n  progress: /p\n  sandboxes: /s?k=S3CRET", "hub.yaml:4: paths.sandboxes: is not a path such as /v1/events: it begins with a slash and has no part behind ? or #"},
		"path with %":     {"url: https://h\npaths:\n  progress: /%zz", "hub.yaml:3: paths.progress: is not a path such as /v1/events: it begins with a slash and has no part behind ? or #"},
		"register":        {"url: https://h\nregister: never", `hub.yaml:2: register: "never" is neither auto nor off`},
		"negative time":   {"url: https://h\ntimeout: -1s", "hub.yaml:2: timeout: is negative"},
		"long time":       {"url: https://h\ntimeout: 1m", "hub.yaml:2: timeout: is longer than 15s: an event takes two requests, and is offered for 30s at a time"},
		"relative ca":     {"url: https://h\nca_file: ca.pem", `hub.yaml:2: ca_file: "ca.pem" is neither an absolute path nor one below ~/`},
		"token as env":    {"url: https://h\ntoken_env: S3CRET-x", "hub.yaml:2: token_env: is not the name of an environment variable: the token itself does not belong here"},
		"token as file":   {"url: https://h\ntoken_file: S3CRET", "hub.yaml:2: token_file: is neither an absolute path nor one below ~/: the token itself does not belong here"},
		"two tokens":      {"url: https://h\ntoken_env: A\ntoken_file: ~/t", "hub.yaml:3: token_file: is not the only place of a token: keep one of token_env, token_file and Token"},
		"plain http":      {"shape: cloudevents\nurl: http://h\ntoken_env: A", "hub.yaml:2: url: would carry the token to another machine unencrypted"},
		"own header":      {"url: https://h\nheaders:\n  X-A: b\n  authorization: Bearer S3CRET", "hub.yaml:4: headers.authorization: belongs to the request itself and cannot be set"},
		"header name":     {"url: https://h\nheaders: {'a b': c}", "hub.yaml:2: headers.a b: is not the name of a header"},
		"header value":    {"url: https://h\nheaders: {a: \"S3CRET\\r\\nb: c\"}", "hub.yaml:2: headers.a: is empty, or holds something other than visible ASCII characters with spaces between them"},
		"header twice":    {"url: https://h\nheaders: {x-a: b, X-A: c}", "hub.yaml:2: headers.x-a: is the same header as X-A"},
		"own field":       {"url: https://h\nshape: progress\nfields:\n  topic.slug: a\n  Summary: b", "hub.yaml:5: fields.Summary: would replace the field summary of the event"},
		"nameless field":  {"url: https://h\nshape: progress\nfields: {'': a}", "hub.yaml:3: fields: holds a field without a name"},
		"fields unused":   {"url: https://h\nfields: {a: b}", "hub.yaml:2: fields: are sent in shape progress only: set shape, or take them out"},
		"JSON":            {`{"url": "https://h", "shape": "json"}`, `hub.yaml:1: shape: "json" is neither cloudevents nor progress`},
		"all at once": {
			"url: http://h\ntoken_file: /t\nshape: x\nregister: y\nheaders: {Host: z}",
			"hub.yaml:1: url: would carry the token to another machine unencrypted\n" +
				"hub.yaml:3: shape: \"x\" is neither cloudevents nor progress\n" +
				"hub.yaml:4: register: \"y\" is neither auto nor off\n" +
				"hub.yaml:5: headers.Host: belongs to the request itself and cannot be set",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := statehub.ParseConfig("hub.yaml", []byte(test.document))
			if err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff(test.want, err.Error()); diff != "" {
				t.Errorf("error (-want +got):\n%s", diff)
			}
			if _, ok := errors.AsType[*sandboxer.FieldError](err); !ok || !errors.Is(err, sandboxer.ErrInvalid) {
				t.Errorf("%v is no *FieldError that matches ErrInvalid", err)
			}
			if diff := cmp.Diff(statehub.Config{}, got); diff != "" {
				t.Errorf("with an error came a configuration:\n%s", diff)
			}
		})
	}
}

// TestPlainHTTP: a token travels unencrypted to this machine only, or where
// that is allowed.
func TestPlainHTTP(t *testing.T) {
	for url, want := range map[string]bool{
		"https://hub.example.net": true, "http://hub.example.net": false, "http://10.0.0.7:8070": false, "http://0.0.0.0": false,
		"http://localhost:8070": true, "http://LOCALHOST": true, "http://127.0.0.1:8070": true, "http://127.8.9.10": true,
		"http://[::1]:8070": true, "http://[::ffff:127.0.0.1]": true, "http://[2001:db8::7]": false, "http://localhost.example.net": false,
	} {
		for _, with := range []statehub.Config{{Token: "t"}, {TokenEnv: "T"}, {TokenFile: "/t"}} {
			with.URL = url
			err := with.Validate()
			if got := err == nil; got != want {
				t.Errorf("%v: got %v, want allowed: %v", with, err, want)
			}
			if err != nil && !strings.Contains(sandboxer.Hint(err), "plain_http") {
				t.Errorf("%v: the hint is %q", err, sandboxer.Hint(err))
			}
			with.PlainHTTP = true
			if err := with.Validate(); err != nil {
				t.Errorf("%v, with PlainHTTP: %v", with, err)
			}
		}
		if err := (statehub.Config{URL: url}).Validate(); err != nil {
			t.Errorf("%s without a token: %v", url, err)
		}
	}
}

func TestDelivery(t *testing.T) {
	cfg, err := statehub.ParseConfig("hub.yaml", []byte("url: https://h\ngive_up: -1s\nflush: 5s\nregister: off\n"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Register != statehub.RegisterOff { // off is no truth value
		t.Errorf("register is %q", cfg.Register)
	}
	want := sandboxer.Delivery{GiveUp: sandboxer.Duration(-time.Second), Flush: sandboxer.Duration(5 * time.Second)}
	if diff := cmp.Diff(want, cfg.Delivery()); diff != "" {
		t.Errorf("delivery (-want +got):\n%s", diff)
	}
}

// TestNewProblems are those that need more than the configuration.
func TestNewProblems(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "empty.pem"), "nothing\n")
	for name, test := range map[string]struct {
		cfg  statehub.Config
		want string
	}{
		"invalid":        {statehub.Config{}, "url: is required"},
		"token":          {statehub.Config{URL: "https://h", Token: "S3CRET\r\nHost: x"}, "token: holds characters that a token cannot have"},
		"two tokens":     {statehub.Config{URL: "https://h", Token: "a", TokenEnv: "A"}, "token_env: is not the only place of a token"},
		"no CA file":     {statehub.Config{URL: "https://h", CAFile: filepath.Join(dir, "none.pem")}, "ca_file: open "},
		"no certificate": {statehub.Config{URL: "https://h", CAFile: filepath.Join(dir, "empty.pem")}, "ca_file: holds no certificate in PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := statehub.New(test.cfg)
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || !errors.Is(err, sandboxer.ErrInvalid) || strings.Contains(err.Error(), "S3CRET") {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

// FuzzParseConfig: a document is refused with FieldErrors, or is good for New.
func FuzzParseConfig(f *testing.F) {
	for _, seed := range []string{
		"url: https://hub.example.net\n", "{\"url\": \"http://[::1]:80/a%20b\"}", "url: https://h\nheaders: {X-A: b}\nfields: {a: b}\nshape: progress\n",
		"url: https://h\npaths: {events: /a%2fb}\ntimeout: 1s\ntoken_env: A\n", "url: http://h\ntoken_file: ~/t\nplain_http: true\n", "{\"url\": \"\\ud83d\\ude00\"}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, document string) {
		cfg, err := statehub.ParseConfig("hub.yaml", []byte(document))
		if err != nil {
			if _, ok := errors.AsType[*sandboxer.FieldError](err); !ok {
				t.Fatalf("%v is no *FieldError", err)
			}
			return
		}
		again, err := statehub.ParseConfig("hub.yaml", []byte(document))
		if diff := cmp.Diff(cfg, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Fatalf("parsed again: %v\n%s", err, diff)
		}
		if cfg.CAFile = ""; cfg.Validate() != nil {
			t.Fatalf("what was parsed is not valid: %v", cfg.Validate())
		}
		s, err := statehub.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}
