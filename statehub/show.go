package statehub

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// String says which hub it is and where the token comes from.
func (c Config) String() string {
	c = c.withDefaults()
	return fmt.Sprintf("State Hub %s (%s, %s)", bareURL(c.URL), c.Shape, c.tokenPlace())
}

// Format prints String, whatever the verb: all others would print the fields.
func (c Config) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue implements [slog.LogValuer].
func (c Config) LogValue() slog.Value {
	c = c.withDefaults()
	return slog.GroupValue(slog.String("url", bareURL(c.URL)), slog.String("shape", string(c.Shape)), slog.String("token", c.tokenPlace()))
}

// tokenPlace does not name the variable: it may be a token in the wrong place.
func (c Config) tokenPlace() string {
	switch {
	case c.Token != "":
		return "token given"
	case c.TokenEnv != "":
		return "token from token_env"
	case c.TokenFile != "":
		return "token from token_file"
	}
	return "no token"
}

// bareURL is a URL without what may be secret in it.
func bareURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(not a URL)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// oneLine is a text from outside as one line of printable characters.
func oneLine(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }), " ")
}

// cut shortens valid UTF-8 to at most limit bytes, and shows that it did.
func cut(text string, limit int) string {
	const dots = "…"
	if len(text) <= limit {
		return text
	}
	end := limit - len(dots)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + dots
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
