package statehub

import (
	"errors"
	"fmt"
	"net/netip"
	"net/textproto"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// A problem is one thing wrong with a Config. Its reason does not quote what
// may be a secret in the wrong place.
type problem struct {
	path         []string // of the key: headers, X-Team
	reason, hint string
}

func (p problem) fieldError() *sandboxer.FieldError {
	return &sandboxer.FieldError{Field: strings.Join(p.path, "."), Reason: p.reason}
}

func (p problem) hinted(err error) error { return sandboxer.WithHint(err, "%s", p.hint) }

// Validate reports every problem at once, joined, each a
// [*sandboxer.FieldError]. It looks at no file and contacts nothing.
func (c Config) Validate() error {
	var all []error
	for _, p := range c.withDefaults().problems() {
		all = append(all, p.hinted(p.fieldError()))
	}
	return errors.Join(all...)
}

type problems []problem

func (p *problems) add(key, format string, args ...any) {
	*p = append(*p, problem{path: []string{key}, reason: fmt.Sprintf(format, args...)})
}

func (p *problems) addBelow(key, name, format string, args ...any) {
	*p = append(*p, problem{path: []string{key, name}, reason: fmt.Sprintf(format, args...)})
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	visible      = regexp.MustCompile(`^[!-~]+$`)
	urlPath      = regexp.MustCompile(`^/([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*$`)
	headerName   = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	headerValue  = regexp.MustCompile(`^[!-~]([ \t!-~]*[!-~])?$`)
)

// problems judges a configuration whose defaults are filled in.
func (c Config) problems() problems {
	var p problems
	c.urlProblems(&p)
	if c.Shape != ShapeCloudEvents && c.Shape != ShapeProgress {
		p.add("shape", "%q is neither %s nor %s", c.Shape, ShapeCloudEvents, ShapeProgress)
	}
	if _, err := url.Parse(c.Source); err != nil || !visible.MatchString(c.Source) {
		p.add("source", "%q is not a URI reference such as /sandboxer or https://ci.example.net/sandboxer", c.Source)
	}
	for _, path := range []struct{ name, value string }{{"events", c.Paths.Events}, {"progress", c.Paths.Progress}, {"sandboxes", c.Paths.Sandboxes}} {
		if !urlPath.MatchString(path.value) {
			p.addBelow("paths", path.name, "is not a path such as /v1/events: it begins with a slash and has no part behind ? or #")
		}
	}
	if c.Register != RegisterAuto && c.Register != RegisterOff {
		p.add("register", "%q is neither %s nor %s", c.Register, RegisterAuto, RegisterOff)
	}
	switch {
	case c.Timeout < 0:
		p.add("timeout", "is negative")
	case c.Timeout > maxTimeout:
		p.add("timeout", "is longer than %v: an event takes two requests, and is offered for 30s at a time", maxTimeout)
	}
	if c.CAFile != "" && !filepath.IsAbs(c.CAFile) {
		p.add("ca_file", "%q is neither an absolute path nor one below ~/", c.CAFile)
	}
	c.tokenProblems(&p)
	c.headerProblems(&p)
	c.fieldProblems(&p)
	return p
}

func (c Config) urlProblems(p *problems) {
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		p.add("url", "is required: write where the hub is, such as https://hub.example.net")
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || !visible.MatchString(c.URL):
		p.add("url", "is not the address of a hub: write https://hub.example.net")
	case u.User != nil:
		p.add("url", "holds an account or a password: take it out, and name the token's place with token_env or token_file")
	case strings.ContainsAny(c.URL, "?#"):
		p.add("url", "goes on behind ? or #: only scheme, host, port and path belong into it")
	case u.Port() != "" && !isPort(u.Port()):
		p.add("url", "has a port that is not between 1 and 65535")
	case u.Scheme == "http" && c.hasToken() && !c.PlainHTTP && !isLoopback(u.Hostname()):
		p.add("url", "would carry the token to another machine unencrypted")
		(*p)[len(*p)-1].hint = "use https, or set plain_http to true if the network in between is trusted"
	}
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

func (c Config) hasToken() bool { return c.Token != "" || c.TokenEnv != "" || c.TokenFile != "" }

func (c Config) tokenProblems(p *problems) {
	if c.TokenEnv != "" && !variableName.MatchString(c.TokenEnv) {
		p.add("token_env", "is not the name of an environment variable: the token itself does not belong here")
	}
	if c.TokenFile != "" && !filepath.IsAbs(c.TokenFile) {
		p.add("token_file", "is neither an absolute path nor one below ~/: the token itself does not belong here")
	}
	if c.Token != "" && !isToken(c.Token) {
		p.add("token", "holds characters that a token cannot have, or is longer than %d", maxToken)
	}
	switch {
	case c.TokenFile != "" && (c.TokenEnv != "" || c.Token != ""):
		p.add("token_file", "is not the only place of a token: keep one of token_env, token_file and Token")
	case c.TokenEnv != "" && c.Token != "":
		p.add("token_env", "is not the only place of a token: keep one of token_env and Token")
	}
}

// ownHeaders are those that the package or the connection sets.
var ownHeaders = map[string]bool{
	"Authorization": true, "Content-Type": true, "Content-Length": true, "Content-Encoding": true, "Host": true, "Connection": true, "Keep-Alive": true,
	"Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true, "Expect": true, "Idempotency-Key": true,
}

func (c Config) headerProblems(p *problems) {
	first := map[string]string{}
	for _, name := range sortedKeys(c.Headers) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case !headerName.MatchString(name):
			p.addBelow("headers", name, "is not the name of a header")
		case ownHeaders[canonical]:
			p.addBelow("headers", name, "belongs to the request itself and cannot be set")
		case first[canonical] != "":
			p.addBelow("headers", name, "is the same header as %s", first[canonical])
		case !headerValue.MatchString(c.Headers[name]):
			p.addBelow("headers", name, "is empty, or holds something other than visible ASCII characters with spaces between them")
		}
		first[canonical] = name
	}
}

func (c Config) fieldProblems(p *problems) {
	if len(c.Fields) > 0 && c.Shape == ShapeCloudEvents {
		p.add("fields", "are sent in shape %s only: set shape, or take them out", ShapeProgress)
	}
	for _, name := range sortedKeys(c.Fields) {
		if name == "" {
			p.add("fields", "holds a field without a name")
		}
		if own := progressField(name); own != "" {
			p.addBelow("fields", name, "would replace the field %s of the event", own)
		}
	}
}

// progressField is the field of a progress event that a reader may take name
// for: not every reader minds case.
func progressField(name string) string {
	t := reflect.TypeFor[progressEvent]()
	for i := range t.NumField() {
		if own, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); strings.EqualFold(own, name) {
			return own
		}
	}
	return ""
}
