package sshconfig

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// expand replaces "%h" and the like, and "%%".
func expand(text string, tokens map[byte]string) (string, error) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			out.WriteByte(text[i])
			continue
		}
		if i++; i == len(text) {
			return "", errors.New("ends with a single %: write %%")
		}
		value, known := tokens[text[i]]
		switch {
		case text[i] == '%':
			out.WriteByte('%')
		case known:
			out.WriteString(value)
		default:
			return "", fmt.Errorf("%%%c is not known here", text[i])
		}
	}
	return out.String(), nil
}

// tokens returns those of the given letters.
func (r *resolver) tokens(letters string) map[byte]string {
	h := &r.found
	all := map[byte]func() string{
		'd': func() string { return r.home },
		'h': func() string { return h.HostName },
		'i': func() string { return r.account.Uid },
		'k': func() string { return cmp.Or(h.HostKeyAlias, r.query.Alias) },
		'L': func() string { name, _, _ := strings.Cut(hostname(), "."); return name },
		'l': hostname,
		'n': func() string { return r.query.Alias },
		'p': func() string { return h.Port },
		'r': func() string { return cmp.Or(h.User, r.account.Username) },
		'u': func() string { return r.account.Username },
	}
	out := map[byte]string{}
	for _, letter := range []byte(letters) {
		out[letter] = all[letter]()
	}
	return out
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

// path expands tokens, environment variables and the home directory.
func (r *resolver) path(text string, l line) (string, error) {
	text, err := environment(text)
	if err != nil {
		return "", l.bad("%v", err)
	}
	if text, err = r.tilde(text, l); err != nil {
		return "", err
	}
	if text, err = expand(text, r.tokens("dhikLlnpru")); err != nil {
		return "", l.bad("%v", err)
	}
	if !filepath.IsAbs(text) {
		return "", l.bad("%q is neither an absolute path nor one below ~/", text)
	}
	return text, nil
}

// environment replaces "${NAME}".
func environment(text string) (string, error) {
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			return text, nil
		}
		name, after, closed := strings.Cut(rest, "}")
		value, has := os.LookupEnv(name)
		if !closed || !has {
			return "", fmt.Errorf("there is no environment variable %q", name)
		}
		if strings.Contains(value, "${") {
			return "", fmt.Errorf("the environment variable %s refers to another", name)
		}
		text = before + value + after
	}
}

func (r *resolver) tilde(text string, l line) (string, error) {
	switch {
	case strings.HasPrefix(text, "~/"):
		return filepath.Join(r.home, text[2:]), nil
	case strings.HasPrefix(text, "~"):
		return "", l.bad("%q is below the home directory of another account: write the whole path", text)
	}
	return text, nil
}
