package sshconfig

import (
	"cmp"
	"strings"
)

// matchHost reports whether a Host line is for the host asked for. A negated
// pattern that matches excludes it.
func (r *resolver) matchHost(l line) (bool, error) {
	if len(l.args) == 0 {
		return false, l.bad("has no pattern")
	}
	return anyOf(l.args, r.query.Alias), nil
}

func anyOf(patterns []string, name string) bool {
	matched := false
	for _, p := range patterns {
		p, negated := strings.CutPrefix(p, "!")
		if !like(p, name) {
			continue
		}
		if negated {
			return false
		}
		matched = true
	}
	return matched
}

// like matches "*" and "?" in pattern. When a character does not fit, the last
// "*" takes one more.
func like(pattern, name string) bool {
	star, next, p := -1, 0, 0
	for n := 0; n < len(name); {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, next = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p, n = p+1, n+1
		case star >= 0:
			next++
			p, n = star+1, next
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// match reports whether all criteria of a Match line hold. One that cannot be
// judged is refused, unless one before it has failed.
func (r *resolver) match(l line) (bool, error) {
	words := strings.Fields(strings.ReplaceAll(strings.Join(l.args, " "), "=", " "))
	if len(words) == 0 {
		return false, l.bad("has no criterion")
	}
	holds := true
	for len(words) > 0 {
		criterion, negated := strings.CutPrefix(strings.ToLower(words[0]), "!")
		words = words[1:]
		switch criterion {
		case "all":
			holds = holds && !negated
			continue
		case "canonical": // no name is made canonical
			holds = holds && negated
			continue
		}
		value, known := r.subject(criterion)
		if !known && holds {
			return false, l.bad("%s cannot be judged here (all, host, originalhost, user and localuser can): put the host under Host lines before it, or into a file of its own", criterion)
		}
		if !known {
			return false, nil
		}
		if len(words) == 0 {
			return false, l.bad("%s has no pattern", criterion)
		}
		patterns := words[0]
		if strings.HasSuffix(criterion, "host") {
			patterns = strings.ToLower(patterns)
		}
		holds = holds && anyOf(strings.Split(patterns, ","), value) != negated
		words = words[1:]
	}
	return holds, nil
}

// subject returns what a criterion is about, as far as it is known.
func (r *resolver) subject(criterion string) (value string, known bool) {
	switch criterion {
	case "host":
		return strings.ToLower(cmp.Or(r.found.HostName, r.query.Alias)), true
	case "originalhost":
		return strings.ToLower(r.query.Alias), true
	case "user":
		return cmp.Or(r.query.User, r.found.User, r.account.Username), true
	case "localuser":
		return r.account.Username, true
	}
	return "", false
}
