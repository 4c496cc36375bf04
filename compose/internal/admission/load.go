package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	"github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
)

// loaded is what compose-go made of the file: every variable replaced,
// everything merged, profiles applied, paths as they were written.
type loaded struct {
	*types.Project
	env map[string]string // what variables were looked up in
}

// load reads the compose file of req. The result is nil if there is nothing
// to judge any further; why is in the report.
func load(ctx context.Context, req Request, f *files, r *report) *loaded {
	root, err := os.MkdirTemp("", "sandboxer-")
	if err != nil {
		f.err = err
		return nil
	}
	defer os.RemoveAll(root)
	f.root, f.projectDir = root, req.ProjectDir
	_, f.hasPWD = req.Env["PWD"]
	env := f.dotEnv(&req)
	main := f.collect(req.File, env)
	if main == nil || f.err != nil {
		return nil
	}
	text, ok := f.write(main)
	if !ok {
		return nil
	}
	reportExtras(main, r)
	for _, s := range req.Skipped {
		r.rewrite("SPECIAL-FILE", attr{s.Path}, s.Reason+" and is not copied to the host")
	}
	for _, name := range overrideFiles(req.ProjectDir) {
		if at, _ := stat(req.Tree, name); at != missing && name != req.File {
			r.rewrite("OVERRIDE", attr{name}, "")
		}
	}
	l := &loading{files: f, report: r, request: req, text: text, env: env}
	gap := r.denied() // what was refused already may make the rest inconsistent
	p, err := l.load(ctx, !gap)
	if err != nil && !gap {
		l.deny(err)
		p, err = l.load(ctx, false)
	}
	if err != nil {
		return nil
	}
	l.reportFindings(p)
	return &loaded{Project: p.WithoutUnresolvedOptionalDependencies(), env: env}
}

// reportExtras names what is dropped without being judged.
func reportExtras(main *source, r *report) {
	for _, c := range children(main.root) {
		switch {
		case strings.HasPrefix(c.key.Value, "x-"):
			r.rewrite("XEXT", attr{c.key.Value}, "")
		case c.key.Value == "name":
			r.rewrite("PROJECT-NAME", attr{"name"}, "")
		}
	}
}

// loading is one use of compose-go.
type loading struct {
	files   *files
	report  *report
	request Request
	text    []byte
	env     map[string]string

	expansion   *expansion
	ports       *portRanges
	unsupported []loader.UnsupportedAttribute
}

// load runs the loader. Consistency is what refers to what; without it, the
// rest of a file that refers to nothing can still be judged.
func (l *loading) load(ctx context.Context, consistent bool) (p *types.Project, err error) {
	defer func() {
		if broken := recover(); broken != nil {
			p, err = nil, fmt.Errorf("cannot be understood: %v", broken)
		}
	}()
	l.expansion, l.ports = newExpansion(), &portRanges{}
	dir := filepath.Join(l.files.root, "tree", filepath.FromSlash(l.request.ProjectDir))
	details := types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(l.files.root, "tree", filepath.FromSlash(l.request.File)), Content: l.text}},
		Environment: maps.Clone(l.env),
	}
	p, err = loader.LoadWithContext(ctx, details, func(o *loader.Options) {
		o.SetProjectName(l.request.project(), true)
		o.Profiles = l.request.Profiles
		o.ResolvePaths = false
		o.SkipResolveEnvironment, o.SkipResolveLabels = true, true
		o.SkipConsistencyCheck = !consistent
		o.PruneUnnecessaryResources = true
		o.MaxNodeVisits = 2 * maxExpanded
		o.Interpolate.Substitute = l.expansion.substitute
		o.Interpolate.TypeCastMapping = l.casts(o.Interpolate.TypeCastMapping)
	}, loader.WithSupportedAttributes(supportedAttributes(), func(found []loader.UnsupportedAttribute) { l.unsupported = found }))
	if err == nil && l.expansion.spent {
		err = errExpansion
	}
	l.report.unset, l.report.hollow = l.expansion.unset, l.expansion.hollow
	return p, err
}

var supportedAttributes = sync.OnceValue(supported)

// casts adds the bound on port ranges to the loader's conversions, and keeps
// those from writing to the process-wide log. What no key of the text can match
// is left out: the loader compares every value of a file with every path here,
// which took a fifth of the time of a large one.
func (l *loading) casts(own map[tree.Path]interpolation.Cast) map[tree.Path]interpolation.Cast {
	casts := make(map[tree.Path]interpolation.Cast, len(own)+2)
	for p, cast := range own {
		casts[p] = quietBoolean(cast)
	}
	for _, section := range []string{"services", "jobs"} {
		each := tree.NewPath(section, tree.PathMatchAll)
		casts[each.Next("ports").Next(tree.PathMatchList)] = l.ports.cast
		for attribute := range strings.FieldsSeq(lateBooleans) {
			casts[tree.Path(string(each)+"."+attribute)] = func(value string) (any, error) { return plainBoolean(value), nil }
		}
	}
	keys := l.files.keys()
	if len(l.files.sources) == 0 {
		keys = canonicalKeys()
	}
	maps.DeleteFunc(casts, func(p tree.Path, _ interpolation.Cast) bool {
		return slices.ContainsFunc(p.Parts(), func(part string) bool {
			return part != tree.PathMatchAll && part != tree.PathMatchList && !keys[part]
		})
	})
	return casts
}

// lateBooleans have no conversion among the loader's: it converts them when it
// fills its structures, and logs yes and no there.
const lateBooleans = "attach build.no_cache build.privileged build.pull env_file.[].required post_start.[].privileged " +
	"pre_stop.[].privileged volumes.[].bind.create_host_path pre_start.[].env_file.[].required " +
	"pre_start.[].volumes.[].bind.create_host_path pre_start.[].per_replica"

// quietBoolean hands true and false to a conversion that logs yes and no.
func quietBoolean(cast interpolation.Cast) interpolation.Cast {
	return func(value string) (any, error) {
		if v, err := cast(plainBoolean(value)); err == nil && reflect.TypeOf(v).Kind() == reflect.Bool {
			return v, nil
		}
		return cast(value)
	}
}

// plainBoolean writes what compose-go takes for true or false as that.
func plainBoolean(value string) string {
	switch strings.ToLower(value) {
	case "y", "yes", "on":
		return "true"
	case "n", "no", "off":
		return "false"
	}
	return value
}

// The bounds of port ranges, before compose-go makes an entry of each port.
const (
	maxPortRange = 64
	maxPorts     = 1024 // in the whole file
)

type portRanges struct {
	total   int
	refused []string
}

// bareIPv6 matches ports on an IPv6 address without its brackets, which
// compose takes and this version of its library does not.
var bareIPv6 = regexp.MustCompile(`^([0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f]*):([0-9-]*:[0-9-]+(?:/[a-z]+)?)$`)

var portSpan = regexp.MustCompile(`(\d+)-(\d+)`)

// cast bounds the short form of ports, with its variables replaced. A range
// that is refused is replaced by one port, so that the rest can be judged.
func (p *portRanges) cast(value string) (any, error) {
	if m := bareIPv6.FindStringSubmatch(value); m != nil {
		value = "[" + m[1] + "]:" + m[2]
	}
	widest := 1
	for _, m := range portSpan.FindAllStringSubmatch(value, -1) {
		from, _ := strconv.Atoi(m[1])
		to, _ := strconv.Atoi(m[2])
		widest = max(widest, to-from+1)
	}
	if p.total += min(widest, maxPortRange); widest > maxPortRange || p.total > maxPorts {
		p.refused = append(p.refused, value)
		return "1", nil
	}
	return value, nil
}

// reportFindings turns what the loader noticed on its way into findings.
func (l *loading) reportFindings(p *types.Project) {
	var texts, users map[string]attr
	if len(l.ports.refused)+len(l.report.unset) > 0 {
		texts, users = l.files.index()
	}
	for _, value := range l.ports.refused {
		at := texts[value]
		if at == nil {
			at = attr{"services"}
		}
		l.report.deny("PORT-RANGE", at, fmt.Sprintf("lists more than %d ports: %s", maxPortRange, value))
	}
	for _, name := range slices.Sorted(maps.Keys(l.report.unset)) {
		l.report.rewrite("VARIABLE", users[name], fmt.Sprintf("%s is not set and stands for nothing: declare it as an input of the profile, or set it in .env", name))
	}
	for _, u := range l.unsupported {
		at := located(u.Path)
		if l.active(p, at) && !l.provided(p, at) {
			l.refuse(at, u.Value)
		}
	}
}

// located is where a path of the loader leads. The loader writes a dot of a
// key as another character, so that dots part keys.
func located(p tree.Path) attr {
	dot := strings.TrimPrefix(string(tree.NewPath("x").Next(".")), "x.")
	at := attr(p.Parts())
	for i := range at {
		at[i] = strings.ReplaceAll(at[i], dot, ".")
	}
	return at
}

// active reports whether something that runs uses the attribute.
func (l *loading) active(p *types.Project, at attr) bool {
	if len(at) < 2 {
		return true
	}
	used := true
	switch at[0] {
	case "services":
		_, used = p.Services[at[1]]
	case "networks":
		_, used = p.Networks[at[1]]
	case "volumes":
		_, used = p.Volumes[at[1]]
	case "secrets":
		_, used = p.Secrets[at[1]]
	case "configs":
		_, used = p.Configs[at[1]]
	}
	return used
}

// provided reports whether the attribute is of a secret that the profile
// provides, wherever the file wants it from.
func (l *loading) provided(p *types.Project, at attr) bool {
	return len(at) > 1 && at[0] == "secrets" && l.request.Policy.provides(at[1], p.Secrets[at[1]]) != ""
}

// refuse reports an attribute by the rule that refuses it, unless its value
// asks for nothing; and what the containers below pre_start ask for as well.
func (l *loading) refuse(at attr, value any) {
	if isZero(value) {
		return
	}
	id := "UNKNOWN"
	for _, r := range rulesFor(at) {
		if r.refusesPresence() {
			id = r.ID
		}
	}
	l.report.deny(id, itemised(at), "")
	if id != "PRE-START" {
		return
	}
	hooks, _ := value.([]any)
	for i, h := range hooks {
		spec, _ := h.(map[string]any)
		for key, v := range spec {
			for _, r := range rulesFor(attr{"services", at[1], key}) {
				if r.refusesPresence() && !isZero(v) {
					l.report.deny(r.ID, at.item(i).at(key), "")
				}
			}
		}
	}
}

// itemised writes the "[]" of a list as the list itself: which item it was is not known.
func itemised(at attr) attr {
	return slices.DeleteFunc(slices.Clone(at), func(part string) bool { return part == tree.PathMatchList })
}

// isZero reports whether a value of the model asks for nothing.
func isZero(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	case string:
		return v == ""
	}
	return reflect.ValueOf(value).IsZero()
}

// deny reports why the loader refused, each reason by itself.
func (l *loading) deny(err error) {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range many.Unwrap() {
			l.deny(e)
		}
		return
	}
	text := l.files.plainly(err.Error())
	at := l.attribute(text)
	var required *template.MissingRequiredError
	var invalid *template.InvalidTemplateError
	switch {
	case errors.As(err, &invalid):
		l.report.deny("LOAD", at, fmt.Sprintf("has a variable that cannot be read: %s", invalid.Template), "write $$ for a literal $")
	case errors.As(err, &required):
		text = fmt.Sprintf("requires the variable %s", required.Variable)
		if required.Reason != "" {
			text += ": " + required.Reason
		}
		l.report.deny("LOAD", at, text, "declare it as an input of the profile, or set it in .env")
	default:
		text = strings.Join(strings.Fields(strings.TrimSuffix(text, ": invalid compose project")), " ")
		if _, rest, ok := strings.Cut(text, at.dotted()+" "); ok && strings.HasPrefix(text, "validating ") {
			text = rest
		}
		if text == "false schema" {
			l.report.deny("LOAD", at, "is no attribute of the Compose Specification", "check its spelling and indentation")
			return
		}
		l.report.deny("LOAD", at, strings.Replace(text, "must be a array", "must be a list", 1))
	}
}

var (
	attributeInText = regexp.MustCompile(`(?:services|networks|volumes|secrets|configs|jobs|models|include)\.[\w.\-\[\]]+`)
	serviceInText   = regexp.MustCompile(`service "?([\w.-]+)"?`)
	specInText      = regexp.MustCompile(`^invalid spec: (.*): [^:]*$`)
)

// attribute finds the attribute that one of compose-go's messages is about.
func (l *loading) attribute(text string) attr {
	if m := attributeInText.FindString(text); m != "" {
		var at attr
		for part := range strings.SplitSeq(strings.Trim(m, "."), ".") {
			if n, err := strconv.Atoi(part); err == nil {
				part = fmt.Sprintf("[%d]", n)
			}
			if part != tree.PathMatchList {
				at = append(at, part)
			}
		}
		return at
	}
	if m := serviceInText.FindStringSubmatch(text); m != nil {
		return attr{"services", m[1]}
	}
	if m := specInText.FindStringSubmatch(text); m != nil {
		return l.files.find(func(_ attr, written string) bool { return l.replaced(written) == m[1] })
	}
	return nil
}

// replaced is a text with its variables replaced.
func (l *loading) replaced(text string) string {
	text, _ = l.expansion.substitute(text, func(name string) (string, bool) {
		v, ok := l.env[name]
		return v, ok
	})
	return text
}
