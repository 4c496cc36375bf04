package sandboxer

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A concealment takes the values of secrets out of what is told to others:
// errors, the logs in them, progress. It knows a value also as it stands in
// quotes, URLs and base64, and its lines; it cannot know one that a program
// changed in another way, nor one shorter than minRedacted.
type concealment struct {
	replacer *strings.Replacer // nil: there is nothing to hide
}

// minLine is the length from which one line of a longer secret is hidden by itself.
const minLine = 8

func conceal(secrets map[string]Secret) concealment {
	mark := map[string]string{}
	for name, s := range secrets {
		for _, form := range forms(string(s.Reveal())) {
			mark[form] = "[secret " + name + "]"
		}
	}
	if len(mark) == 0 {
		return concealment{}
	}
	var all []string
	for form := range mark {
		all = append(all, form)
	}
	// the longest first, since one may hold another
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	var pairs []string
	for _, form := range all {
		pairs = append(pairs, form, mark[form])
	}
	return concealment{strings.NewReplacer(pairs...)}
}

// forms lists how a value may stand in a text.
func forms(value string) []string {
	trimmed := strings.TrimSpace(value)
	var all []string
	for _, v := range []string{value, trimmed} {
		quoted := strconv.Quote(v)
		encoded, _ := json.Marshal(v)
		all = append(all, v, quoted[1:len(quoted)-1], string(encoded[1:len(encoded)-1]), url.QueryEscape(v), url.PathEscape(v),
			base64.StdEncoding.EncodeToString([]byte(v)), base64.URLEncoding.EncodeToString([]byte(v)))
	}
	all = slices.DeleteFunc(all, func(form string) bool { return len(form) < minRedacted })
	for line := range strings.Lines(trimmed) {
		if line = strings.TrimSpace(line); len(line) >= minLine {
			all = append(all, line)
		}
	}
	return all
}

func (c concealment) text(s string) string {
	if c.replacer == nil {
		return s
	}
	return c.replacer.Replace(s)
}

// progress is ctx with nothing to see in the messages that go through it.
func (c concealment) progress(ctx context.Context) context.Context {
	next, ok := ctx.Value(progressKey{}).(func(Progress))
	if !ok || c.replacer == nil {
		return ctx
	}
	return WithProgress(ctx, func(p Progress) { p.Message = c.text(p.Message); next(p) })
}

// error is err if nothing in it shows a value, and otherwise one that says the
// same and matches the same sentinels.
func (c concealment) error(err error) error {
	if err == nil || c.replacer == nil || !c.shows(err) {
		return err
	}
	return &concealedError{c, err}
}

// shows looks at all that an error and those it wraps would tell.
func (c concealment) shows(err error) bool {
	told := err.Error()
	switch e := err.(type) {
	case *StageError:
		told += "\n" + e.Message + "\n" + e.Log
	case *NotReadyError:
		told += "\n" + e.State + "\n" + e.Log
	case interface{ hint() string }:
		told += "\n" + e.hint()
	}
	if c.text(told) != told {
		return true
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		inner := e.Unwrap()
		return inner != nil && c.shows(inner)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(e.Unwrap(), c.shows)
	}
	return false
}

// A concealedError does not unwrap: what is below would show the value.
type concealedError struct {
	concealment
	cause error
}

func (e *concealedError) Error() string { return e.text(e.cause.Error()) }

// Is reports whether the error behind it matches target.
func (e *concealedError) Is(target error) bool { return errors.Is(e.cause, target) }

// As finds a StageError or NotReadyError, concealed as well, or which bound ran out.
func (e *concealedError) As(target any) bool {
	switch t := target.(type) {
	case **StageError:
		var stage *StageError
		if !errors.As(e.cause, &stage) {
			return false
		}
		*t = &StageError{Stage: stage.Stage, ExitCode: stage.ExitCode, Message: e.text(stage.Message), Log: e.text(stage.Log)}
	case **NotReadyError:
		var notReady *NotReadyError
		if !errors.As(e.cause, &notReady) {
			return false
		}
		*t = &NotReadyError{Service: notReady.Service, State: e.text(notReady.State), Log: e.text(notReady.Log), TimedOut: notReady.TimedOut}
	case **boundError:
		return errors.As(e.cause, t)
	default:
		return false
	}
	return true
}

func (e *concealedError) hint() string { return e.text(Hint(e.cause)) }
