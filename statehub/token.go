package statehub

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxToken is the longest token: servers commonly take no more in all headers.
const maxToken = 8 << 10

// isToken also keeps line breaks out of the request's header.
func isToken(text string) bool { return len(text) <= maxToken && visible.MatchString(text) }

// tokenSource returns the function that yields the token to send now, "" for
// none. The token is held by the function only, so that no way of printing a
// Sink shows it.
func (c Config) tokenSource() func() (string, error) {
	var read func() (string, error)
	switch token, file := c.Token, c.TokenFile; {
	case token != "":
		return func() (string, error) { return token, nil }
	case c.TokenEnv != "":
		name := c.TokenEnv
		read = func() (string, error) { return os.Getenv(name), nil }
	case file != "":
		read = func() (string, error) { return readStart(file, maxToken+64) }
	default:
		return func() (string, error) { return "", nil }
	}
	place := c.tokenPlace()
	return func() (string, error) {
		text, err := read()
		token := strings.TrimSpace(text)
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", place, err)
		case token == "":
			return "", fmt.Errorf("%s: %w", place, errNoToken)
		case !isToken(token):
			return "", fmt.Errorf("%s: %w", place, errNotToken)
		}
		return token, nil
	}
}

var (
	errNoToken  = errors.New("there is none: the variable is not set, or the file is empty")
	errNotToken = errors.New("it is no token: it is too long, or holds spaces or characters that a header cannot carry")
)

// readStart reads at most limit bytes of a file.
func readStart(path string, limit int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit))
	return string(text), err
}
