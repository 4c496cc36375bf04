package admission

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// attr is the path of an attribute: keys, and items as "[0]".
type attr []string

func (a attr) String() string {
	var b strings.Builder
	for i, part := range a {
		if i > 0 && !isItem(part) {
			b.WriteByte('.')
		}
		b.WriteString(part)
	}
	return b.String()
}

// dotted is the path as compose-go writes it.
func (a attr) dotted() string {
	return strings.NewReplacer("[", "", "]", "").Replace(strings.Join(a, "."))
}

func (a attr) at(parts ...string) attr { return append(slices.Clip(a), parts...) }

func (a attr) item(i int) attr { return a.at(fmt.Sprintf("[%d]", i)) }

func (a attr) service() string {
	if len(a) > 1 && a[0] == "services" {
		return a[1]
	}
	return ""
}

func isItem(part string) bool { return strings.HasPrefix(part, "[") && strings.HasSuffix(part, "]") }

// The bounds of what is found: a file can be wrong in as many ways as it has
// values, and what is told goes into records and events.
const (
	maxFindings = 500    // told of a kind
	maxNoted    = 20_000 // kept of a kind, to choose from
	maxMessage  = 1000   // bytes of a message
)

// finding is a violation or a rewrite before it is given its place in a file.
type finding struct {
	rule    *Rule
	at      attr
	path    string // at, as text
	place   place  // known already, for what is wrong with a file itself
	message string
	hint    string
}

// place is a line of a file of the tree.
type place struct {
	file string
	line int
}

// report collects everything found about one compose file.
type report struct {
	violations, rewrites, loosened findings
	unset                          map[string]bool   // variables that stand for nothing
	hollow                         map[string]string // texts that one of them is missing in, as they are without it, and its name
}

// findings are of one kind.
type findings struct {
	noted  []finding
	beyond int // how many more there were
}

func (f *findings) count() int { return len(f.noted) + f.beyond }

func (f *findings) note(found finding) {
	if len(f.noted) == maxNoted {
		f.beyond++
		return
	}
	f.noted = append(f.noted, found)
}

// told are those to be told, each once, in the order of their paths, and how
// many there are besides.
func (f *findings) told() (told []finding, more int) {
	told = slices.Clone(f.noted)
	slices.SortStableFunc(told, func(x, y finding) int {
		return cmp.Or(strings.Compare(x.path, y.path), strings.Compare(x.rule.ID, y.rule.ID), strings.Compare(x.message, y.message))
	})
	told = slices.CompactFunc(told, func(x, y finding) bool {
		return x.path == y.path && x.rule == y.rule && x.place == y.place && x.message == y.message
	})
	listed := min(len(told), maxFindings)
	return told[:listed], len(told) - listed + f.beyond
}

// deny records a violation. The message completes "PATH …"; the rule's own
// reason is used when it is empty.
func (r *report) deny(id string, at attr, message string, hint ...string) {
	r.violations.note(newFinding(id, at, message, hint))
}

// refuse records a violation that quotes the value, in the rule's own words.
func (r *report) refuse(id string, at attr, value string) {
	r.deny(id, at, fmt.Sprintf("is %s, which %s", value, ruleByID(id).Reason))
}

// loosen records what would be a violation but for the profile.
func (r *report) loosen(id string, at attr, message string) {
	r.loosened.note(newFinding(id, at, message, nil))
}

// denyAt records what is wrong with a file itself, at that place of it.
func (r *report) denyAt(id string, at attr, where place, message string, hint ...string) {
	f := newFinding(id, at, message, hint)
	f.place = where
	r.violations.note(f)
}

func (r *report) rewrite(id string, at attr, message string) {
	r.rewrites.note(newFinding(id, at, message, nil))
}

func newFinding(id string, at attr, message string, hint []string) finding {
	rule := ruleByID(id)
	f := finding{rule: rule, at: at, path: at.String(), message: shortened(cmp.Or(message, rule.Reason)), hint: rule.Hint}
	if len(hint) > 0 {
		f.hint = hint[0]
	}
	return f
}

// shortened leaves out the middle of a long message: what it quotes may be
// thousands of bytes, and what it says of that stands at its ends.
func shortened(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage/2], "") + " … " + strings.ToValidUTF8(message[len(message)-maxMessage/2:], "")
}

func (r *report) denied() bool { return len(r.violations.noted) > 0 }

// admission orders the findings by place, drops repetitions and gives every
// violation its file and line. Of very many it tells the first and the number.
func (r *report) admission(files *files) sandboxer.Admission {
	a := sandboxer.Admission{Verdict: sandboxer.Allow, Rewrites: []sandboxer.Rewrite{}}
	a.Violations, a.Loosened = r.placed(&r.violations, files), r.placed(&r.loosened, files)
	if len(a.Loosened) == 0 {
		a.Loosened = nil
	}
	for i := range a.Loosened {
		a.Loosened[i].Hint = ""
	}
	told, more := r.rewrites.told()
	for _, f := range told {
		a.Rewrites = append(a.Rewrites, sandboxer.Rewrite{Rule: f.rule.ID, Path: f.path, Message: f.message})
	}
	if more > 0 {
		a.Rewrites = append(a.Rewrites, sandboxer.Rewrite{Rule: "MORE", Path: files.locate(nil).file, Message: fmt.Sprintf("and %d more, which are not listed", more)})
	}
	if len(a.Violations) > 0 {
		a.Verdict = sandboxer.Deny
	}
	return a
}

func variableUnset(name string) string { return fmt.Sprintf("the variable %s is not set", name) }

func declare(name string) string {
	return fmt.Sprintf("declare %s as an input of the profile, or set it in .env", name)
}

// placed gives findings their file and line, in that order and each once.
func (r *report) placed(found *findings, files *files) []sandboxer.Violation {
	out := []sandboxer.Violation{}
	told, more := found.told()
	for _, f := range told {
		where := f.place
		if where == (place{}) {
			where = files.locate(f.at)
		}
		v := sandboxer.Violation{
			Rule: f.rule.ID, Path: f.path, Service: f.at.service(), File: where.file, Line: max(where.line, 1),
			Message: files.plainly(f.message), Hint: f.hint,
		}
		if name := files.unsetIn(f.at, r.unset); name != "" && !strings.Contains(v.Message, variableUnset(name)) {
			v.Message += "; " + variableUnset(name)
			v.Hint = declare(name)
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(x, y sandboxer.Violation) int {
		return cmp.Or(strings.Compare(x.File, y.File), cmp.Compare(x.Line, y.Line), strings.Compare(x.Path, y.Path), strings.Compare(x.Rule, y.Rule))
	})
	out = slices.CompactFunc(out, func(x, y sandboxer.Violation) bool { return x.Path == y.Path && x.Rule == y.Rule && x.Path != "" })
	if more > 0 {
		rest := ruleByID("MORE")
		out = append(out, sandboxer.Violation{
			Rule: rest.ID, File: out[len(out)-1].File, Line: out[len(out)-1].Line, Message: fmt.Sprintf("and %d more, which are not listed", more), Hint: rest.Hint,
		})
	}
	return out
}
