package sshconfig

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// A line is a keyword, in lower case, and its arguments.
type line struct {
	file    string
	number  int
	written string // the keyword as it is in the file
	keyword string
	args    []string
}

func (l line) String() string {
	return fmt.Sprintf("%s:%d: %s %s", l.file, l.number, l.written, strings.Join(l.args, " "))
}

func (l line) bad(format string, args ...any) error {
	return &sandboxer.FieldError{File: l.file, Line: l.number, Field: l.written, Reason: fmt.Sprintf(format, args...)}
}

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// readLines reads the lines of a file that say something.
func readLines(file string) ([]line, error) {
	bad := func(reason string) error { return &sandboxer.FieldError{File: file, Reason: reason} }
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ssh_config: %w", err)
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, bad("is no regular file of at most 1 MiB")
	case runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0:
		return nil, bad("anybody may write to it: chmod o-w it, and look at what it says")
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ssh_config: %w", err)
	}
	var lines []line
	for i, words := range strings.Split(string(text), "\n") {
		words = strings.Trim(words, " \t\r\f")
		if words == "" || words[0] == '#' {
			continue
		}
		keyword, rest := cutKeyword(words)
		l := line{file: file, number: i + 1, written: keyword, keyword: strings.ToLower(keyword)}
		if l.args, err = split(rest); err != nil {
			return nil, l.bad("%v", err)
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// cutKeyword takes off the keyword and what separates it: blanks, and at most
// one equals sign among them.
func cutKeyword(words string) (keyword, rest string) {
	end := strings.IndexAny(words, " \t=")
	if end < 0 {
		return words, ""
	}
	rest = strings.TrimLeft(words[end:], " \t")
	rest = strings.TrimPrefix(rest, "=")
	return words[:end], rest
}

// split cuts arguments at blanks. Quotes of either kind hold an argument
// together, a backslash takes a quote or itself as it is (a blank, too, outside
// quotes), and a "#" that begins an argument begins a comment.
func split(text string) ([]string, error) {
	var args []string
	for {
		text = strings.TrimLeft(text, " \t")
		if text == "" || text[0] == '#' {
			return args, nil
		}
		var arg strings.Builder
		quote, i := byte(0), 0
		for ; i < len(text); i++ {
			c := text[i]
			switch {
			case c == '\\' && i+1 < len(text) && escapable(text[i+1], quote):
				i++
				arg.WriteByte(text[i])
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			case quote == 0 && (c == ' ' || c == '\t'):
				goto done
			default:
				arg.WriteByte(c)
			}
		}
	done:
		if quote != 0 {
			return nil, errors.New("has a quote that is not closed")
		}
		args = append(args, arg.String())
		text = text[i:]
	}
}

func escapable(c, quote byte) bool {
	return c == '"' || c == '\'' || c == '\\' || c == ' ' && quote == 0
}
