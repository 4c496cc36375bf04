package admission

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/template"
)

// maxExpansion bounds the bytes that variables may add while a file is read:
// a few lines that refer to one another double with each line. It bounds the
// work as well, counted in bytes looked at: compose-go's templates read the
// whole line again for every variable in braces, over a minute for 140 KB of
// them, and every variable costs about as much as a short line.
const (
	maxExpansion = 4 << 20
	variableCost = 256
)

var errExpansion = errors.New("has more variables than can be replaced")

// expansion looks variables up for compose-go's templates within a budget,
// and in a way that makes it write nothing to the process-wide log.
type expansion struct {
	left, work int
	spent      bool              // a budget was exceeded, values are empty from then on
	unset      map[string]bool   // variables without value or default, by name
	hollow     map[string]string // texts that had one, as they are without it, and its name
	missing    string            // the last of them in the text at hand
	bare       map[string]bool   // texts that stand alone on a line of an env file; true if one was looked up as a name, in vain
}

func newExpansion() *expansion {
	return &expansion{left: maxExpansion, work: maxExpansion, unset: map[string]bool{}, hollow: map[string]string{}, bare: map[string]bool{}}
}

// affords reports whether the templates in a text can be worked through.
func (e *expansion) affords(text string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		e.work -= strings.Count(line, "${")*len(line) + strings.Count(line, "$")*variableCost
	}
	e.spent = e.spent || e.work < 0
	return !e.spent
}

var operator = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:?[-?+])`)

// mapping wraps a lookup for one template. A plain $NAME that is unset would
// be logged, so it is found to be empty; ${NAME-x}, ${NAME?x} and ${NAME+x}
// tell unset from empty and get the truth. A text that has both of one name is
// logged about all the same, where the template is compose-go's own: in env files.
func (e *expansion) mapping(text string, lookup template.Mapping) template.Mapping {
	handled, strict := map[string]bool{}, map[string]bool{}
	for _, m := range operator.FindAllStringSubmatch(text, -1) {
		handled[m[1]] = true
		if !strings.HasPrefix(m[2], ":") {
			strict[m[1]] = true
		}
	}
	return func(name string) (string, bool) {
		v, ok := lookup(name)
		if _, alone := e.bare[name]; alone && !ok {
			e.bare[name] = true
			return "", false
		}
		if !ok {
			if !handled[name] {
				e.unset[name], e.missing = true, name
			}
			return "", !strict[name]
		}
		// a value that has a $ left in it is looked through with the text that it comes to stand in
		e.left, e.work = e.left-len(v), e.work-strings.Count(v, "$")*variableCost
		if e.left < 0 || e.work < 0 {
			e.spent = true
			return "", true
		}
		return v, true
	}
}

// substitute replaces compose-go's function of that name.
func (e *expansion) substitute(text string, lookup template.Mapping) (string, error) {
	if !strings.Contains(text, "$") {
		return text, nil
	}
	if !e.affords(text) {
		return "", errExpansion
	}
	e.missing = ""
	out, err := template.SubstituteWithOptions(text, e.mapping(text, lookup), template.WithoutLogging)
	if known, ok := e.hollow[out]; e.missing != "" && (!ok || e.missing < known) {
		e.hollow[out] = e.missing
	}
	return out, err
}

// readEnv parses an env file of the tree into vars. Variables are looked up
// in env first, then among those read before, as compose does.
func (f *files) readEnv(p string, where place, at attr, vars, env map[string]string) bool {
	return f.envs.read(p, at, "", vars, func(name string) (string, bool) {
		v, ok := env[name]
		return v, ok
	})
}

// envFiles reads the env files of one compose file. What they hold, and what
// becomes of it, is bounded in sum: a file costs each service that names it.
type envFiles struct {
	tree   Tree
	report *report
	spent  int
	err    error // what kept the tree from being read
}

// read reports what is wrong with a file and whether it was read.
func (f *envFiles) read(p string, at attr, format string, vars map[string]string, lookup func(string) (string, bool)) bool {
	r := f.report
	deny := func(id, message string, line int) bool {
		var hint []string
		if line > 0 {
			hint = []string{"write NAME=VALUE on each line"}
		}
		r.denyAt(id, at, place{p, line}, message, hint...)
		return false
	}
	there, e := stat(f.tree, p)
	switch {
	case there == symlink:
		return deny("ENVFILE", fmt.Sprintf("names %s, which is or passes through a symbolic link", p), 0)
	case there != file:
		return deny("ENVFILE", fmt.Sprintf("names %s, which is not a regular file of the repository", p), 0)
	case e.Size > maxFileBytes:
		return deny("ENVFILE", fmt.Sprintf("names %s, which is larger than %d bytes", p, maxFileBytes), 0)
	}
	if f.spent += int(e.Size); f.spent > maxExpansion {
		return deny("ENVFILE-BOMB", fmt.Sprintf("names %s: the env files of all services hold more than %d bytes", p, maxExpansion), 0)
	}
	text, err := f.tree.ReadFile(p, maxFileBytes)
	if err != nil {
		f.err = errors.Join(f.err, err)
		return false
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return deny("ENVFILE", fmt.Sprintf("names %s, which is not UTF-8 text", p), 0)
	}
	valueless := func(name string) {
		r.rewrite("ENV-NULL", at, fmt.Sprintf("%s, which %s names, has no value here and is not passed on", name, p))
	}
	if format == "raw" {
		return parseRaw(text, vars, lookup, valueless, deny)
	}
	x := newExpansion()
	for _, m := range bareName.FindAllStringSubmatch(string(text), -1) {
		x.bare[m[1]] = false
	}
	x.left -= f.spent
	if !x.affords(string(text)) {
		return deny("ENVFILE-BOMB", fmt.Sprintf("names %s, which %v", p, errExpansion), 0)
	}
	err = dotenv.ParseWithFormat(bytes.NewReader(text), p, vars, dotenv.LookupFn(x.mapping(string(text), func(name string) (string, bool) {
		if v, ok := lookup(name); ok {
			return v, true
		}
		v, ok := vars[name]
		return v, ok
	})), format)
	f.spent = maxExpansion - max(x.left, 0)
	switch {
	case x.spent:
		return deny("ENVFILE-BOMB", fmt.Sprintf("names %s, which expands to more than %d bytes", p, maxExpansion), 0)
	case err != nil:
		return deny("ENVFILE", fmt.Sprintf("names %s, which cannot be parsed: %s", p, strings.TrimPrefix(message(err), "failed to read "+p+": ")), lineOf(err))
	}
	for _, name := range slices.Sorted(maps.Keys(x.unset)) {
		r.rewrite("VARIABLE", at, fmt.Sprintf("%s, which %s uses, is not set and stands for nothing: declare it as an input of the profile, or set it in .env", name, p))
	}
	for _, name := range slices.Sorted(maps.Keys(x.bare)) {
		if x.bare[name] {
			valueless(name)
		}
	}
	return true
}

var bareName = regexp.MustCompile(`(?m)^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t\r]*$`)

// parseRaw reads lines of NAME=VALUE in which nothing is quoted or replaced;
// a NAME alone takes its value from the environment.
func parseRaw(text []byte, vars map[string]string, lookup func(string) (string, bool), valueless func(name string), deny func(id, message string, line int) bool) bool {
	number := 0
	for line := range strings.SplitSeq(strings.TrimPrefix(string(text), "\ufeff"), "\n") {
		number++
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, given := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return deny("ENVFILE", fmt.Sprintf("has the line %q, which is not NAME=VALUE", line), number)
		}
		if !given {
			var ok bool
			if value, ok = lookup(name); !ok {
				valueless(name)
				continue
			}
		}
		vars[name] = value
	}
	return true
}

// dotEnv reads the .env beside the compose file, and adds the declared
// inputs, which win. The compose profiles that it names are active where the
// request names none, as with plain compose.
func (f *files) dotEnv(req *Request) map[string]string {
	env, _ := withoutSteering(req.Env)
	p := path.Join(f.projectDir, ".env")
	if at, _ := stat(f.tree, p); at == missing || at == directory {
		return env
	}
	own := map[string]string{}
	if !f.readEnv(p, place{file: p}, attr{".env"}, own, env) {
		return env
	}
	if len(req.Profiles) == 0 {
		req.Profiles = strings.FieldsFunc(own[profilesVariable], func(r rune) bool { return r == ',' || r == ' ' })
		delete(own, profilesVariable)
	}
	kept, dropped := withoutSteering(own)
	f.reportSteering([]string{p}, dropped)
	for k, v := range kept {
		if _, ok := env[k]; !ok {
			env[k] = v
		}
	}
	return env
}

const profilesVariable = "COMPOSE_PROFILES"

func (f *files) reportSteering(files, names []string) {
	for _, name := range names {
		f.report.rewrite("DOTENV", attr{strings.Join(files, ", "), name}, "")
	}
}

var dotenvEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `$$`)

// dotenvText writes variables so that compose-go reads them back as they are.
func dotenvText(vars map[string]string) []byte {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		fmt.Fprintf(&b, "%s=\"%s\"\n", name, dotenvEscapes.Replace(vars[name]))
	}
	return b.Bytes()
}
