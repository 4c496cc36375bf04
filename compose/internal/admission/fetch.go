package admission

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sand-boxer/sandboxer/internal/allowlist"
)

// What a Dockerfile adds by URL is fetched by the engine from the host's own
// network, also where the build has none. So an ADD may name neither an
// address in there nor one that variables decide: a base image can set them.

// maxDockerfiles bounds the different Dockerfiles of a compose file, in bytes.
const maxDockerfiles = 1 << 20

// fetches refuses the ADDs of a build that may lead into the host's network.
func (j *judge) fetches(at attr, out *build) {
	if j.Tree == nil {
		return
	}
	text, problem := j.readDockerfile(out)
	if problem != "" {
		j.deny("BUILD-DOCKERFILE", at.at("dockerfile"), problem, "make it a text of ordinary size")
		return
	}
	problems, known := j.added[text]
	if !known {
		if j.looked += len(text); j.looked > maxDockerfiles {
			j.deny("BUILD-DOCKERFILE", at.at("dockerfile"), fmt.Sprintf("holds, with those of other services, more than %d bytes", maxDockerfiles), "make Dockerfiles smaller, or let services share them")
			return
		}
		for _, source := range added(text) {
			if problem := ledInside(source); problem != "" {
				problems = append(problems, fmt.Sprintf("adds %s, %s", source, problem))
			}
		}
		j.added[text] = problems
	}
	for _, problem := range problems {
		j.grant("BUILD-FETCH", at, problem)
	}
}

// A reading is how a builder may part a Dockerfile into instructions. Versions
// differ, and a directive or a here-document changes the rules: what any of
// them takes for an ADD counts as one.
type reading struct {
	escape   string // what continues a line
	doubled  bool   // it does so also after another one
	indented bool   // a comment may be indented
}

func readings() (all []reading) {
	for _, escape := range []string{`\`, "`"} {
		for _, doubled := range []bool{false, true} {
			all = append(all, reading{escape, doubled, false}, reading{escape, doubled, true})
		}
	}
	return all
}

// added lists what the ADDs of a Dockerfile take, each once.
func added(dockerfile string) (sources []string) {
	seen := map[string]bool{}
	for _, r := range readings() {
		for _, instruction := range r.instructions(dockerfile) {
			for _, source := range sourcesOf(instruction) {
				if !seen[source] {
					seen[source] = true
					sources = append(sources, source)
				}
			}
		}
	}
	return sources
}

// instructions joins continued lines. Lines of here-documents are taken for
// instructions too: where one ends, so does what they seem to be.
func (r reading) instructions(dockerfile string) (all []string) {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimPrefix(dockerfile, "\ufeff")) {
		line = strings.TrimRight(line, "\r\n")
		bare := strings.TrimSpace(line)
		if bare == "" || line[0] == '#' || r.indented && bare[0] == '#' {
			continue
		}
		text, continued := r.continues(line)
		b.WriteString(text)
		if !continued {
			all = append(all, b.String())
			b.Reset()
		}
	}
	return append(all, b.String())
}

func (r reading) continues(line string) (text string, ok bool) {
	text, ok = strings.CutSuffix(strings.TrimRight(line, " \t"), r.escape)
	if !ok || !r.doubled && strings.HasSuffix(text, r.escape) {
		return line, false
	}
	return text, true
}

// hiddenEnd matches a here-document whose last line would continue on the next one.
var hiddenEnd = regexp.MustCompile("<<-?[^<\\s]*[\\\\`][\"']*(\\s|$)")

// sourcesOf lists what an ADD takes, in any of its forms; of another
// instruction, only a here-document that would hide what follows it.
func sourcesOf(instruction string) []string {
	if strings.Contains(instruction, "<<") {
		if end := hiddenEnd.FindString(instruction); end != "" {
			return []string{strings.TrimSpace(end)}
		}
	}
	if first := strings.TrimSpace(instruction); first == "" || !strings.ContainsRune("aAoO", rune(first[0])) {
		return nil
	}
	words := strings.Fields(instruction)
	for len(words) > 0 && strings.EqualFold(words[0], "ONBUILD") {
		words = words[1:]
	}
	if len(words) < 2 || !strings.EqualFold(words[0], "ADD") {
		return nil
	}
	sources := words[1 : len(words)-1]
	if rest := strings.Join(words[1:], " "); strings.HasSuffix(rest, "]") {
		parts := strings.FieldsFunc(rest, func(c rune) bool { return c == '"' || c == ',' || c == ' ' || c == ']' })
		sources = append(sources[:len(sources):len(sources)], parts[:max(0, len(parts)-1)]...)
	}
	return sources
}

// The beginnings by which builders tell a URL from a file.
var remoteBeginnings = []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"}

var (
	scpAddress = regexp.MustCompile(`^[^/:@]+@([^/:]+):`)
	withScheme = regexp.MustCompile(`^[a-z]+://`)
	unquoted   = strings.NewReplacer(`"`, "", `'`, "", `\`, "", "`", "")
)

// ledInside says why a source of an ADD may be fetched from the host's
// network, "" if it is a file or a public address.
func ledInside(source string) string {
	if !strings.ContainsAny(source, `$@:\<`) {
		return "" // as most are
	}
	if strings.Contains(source, "<<") {
		return "a here-document whose end cannot be told"
	}
	if strings.Contains(source, `\u`) {
		return "whose characters are written as numbers"
	}
	source = strings.ToLower(strings.TrimLeft(unquoted.Replace(source), "["))
	if known, _, ok := strings.Cut(source, "$"); ok && decidesHost(known) {
		return "which is known only when variables are replaced"
	}
	host := ""
	if m := scpAddress.FindStringSubmatch(source); m != nil {
		host = m[1]
	} else if withScheme.MatchString(source) {
		known, _, _ := strings.Cut(source, "$") // the host is before
		u, err := url.Parse(known)
		if err != nil {
			return "which is no URL that can be read"
		}
		host = u.Hostname()
	} else {
		return ""
	}
	if !isPublic(host) {
		return "which the engine would fetch from inside the host's network"
	}
	return ""
}

// decidesHost reports whether what follows a text may be a part of a URL's host.
func decidesHost(text string) bool {
	for _, beginning := range remoteBeginnings {
		if strings.HasPrefix(beginning, text) {
			return true
		}
	}
	if scheme := withScheme.FindString(text); scheme != "" {
		return !strings.Contains(text[len(scheme):], "/")
	}
	return strings.Contains(text, "@") && !strings.ContainsAny(text, "/:")
}

var hostNumber = regexp.MustCompile(`(^|\.)(\d+|0x[0-9a-f]*)$`)

// isPublic reports whether a host is a public address, or a name that looks
// like one of the public name system; some resolvers take numbers of any form
// for addresses.
func isPublic(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if a, err := netip.ParseAddr(host); err == nil {
		return allowlist.Public(a)
	}
	for _, c := range []byte(host) {
		if c >= 0x80 || c == '%' {
			return false
		}
	}
	dot := strings.LastIndexByte(host, '.')
	return dot > 0 && !hostNumber.MatchString(host) && !slices.Contains(ownDomains, host[dot+1:])
}

// ownDomains are top-level domains that no public name is in.
var ownDomains = []string{"internal", "local", "localdomain", "localhost"}
