package statehub

import (
	"cmp"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/sand-boxer/sandboxer"
)

// A Config says where a State Hub is and how to speak to it. It is also the
// document hub.yaml, which holds no secret and is closed: an unknown key is an
// error. Only URL is required. However it is printed or logged, a Config shows
// neither the token nor the values of headers.
type Config struct {
	// URL is where the hub is, http or https, with a port and a path where it
	// has them. Paths are added to it. It holds no account and no query.
	URL string `json:"url"`

	// Shape is the form of an event; cloudevents if empty.
	Shape Shape `json:"shape,omitempty"`

	// Source is the source attribute of CloudEvents, a URI reference. Two
	// installations that share a hub differ in it. "/sandboxer" if empty.
	Source string `json:"source,omitempty"`

	// Paths are where the hub takes what is sent.
	Paths Paths `json:"paths,omitzero"`

	// Headers are added to every request, for gateways. Those that belong to
	// the request itself, such as Authorization and Content-Type, are refused.
	Headers map[string]string `json:"headers,omitempty"`

	// Fields are added to every event of shape progress, at the top, such as
	// topic_slug. They cannot replace a field of the event.
	Fields map[string]string `json:"fields,omitempty"`

	// TokenEnv is the name of the environment variable that holds the bearer
	// token. It is read for every request.
	TokenEnv string `json:"token_env,omitempty"`

	// TokenFile is the file that holds the bearer token and nothing else but
	// white space around it; absolute, or below "~/". It is read for every
	// request, so that a token can be replaced at any time.
	TokenFile string `json:"token_file,omitempty"`

	// CAFile is a file of certificates in PEM that are trusted beside those of
	// the system; absolute, or below "~/". It is read once, by New.
	CAFile string `json:"ca_file,omitempty"`

	// Timeout bounds one request, at most 15s: an event takes two, and is
	// offered for 30s at a time. 10s if zero.
	Timeout sandboxer.Duration `json:"timeout,omitempty"`

	// Register says whether sandboxes are registered; auto if empty.
	Register Register `json:"register,omitempty"`

	// PlainHTTP allows that the token is sent unencrypted to another machine.
	// Without it, a token and an http address that is not loopback are an error.
	PlainHTTP bool `json:"plain_http,omitempty"`

	// GiveUp is the age from which an event that the hub does not take becomes
	// a dead letter. 72h if zero; negative is never.
	GiveUp sandboxer.Duration `json:"give_up,omitempty"`

	// Flush is the longest that closing a client spends on delivering what is
	// due. 2s if zero; negative is not at all.
	Flush sandboxer.Duration `json:"flush,omitempty"`

	// Token is the bearer token, for programs that keep it themselves. At most
	// one of Token, TokenEnv and TokenFile is set; without any, none is sent.
	Token string `json:"-"`

	// Logger; nil is silent. Every line about a sandbox names it.
	Logger *slog.Logger `json:"-"`
}

// Paths are added to the URL of a hub. Each begins with a slash.
type Paths struct {
	Events    string `json:"events,omitempty"`    // takes events of shape cloudevents; /v1/events if empty
	Progress  string `json:"progress,omitempty"`  // takes events of shape progress; /progress if empty
	Sandboxes string `json:"sandboxes,omitempty"` // takes registrations, at the sandbox's id below it; /v1/sandboxes if empty
}

// Shape is the form in which events are sent.
type Shape string

// The shapes.
const (
	ShapeCloudEvents Shape = "cloudevents" // CloudEvents 1.0, structured mode
	ShapeProgress    Shape = "progress"    // a flat progress event with the sandbox's event as its detail
)

// Register says whether sandboxes are registered at the hub.
type Register string

// The two ways.
const (
	RegisterAuto Register = "auto" // with every event, until the hub answers that it has no registration
	RegisterOff  Register = "off"  // events only
)

const (
	defaultTimeout = sandboxer.Duration(10 * time.Second)
	maxTimeout     = sandboxer.Duration(15 * time.Second)
)

// ParseConfig decodes and validates hub.yaml, YAML or JSON, and fills in
// defaults. Every problem is a [*sandboxer.FieldError] with file, line and
// key; they are joined. file is only named in errors.
func ParseConfig(file string, data []byte) (Config, error) {
	var c Config
	if err := sandboxer.DecodeStrict(file, data, &c); err != nil {
		return Config{}, err
	}
	c = c.withDefaults()
	var root yaml.Node
	_ = yaml.Unmarshal(data, &root) // it was decoded above; JSON that YAML cannot read has no lines
	var all []error
	for _, p := range c.problems() {
		e := p.fieldError()
		e.File, e.Line = file, lineOf(&root, p.path)
		all = append(all, p.hinted(e))
	}
	if len(all) > 0 {
		return Config{}, errors.Join(all...)
	}
	return c, nil
}

// Delivery is the part of the configuration that is for [sandboxer.Config].
func (c Config) Delivery() sandboxer.Delivery {
	return sandboxer.Delivery{GiveUp: c.GiveUp, Flush: c.Flush}
}

func (c Config) withDefaults() Config {
	c.Shape = cmp.Or(c.Shape, ShapeCloudEvents)
	c.Source = cmp.Or(c.Source, "/sandboxer")
	c.Paths.Events = cmp.Or(c.Paths.Events, "/v1/events")
	c.Paths.Progress = cmp.Or(c.Paths.Progress, "/progress")
	c.Paths.Sandboxes = cmp.Or(c.Paths.Sandboxes, "/v1/sandboxes")
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.Register = cmp.Or(c.Register, RegisterAuto)
	c.TokenFile, c.CAFile = expandHome(c.TokenFile), expandHome(c.CAFile)
	return c
}

// expandHome leaves a path alone where the home directory is unknown; it is
// then refused as not absolute.
func expandHome(path string) string {
	below, ok := strings.CutPrefix(path, "~/")
	if !ok {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return path
	}
	return filepath.Join(home, below)
}

// lineOf finds a key, or the nearest that encloses it. It is 0 without a document.
func lineOf(n *yaml.Node, path []string) int {
	if n.Kind == yaml.DocumentNode {
		n = n.Content[0]
	}
	line := n.Line
	for _, key := range path {
		next := -1
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == key {
				next = i
			}
		}
		if next < 0 {
			break
		}
		line, n = n.Content[next].Line, n.Content[next+1]
	}
	return line
}
